"""Replacing the ping address of a monitor, and copying a monitor."""

from datetime import timedelta

import pytest
from django.urls import reverse

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


@pytest.mark.parametrize("typed", ["", "soon", "2020-01-01T00:00"])
def test_an_end_that_is_none_is_refused(as_role, monitor, address, typed):
    response = as_role("editor").post(address, {"do": "replace", "ends_at": typed})
    assert response.status_code == 422
    assert not monitor.former_addresses.exists()


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
