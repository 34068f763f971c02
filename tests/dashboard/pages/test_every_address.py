"""Every address of the server, as each role, as a stranger and without an account. A new address needs a row here."""

from dataclasses import dataclass, field
from functools import partial

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse

from accounts.roles import Role
from tests import factories
from tests.dashboard.conftest import client_of

pytestmark = pytest.mark.django_db
NOT_OURS = {"admin"}
"""Django's admin, which goes by permissions of staff; see the last test."""


ANY = "any account"


@dataclass(frozen=True)
class Address:
    """An address: who may open it, or press its button. `least` is None where any account will do.

    `posts` is what a button sends: then nothing opens the address. `form`: who may send a form to it, in other words
    than `least` if only some of those who see the page may (None: it takes no form). `acts` are the other things that
    its form or its buttons do, and who may.
    """

    least: Role | None = None
    is_public: bool = False
    of: str = ""
    posts: dict[str, str] = field(default_factory=dict)
    form: Role | str | None = None
    acts: dict[str, Role] = field(default_factory=dict)


ADDRESSES = {
    "now": Address(),
    "incident": Address(Role.VIEWER, of="incident"),
    "act-on-incident": Address(
        Role.RESPONDER,
        of="incident",
        posts={"do": "acknowledge"},
        acts=dict.fromkeys(("withdraw", "comment", "assign"), Role.RESPONDER),
    ),
    "monitor": Address(Role.VIEWER, of="monitor"),
    "act-on-monitor": Address(
        Role.RESPONDER,
        of="monitor",
        posts={"do": "mute"},
        acts={**dict.fromkeys(("snooze", "unsnooze", "unmute"), Role.RESPONDER), "maintain": Role.EDITOR},
    ),
    "run": Address(Role.VIEWER, of="run"),
    "wall": Address(),
    "clock-page": Address(),
    "projects": Address(),
    "audit-log": Address(Role.VIEWER, of="project"),
    "export-audit-log": Address(Role.VIEWER, of="project"),
    "project": Address(Role.VIEWER, of="project"),
    "act-on-project": Address(
        Role.EDITOR,
        of="project",
        posts={"do": "defaults"},
        acts=dict.fromkeys(
            ("add", "role", "remove", "invite", "withdraw", "new-key", "show-key", "replace-key", "revoke-key"),
            Role.OWNER,
        ),
    ),
    "wall-rows": Address(),
    "saved-views": Address(form=ANY),
    "act-on-many": Address(posts={"do": "mute"}),
    "edit-monitor": Address(Role.EDITOR, of="monitor", form=Role.EDITOR, acts={"delete": Role.OWNER}),
    "ping-address": Address(
        Role.EDITOR, of="monitor", form=Role.EDITOR, acts=dict.fromkeys(("replace", "end"), Role.EDITOR)
    ),
    "new-monitor": Address(Role.EDITOR, form=Role.EDITOR),
    "edit-schedule": Address(Role.EDITOR, of="monitor", form=Role.EDITOR),
    "preview-schedule": Address(),
    "issues": Address(Role.VIEWER, of="project"),
    "issue": Address(Role.VIEWER, of="issue"),
    "act-on-issue": Address(
        Role.RESPONDER,
        of="issue",
        posts={"do": "archive"},
        acts=dict.fromkeys(("resolve", "unarchive"), Role.RESPONDER),
    ),
    "project-channels": Address(Role.VIEWER, of="project"),
    "preview-routes": Address(Role.VIEWER, of="project"),
    "new-channel": Address(Role.OWNER, of="project", form=Role.OWNER),
    "channel": Address(Role.VIEWER, of="channel", form=Role.OWNER),
    "channel-tests": Address(Role.OWNER, of="channel"),
    "act-on-channel": Address(
        Role.OWNER, of="channel", posts={"do": "test"}, acts=dict.fromkeys(("subscribe", "remove"), Role.OWNER)
    ),
    "new-route": Address(Role.EDITOR, of="project", form=Role.EDITOR),
    "route-matches": Address(Role.VIEWER, of="project"),
    "route": Address(Role.EDITOR, of="route", form=Role.EDITOR),
    "act-on-route": Address(
        Role.EDITOR, of="route", posts={"do": "up"}, acts=dict.fromkeys(("down", "delete"), Role.EDITOR)
    ),
    "maintenance": Address(Role.VIEWER, of="project"),
    "new-window": Address(Role.EDITOR, of="project", form=Role.EDITOR),
    "preview-window": Address(Role.VIEWER, of="project"),
    "window": Address(Role.EDITOR, of="window", form=Role.EDITOR),
    "act-on-window": Address(Role.EDITOR, of="window", posts={"do": "end"}),
    "preferences": Address(form=ANY),
    "account_login": Address(is_public=True),
    "company_login": Address(is_public=True),
    "openid_connect_callback": Address(is_public=True),
    "account_inactive": Address(is_public=True),
    "account_logout": Address(is_public=True),
    "account_reset_password": Address(is_public=True),
    "account_reset_password_done": Address(is_public=True),
    "account_reset_password_from_key": Address(is_public=True),
    "account_reset_password_from_key_done": Address(is_public=True),
    "account_change_password": Address(form=ANY),
    "account_reauthenticate": Address(form=ANY),
    "mfa_index": Address(),
    "mfa_list_webauthn": Address(),
    "usersessions_list": Address(form=ANY),
    "mfa_authenticate": Address(is_public=True),
    "mfa_login_webauthn": Address(is_public=True),
    **{
        f"mfa_{name}": Address(is_public=True)
        for name in (
            "activate_totp",
            "add_webauthn",
            "deactivate_totp",
            "download_recovery_codes",
            "generate_recovery_codes",
            "reauthenticate",
            "reauthenticate_webauthn",
            "remove_webauthn",
            "view_recovery_codes",
        )
    },
    "confirm-address": Address(is_public=True),
    "join": Address(is_public=True),
    "share-links": Address(Role.OWNER, of="project", form=Role.OWNER, acts={"revoke": Role.OWNER}),
    "status-page": Address(is_public=True),
    "badge-svg": Address(is_public=True),
    "badge-json": Address(is_public=True),
    "tv": Address(is_public=True),
    "acknowledge": Address(is_public=True),
    "unsubscribe": Address(is_public=True),
    "hook": Address(is_public=True),
    "clock": Address(is_public=True),
}
"""Those that are public are guarded by a secret in the address or by a login of their own, and tested elsewhere."""


