"""Projects, and the settings of one: members, keys, defaults."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Membership
from audit.models import AuditEntry
from dashboard.pages.project.facts import ENDED_KEYS_SHOWN
from dashboard.pages.project.views import PROJECTS_SHOWN
from lib.wallclock import utcnow
from monitors.models import IngestKey
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def project(monitor):
    return monitor.project


@pytest.fixture
def address(project):
    return reverse("project", args=[project.slug])


@pytest.fixture
def act(project):
    return reverse("act-on-project", args=[project.slug])


@pytest.fixture
def key(project):
    return factories.IngestKeyFactory(project=project, label="hosts", public_key="abcd" + 28 * "7")


def actions(**of):
    return list(AuditEntry.objects.filter(source="page", **of).order_by("id").values_list("action", flat=True))


def test_the_list_has_the_projects_of_the_person_with_their_monitors(as_role, stranger, project):
    assert f"{project.name} 1 monitor" in words(as_role("viewer").get("/projects/"))
    assert project.name not in words(stranger.get("/projects/"))


def test_the_list_costs_the_same_for_any_number_of_projects_and_monitors(client, django_assert_num_queries):
    person = factories.MembershipFactory(project__name="Project 0").user
    client.force_login(person)
    client.get("/projects/")  # What is read once for a process.
    with CaptureQueriesContext(connection) as few:
        client.get("/projects/")
    for number in range(1, PROJECTS_SHOWN + 5):
        member = factories.MembershipFactory(user=person, project__name=f"Project {number:03}")
        factories.MonitorFactory(project=member.project)
    with django_assert_num_queries(len(few)):
        page = client.get("/projects/")
    assert len(page.context["projects"]) == PROJECTS_SHOWN
    assert "Page 1 of 2" in words(page)


def test_the_list_has_pages_and_a_search(client):
    person = factories.MembershipFactory(project__name="Aaa", project__slug="first").user
    client.force_login(person)
    for number in range(PROJECTS_SHOWN):
        factories.MembershipFactory(user=person, project__name=f"Project {number:03}")
    names = [one.row.name for one in client.get("/projects/").context["projects"]]
    names += [one.row.name for one in client.get("/projects/?page=2").context["projects"]]
    assert names == ["Aaa", *(f"Project {number:03}" for number in range(PROJECTS_SHOWN))]
    assert [one.row.name for one in client.get("/projects/?q=FIRST").context["projects"]] == ["Aaa"]
    assert "No project of yours is called so." in words(client.get("/projects/?q=nothing"))
    assert client.get("/projects/?q=%00&page=x").status_code == 200


def test_an_account_without_projects_learns_whom_to_ask(db):
    page = words(client_of(factories.UserFactory(username="newcomer")).get("/projects/"))
    assert "You are a member of no project." in page


def test_an_owner_adds_a_member_changes_the_role_and_removes_it(as_role, project, act):
    owner, user = as_role("owner"), factories.UserFactory(username="berta")
    owner.post(act, {"do": "add", "name": "berta", "role": "viewer"})
    member = Membership.objects.get(project=project, user=user)
    owner.post(act, {"do": "role", "member": member.pk, "role": "editor"})
    member.refresh_from_db()
    assert member.role == "editor"
    page = words(owner.post(act, {"do": "remove", "member": member.pk}, follow=True))
    assert "berta is no member any more." in page
    assert actions(kind="member") == ["added", "changed", "removed"]


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ({"name": "nobody", "role": "viewer"}, "There is no active account with the name nobody."),
        ({"name": "", "role": "viewer"}, "This field is required."),
        ({"name": "berta", "role": "king"}, "king is not one of the available choices."),
        ({"name": "carla", "role": "viewer"}, "carla is a member of this project already, as viewer."),
    ],
)
def test_what_is_wrong_with_a_new_member_stands_beside_its_field(as_role, project, act, typed, error):
    factories.UserFactory(username="berta")
    factories.MembershipFactory(project=project, user__username="carla")
    response = as_role("owner").post(act, {"do": "add", **typed})
    assert response.status_code == 422
    assert error in words(response)


def test_the_last_owner_stays(as_role, project, act):
    owner = as_role("owner")
    own = Membership.objects.get(project=project, role="owner")
    for wish in ({"do": "remove"}, {"do": "role", "role": "viewer"}):
        page = words(owner.post(act, {**wish, "member": own.pk}, follow=True))
        assert "make somebody else an owner first" in page
    assert Membership.objects.filter(pk=own.pk, role="owner").exists()


@pytest.mark.parametrize("wish", ["add", "role", "remove", "new-key", "show-key", "replace-key", "revoke-key"])
def test_members_and_keys_are_changed_by_owners_only(as_role, act, key, wish):
    response = as_role("editor").post(act, {"do": wish, "key": key.pk})
    assert response.status_code == 403


@pytest.mark.parametrize(("role", "is_seen"), [("editor", False), ("owner", True)])
def test_keys_are_listed_for_owners_without_their_digits(as_role, address, key, role, is_seen):
    page = words(as_role(role).get(address))
    assert ("hosts abcd…" in page) == is_seen
    assert key.public_key not in page


def test_each_look_at_a_key_is_noted(as_role, act, key):
    owner = as_role("owner")
    for _ in range(2):
        assert key.public_key in words(owner.post(act, {"do": "show-key", "key": key.pk}))
    assert actions(kind="ingest key") == ["shown", "shown"]


def test_a_look_at_the_page_of_a_monitor_is_noted_once_a_day(as_role, monitor, key):
    owner = as_role("owner")
    for _ in range(2):
        assert key.public_key in words(owner.get(reverse("monitor", args=[monitor.project.slug, monitor.slug])))
    assert actions(kind="ingest key") == ["shown"]


def test_a_new_key_is_shown_at_once(as_role, act, project):
    page = words(as_role("owner").post(act, {"do": "new-key", "label": "laptops"}))
    key = IngestKey.objects.get(project=project)
    assert key.public_key in page
    assert actions(kind="ingest key") == ["created", "shown"]


def test_a_key_is_replaced_on_the_wall_clock_of_the_reader(as_role, address, act, key):
    owner = as_role("owner")
    owner.cookies["watchclock_zone"] = "Asia/Tokyo"
    ends_at = (utcnow() + timedelta(days=2)).replace(second=0, microsecond=0)
    typed = f"{ends_at + timedelta(hours=9):%Y-%m-%dT%H:%M}"
    page = words(owner.post(act, {"do": "replace-key", "key": key.pk, "ends_at": typed}))
    key.refresh_from_db()
    assert key.ends_at == ends_at
    assert "works until" in page
    assert key.public_key not in page


def test_an_end_in_the_past_is_refused_beside_its_field(as_role, act, key):
    response = as_role("owner").post(act, {"do": "replace-key", "key": key.pk, "ends_at": "2020-01-01T00:00"})
    assert response.status_code == 422
    assert "2020-01-01 00:00 is not within the next 90 days." in words(response)


def test_a_revoked_key_stays_in_the_list(as_role, act, key):
    page = words(as_role("owner").post(act, {"do": "revoke-key", "key": key.pk}, follow=True))
    assert "hosts abcd… revoked" in page
    key.refresh_from_db()
    assert not key.is_active


def test_a_key_or_a_member_of_another_project_does_not_exist(as_role, act):
    other, member = factories.IngestKeyFactory(), factories.MembershipFactory()
    owner = as_role("owner")
    assert owner.post(act, {"do": "show-key", "key": other.pk}).status_code == 404
    assert owner.post(act, {"do": "remove", "member": member.pk}).status_code == 404


def test_the_defaults_of_monitors_are_changed_by_editors(as_role, project, act):
    editor = as_role("editor")
    editor.post(act, {"do": "defaults", "is_config_locked": "on"})
    project.refresh_from_db()
    assert project.is_config_locked
    entry = AuditEntry.objects.get(kind="project", object_id=project.pk)
    assert entry.changes == {"is_config_locked": [False, True]}


def test_keys_in_force_are_listed_however_many_have_ended(as_role, address, project, key):
    IngestKey.objects.bulk_create(
        factories.IngestKeyFactory.build(project=project, is_active=False) for _ in range(ENDED_KEYS_SHOWN + 1)
    )
    keys = as_role("owner").get(address).context["keys"]
    assert [one.row for one in keys if one.is_in_force] == [key]
    assert len(keys) == 1 + ENDED_KEYS_SHOWN
