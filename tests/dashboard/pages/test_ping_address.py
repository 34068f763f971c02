"""Replacing the ping address of a monitor, and copying a monitor."""

from datetime import timedelta

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from lib.wallclock import utcnow
from monitors.models import Monitor
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(monitor):
    return reverse("ping-address", args=[monitor.project.slug, monitor.slug])


def test_the_old_address_works_beside_the_new_one_and_can_be_ended(as_role, monitor, address):
    editor, old = as_role("editor"), monitor.guid
    ends_at = (utcnow() + timedelta(hours=2)).replace(second=0, microsecond=0)
    page = words(editor.post(address, {"do": "replace", "ends_at": f"{ends_at:%Y-%m-%dT%H:%M}"}, follow=True))
    monitor.refresh_from_db()
    assert str(monitor.guid) in page
    assert str(old) not in page
    former = monitor.former_addresses.get()
    assert (former.guid, former.ends_at) == (old, ends_at)
    assert "Only the present address works now." in words(editor.post(address, {"do": "end"}, follow=True))
    former.refresh_from_db()
    assert former.ends_at <= utcnow()


def looks_at(monitor):
    entries = AuditEntry.objects.filter(kind="monitor", object_id=monitor.pk, action="shown")
    return list(entries.order_by("id").values_list("actor_name", "source"))


def test_a_look_at_an_address_is_noted_once_for_each_person_and_day(as_role, monitor, address):
    editor, other = as_role("editor"), as_role("editor")
    page_of_monitor = reverse("monitor", args=[monitor.project.slug, monitor.slug])
    for client, page in ((editor, page_of_monitor), (editor, page_of_monitor), (editor, address), (other, address)):
        assert str(monitor.guid) in words(client.get(page))
    assert len(set(looks_at(monitor))) == len(looks_at(monitor)) == 2
    AuditEntry.objects.update(at=utcnow() - timedelta(days=1))
    editor.get(page_of_monitor)
    assert len(looks_at(monitor)) == 3


def test_a_look_at_an_address_that_was_replaced_is_noted_again(as_role, monitor, address):
    editor = as_role("editor")
    editor.get(address)
    ends_at = utcnow() + timedelta(hours=2)
    as_role("editor").post(address, {"do": "replace", "ends_at": f"{ends_at:%Y-%m-%dT%H:%M}"})
    editor.get(address)
    assert len(looks_at(monitor)) == 2


@pytest.mark.parametrize("role", ["viewer", "responder"])
def test_a_page_without_the_address_is_no_look_at_it(as_role, monitor, role):
    as_role(role).get(reverse("monitor", args=[monitor.project.slug, monitor.slug]))
    assert looks_at(monitor) == []


def test_a_look_in_the_admin_is_noted(admin_client, monitor):
    key = factories.IngestKeyFactory(project=monitor.project)
    for _ in range(2):
        admin_client.get(reverse("admin:monitors_monitor_change", args=[monitor.pk]))
        admin_client.get(reverse("admin:monitors_project_change", args=[monitor.project_id]))
    shown = AuditEntry.objects.filter(action="shown", source="admin").values_list("kind", "object_id")
    assert sorted(shown) == [("ingest key", key.pk), ("monitor", monitor.pk)]


@pytest.mark.parametrize("typed", ["", "soon", "2020-01-01T00:00"])
def test_an_end_that_is_none_is_refused(as_role, monitor, address, typed):
    response = as_role("editor").post(address, {"do": "replace", "ends_at": typed})
    assert response.status_code == 422
    assert not monitor.former_addresses.exists()


@pytest.mark.parametrize(
    ("typed", "zone"), [("0001-01-01T00:00", "Asia/Tokyo"), ("9999-12-31T23:59", "America/New_York")]
)
def test_an_end_that_is_in_no_year_of_utc_is_refused(as_role, monitor, address, typed, zone):
    editor = as_role("editor")
    editor.cookies["watchclock_zone"] = zone
    response = editor.post(address, {"do": "replace", "ends_at": typed})
    assert response.status_code == 422
    assert f"{typed.replace('T', ' ')} is not within the next 90 days." in words(response)


def test_a_copy_has_the_settings_and_an_address_of_its_own(as_role, monitor):
    Monitor.objects.filter(pk=monitor.pk).update(
        tags=["db"], owner="team:ops", severity="critical", checkin_margin=7, has_private_logs=True
    )
    editor = as_role("editor")
    form = editor.get("/new/", {"copy": monitor.pk}).context["form"]
    assert form.initial["name"] == f"Copy of {monitor.name}"
    typed = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    sent = {name: value for name, value in typed.items() if value is not None}
    assert editor.post(f"/new/?copy={monitor.pk}", sent).status_code == 302
    copy = Monitor.objects.get(name=f"Copy of {monitor.name}")
    of_both = [(one.crontab, one.timezone, one.checkin_margin) for one in (monitor, copy)]
    assert of_both[1] == (monitor.crontab, monitor.timezone, 7)
    assert (copy.tags, copy.owner, copy.severity, copy.has_private_logs) == (["db"], "team:ops", "critical", True)
    assert copy.guid != monitor.guid


def test_what_one_may_not_edit_one_may_not_copy(as_role):
    other = factories.MonitorFactory()
    editor = as_role("editor")
    for number in (other.pk, "x", 10**30):
        assert editor.get("/new/", {"copy": number}).status_code == 404