WITHOUT_A_NAME = {"favicon.ico", "hooks/<uuid:channel_guid>/<str:token>", "admin/password_change/"}
"""The icon, the address `hook` with a token, and the way from the admin to the password."""


def patterns_of(resolver, before=""):
    """Return the names of all addresses, and the patterns of those without a name."""
    found = set()
    for pattern in resolver.url_patterns:
        route = f"{before}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            if pattern.namespace not in NOT_OURS:
                found |= patterns_of(pattern, route)
        else:
            found.add(pattern.name or route)
    return found


def test_every_address_has_a_row():
    assert patterns_of(get_resolver()) == ADDRESSES.keys() | WITHOUT_A_NAME


OWN = {name: row for name, row in ADDRESSES.items() if not row.is_public}
FORMS = {name: row for name, row in OWN.items() if not row.posts}
ACTS = [(name, act, least) for name, row in OWN.items() for act, least in row.acts.items()]
OF_A_PROJECT = {name: row for name, row in OWN.items() if row.of}
"""Addresses of an object of a project."""
ROLES = [pytest.param(role, id=role) for role in Role]


@pytest.fixture
def answer(incident, monitor):
    """Return the answer of an address about the incident and its monitor to a client."""
    channel = factories.ChannelFactory(project=monitor.project, name="channel-1")
    route = factories.RouteFactory(project=monitor.project, name="route-1")
    window = factories.MaintenanceWindowFactory(project=monitor.project, name="window-1", crontab="0 3 * * *")
    arguments = {
        "": (),
        "project": (monitor.project.slug,),
        "channel": (monitor.project.slug, channel.pk),
        "route": (monitor.project.slug, route.pk),
        "window": (monitor.project.slug, window.pk),
        "incident": (incident.pk,),
        "issue": (incident.issue_id,),
        "monitor": (monitor.project.slug, monitor.slug),
        "run": (monitor.project.slug, monitor.slug, incident.starting_checkin_id),
    }

    def ask(client: Client, name: str, sent: dict[str, str] | None = None, *, posts: bool = False):
        row = ADDRESSES[name]
        address, sent = reverse(name, args=arguments[row.of]), row.posts if sent is None else sent
        # What it does is undone, so that the next one finds what it needs.
        with transaction.atomic():
            response = client.post(address, sent or {"sent": "nothing"}) if sent or posts else client.get(address)
            transaction.set_rollback(True)
        return response

    return ask


