"""Who sees what: view permissions are asked for everywhere; keys and ping addresses are for those who may change them.

A key or a ping address lets whoever reads it send check-ins, so it is worth more than a look.
"""

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from checkins.models import WaitingCheckIn
from checkins.processing.waiting import store_failed_request
from checkins.protocols.request import IngestRequest, KnownSender
from monitors.models import IngestKey, Monitor
from tests import factories
from tests.dashboard.conftest import PASSWORD, client_of
from tests.factories import NOW

FOR_EVERY_MEMBER_OF_STAFF = {"index", "login", "logout", "password_change", "password_change_done", "jsi18n", "search"}


def may(*codenames):
    user = User.objects.create_user("someone", password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return client_of(user)


def addresses_of_the_admin():
    """The address of every view under /admin/, for rows that exist where it wants one."""
    yield reverse("clock")
    for pattern in get_resolver().url_patterns:
        if isinstance(pattern, URLResolver) and pattern.app_name == "admin":
            yield from below(pattern.url_patterns, "/admin/")


def below(patterns, prefix):
    for pattern in patterns:
        address = prefix + str(pattern.pattern)
        if not isinstance(pattern, URLPattern):
            yield from below(pattern.url_patterns, address)
        elif pattern.name not in FOR_EVERY_MEMBER_OF_STAFF and "<id>" not in address:
            yield address


def opened(address):
    """The address with a row of its model in the place of `<path:object_id>`."""
    if "<path:object_id>" not in address:
        return address
    app, model = address.split("/")[2:4]
    models = [m for m in admin.site._registry if m._meta.label_lower == f"{app}.{model}"]
    row = models[0]._default_manager.first() if models else None
    return None if row is None else address.replace("<path:object_id>", str(quote(row.pk)))


def test_a_member_of_staff_without_any_permission_opens_nothing(bare_client, one_of_each):
    asked = 0
    for pattern in addresses_of_the_admin():
        address = opened(pattern)
        if address is None or "(?P" in address or "<" in address:
            continue
        asked += 1
        query = {"app_label": "monitors", "model_name": "monitor", "field_name": "project"}
        response = bare_client.get(address, query, follow=True)
        assert response.status_code in (403, 404), address
    assert asked > 80


def test_a_member_of_staff_without_any_permission_finds_nothing(bare_client, one_of_each):
    monitor = one_of_each.monitor_environment.monitor
    for address in ("/admin/", "/admin/search/?s=job&extended=1"):
        text = bare_client.get(address).text
        assert monitor.slug not in text
        assert 'href="/admin/monitors/' not in text
        assert 'href="/admin/clock' not in text


@pytest.mark.parametrize("model", ["monitor", "project", "environment"])
def test_one_view_permission_opens_that_list_and_no_other(model, one_of_each):
    client = may(f"view_{model}")
    for name in ("monitor", "project", "environment", "monitorenvironment", "ingestkey"):
        url = reverse(f"admin:monitors_{name}_changelist")
        assert client.get(url).status_code == (200 if name == model else 403)


def test_the_page_of_a_monitor_shows_no_rows_that_one_may_not_look_at(one_of_each):
    monitor = one_of_each.monitor_environment.monitor
    url = reverse("admin:monitors_monitor_change", args=[monitor.pk])
    tables = ("checkins_table", "open_incidents_table", "environments_table", "errors_table")

    little = may("view_monitor").get(url).context
    assert not any(little[name] for name in tables)
    User.objects.get(username="someone").delete()
    more = may("view_monitor", "view_checkin").get(url).context
    assert [bool(more[name]) for name in tables] == [True, False, False, False]


class TestKeysAndAddresses:
    @pytest.fixture
    def secrets(self, one_of_each):
        """What must not be read: every key, in full, and every ping address, in any writing."""
        request = IngestRequest(
            method="POST",
            path=f"/ping/{Monitor.objects.earliest('id').guid}",
            query="",
            headers={"x-sentry-auth": f"Sentry sentry_key={IngestKey.objects.earliest('id').public_key}"},
            body=b"{}",
            body_bytes=2,
            received_at=NOW,
        )
        store_failed_request(request, KnownSender(factories.ProjectFactory().id), ValueError("7"))
        guids = list(Monitor.objects.values_list("guid", flat=True))
        keys = list(IngestKey.objects.values_list("public_key", flat=True))
        assert len(keys) >= 1
        return [*keys, *map(str, guids), *(guid.hex for guid in guids)]

    def test_who_may_look_at_everything_reads_none_of_them_on_any_page(self, staff_client, secrets):
        for pattern in addresses_of_the_admin():
            address = opened(pattern)
            if address is None or "(?P" in address or "<" in address:
                continue
            text = staff_client.get(address, follow=True).text
            assert not [secret for secret in secrets if secret in text], address
        for waiting in WaitingCheckIn.objects.all():
            text = staff_client.get(reverse("admin:checkins_waitingcheckin_change", args=[waiting.pk])).text
            assert not [secret for secret in secrets if secret in text]

    def test_a_list_does_not_tell_them_letter_by_letter(self, staff_client, secrets):
        monitor = Monitor.objects.earliest("id")
        monitors = reverse("admin:monitors_monitor_changelist")
        for field in ("guid__startswith", "guid", "guid__gt"):
            assert staff_client.get(monitors, {field: str(monitor.guid)}).status_code in (302, 400)
        projects = reverse("admin:monitors_project_changelist")
        assert staff_client.get(projects, {"ingest_keys__public_key__startswith": "a"}).status_code in (302, 400)
        checkins = reverse("admin:checkins_checkin_changelist")
        assert staff_client.get(checkins, {"monitor__guid": str(monitor.guid)}).status_code in (302, 400)

    def test_a_key_is_not_found_by_its_letters(self, staff_client, secrets):
        assert staff_client.get(reverse("admin:monitors_ingestkey_changelist"), {"q": "a"}).status_code == 403

    def test_the_ping_address_is_shown_with_the_right_to_change_monitors_and_the_keys_are_not(self, one_of_each):
        monitor = one_of_each.monitor_environment.monitor
        key = IngestKey.objects.get(project=monitor.project).public_key
        text = may("change_monitor").get(reverse("admin:monitors_monitor_change", args=[monitor.pk])).text
        assert f"/ping/{monitor.guid}" in text
        assert key not in text

    def test_keys_are_shown_with_the_right_to_change_them(self, one_of_each):
        monitor = one_of_each.monitor_environment.monitor
        key = IngestKey.objects.get(project=monitor.project).public_key
        client = may("change_monitor", "change_ingestkey", "view_project")
        for page in (
            reverse("admin:monitors_monitor_change", args=[monitor.pk]),
            reverse("admin:monitors_project_change", args=[monitor.project_id]),
            reverse("admin:monitors_ingestkey_changelist"),
        ):
            assert key in client.get(page).text

    def test_the_name_of_a_key_does_not_give_it_away(self):
        assert str(IngestKey(public_key="0123456789abcdef" * 2, label="jobs")) == "jobs 0123…"