@pytest.fixture
def send(answer):
    """Return the answer of an address to a form, by default one with nothing in it."""
    return partial(answer, posts=True)


ANSWERED = {200, 302, 400, 404, 422}
"""What somebody gets who may send a form: it was done, or what was sent is wrong, or names nothing."""


def reaches(role: Role, least: Role | None) -> bool:
    """Whether a role is at least another one."""
    return least is None or list(Role).index(role) >= list(Role).index(least)


@pytest.mark.parametrize("role", ROLES)
def test_a_member_may_do_what_the_role_allows(role, as_role, answer):
    client = as_role(role)
    for name, row in OWN.items():
        expected = (302 if row.posts else 200) if reaches(role, row.least) else 403
        assert (name, answer(client, name).status_code) == (name, expected)


@pytest.mark.parametrize("role", ROLES)
def test_a_form_may_be_sent_by_the_roles_that_see_it(role, as_role, send):
    client = as_role(role)
    for name, row in FORMS.items():
        status = send(client, name).status_code
        if row.form is None:
            assert (name, status) == (name, 405), "it takes no form"
        elif isinstance(row.form, Role) and not reaches(role, row.form):
            assert (name, status) == (name, 403)
        else:
            assert status in ANSWERED - {404}, name


@pytest.mark.parametrize("role", ROLES)
def test_a_button_may_be_pressed_by_the_roles_that_see_it(role, as_role, send):
    client = as_role(role)
    for name, act, least in ACTS:
        status = send(client, name, {"do": act}).status_code
        assert status in (ANSWERED if reaches(role, least) else {403}), (name, act)


def test_nothing_can_be_sent_to_an_object_of_another_project(stranger, send):
    for name, row in OF_A_PROJECT.items():
        assert send(stranger, name).status_code == (404 if row.posts or row.form else 405), name
        for act in row.acts:
            assert send(stranger, name, {"do": act}).status_code == 404, (name, act)


def test_nothing_can_be_sent_without_an_account(send):
    for name, row in OWN.items():
        response = send(Client(), name)
        assert response.status_code in ({302} if row.posts or row.form else {302, 405}), name
        if response.status_code == 302:
            assert response["Location"].partition("?")[0] == reverse("account_login"), name


def test_an_object_of_another_project_does_not_exist(stranger, answer):
    assert {name for name in OF_A_PROJECT if answer(stranger, name).status_code != 404} == set()


def test_without_an_account_there_is_only_the_login(answer):
    for name in OWN:
        response = answer(Client(), name)
        led_to = response.status_code, response["Location"].partition("?")[0]
        assert led_to == (302, reverse("account_login")), name


def test_an_account_that_was_closed_may_do_nothing(monitor, answer):
    user = factories.MembershipFactory(project=monitor.project, role="owner").user
    client = client_of(user)
    user.is_active = False
    user.save()
    assert {name for name in OF_A_PROJECT if answer(client, name).status_code != 302} == set()


def test_the_administrator_of_the_instance_may_do_everything(admin_client, answer):
    for name, row in OWN.items():
        assert (name, answer(admin_client, name).status_code) == (name, 302 if row.posts else 200)


@pytest.mark.parametrize(
    "address",
    [
        "/m/a%00b/c/",
        "/m/a/b%00/?env=%00",
        f"/i/{10**30}/",
        f"/m/a/b/runs/{10**30}/",
        "/m/%F0%9F%98%80/x/",
        "/m/..%2F/x/",
    ],
)
def test_strange_addresses_are_of_nothing(admin_client, address):
    assert admin_client.get(address).status_code == 404


@pytest.mark.parametrize(
    "address",
    [
        "/wall/?q=%00&tag=%00&owner=%00",
        "/wall/rows?from=-1",
        f"/wall/rows?from={10**30}&segments=%00&live=",
        "/new/schedule?crontab=%00",
    ],
)
def test_strange_queries_are_answered(admin_client, address):
    assert admin_client.get(address).status_code == 200


def test_a_button_cannot_be_pressed_by_a_link(as_role, incident):
    assert as_role("owner").get(reverse("act-on-incident", args=[incident.pk])).status_code == 405


def test_members_who_are_no_staff_never_see_the_admin(as_role):
    client = as_role("owner")
    for address in ("admin:index", "admin:monitors_monitor_changelist", "admin:auth_user_changelist", "clock"):
        response = client.get(reverse(address))
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("admin:login"))
