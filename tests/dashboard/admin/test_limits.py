"""D44: people set the limits of a monitor's runs in its form, and see what runs broke."""

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from checkins.editing import update_monitor
from monitors.models import Monitor
from tests import factories
from tests.dashboard.admin.browsing import form_of
from tests.dashboard.admin.test_editing import OpenPage
from tests.factories import NOW

pytestmark = pytest.mark.django_db

LIMITS = "longer than 10m: failure; overlap: note"


@pytest.fixture
def monitor():
    return factories.MonitorFactory(name="Backup", slug="backup")


@pytest.fixture
def open_page(admin_client):
    return lambda row: OpenPage(admin_client, row)


def stored(monitor):
    return Monitor.objects.get(pk=monitor.pk).limits


def test_limits_are_stored_as_one_text_and_shown_as_fields(open_page, monitor):
    page = open_page(monitor)
    assert page.save(longer_than="600s", longer_is="failure", overlap_is="note").is_saved
    assert stored(monitor) == LIMITS
    held = open_page(monitor).held
    assert {name: held[name] for name in ("longer_than", "longer_is", "shorter_than", "shorter_is", "overlap_is")} == {
        "longer_than": ["10m"], "longer_is": ["failure"],
        "shorter_than": [""], "shorter_is": ["note"], "overlap_is": ["note"],
    }  # fmt: skip


def test_an_edit_of_limits_is_in_the_audit_log_and_keeps_the_former_ones(open_page, monitor):
    assert open_page(monitor).save(shorter_than="0.5x").is_saved
    entry = AuditEntry.objects.get(action="changed")
    assert entry.changes == {"limits": [None, "shorter than 0.5x: note"]}
    assert monitor.former_rules.count() == 1


def test_limits_can_be_taken_away(open_page, monitor):
    update_monitor(monitor.pk, {"limits": LIMITS}, now=NOW)
    assert open_page(monitor).save(longer_than="", overlap_is="").is_saved
    assert stored(monitor) is None


def test_what_is_no_limit_is_refused_at_its_field(open_page, monitor):
    result = open_page(monitor).save(longer_than="soon", shorter_than="3x")
    assert result.errors == {
        name: [f"{what} is no limit: it takes a time, 1s to 7d, or a multiple of the median, {times}."]
        for name, what, times in (
            ("longer_than", "'soon'", "more than 1x and at most 1000x"),
            ("shorter_than", "'3x'", "less than 1x"),
        )
    }
    assert stored(monitor) is None


def test_a_form_without_a_change_of_limits_writes_none(open_page, monitor):
    page = open_page(monitor)
    update_monitor(monitor.pk, {"limits": LIMITS}, now=NOW)
    assert page.save(name="Nightly backup").is_saved
    assert stored(monitor) == LIMITS


def test_d41_limits_that_somebody_else_changed_are_refused_with_both_values(open_page, monitor):
    page = open_page(monitor)
    update_monitor(monitor.pk, {"limits": LIMITS}, now=NOW)
    result = page.save(longer_than="5m")
    assert not result.is_saved
    assert "changed from empty to “10m” while this page was open" in result.errors["longer_than"][0]
    assert page.save(longer_than="5m").is_saved
    assert stored(monitor) == "longer than 5m: note", "they belong together, as a schedule does"


def test_a_new_monitor_has_the_limits_of_its_form(admin_client):
    project = factories.ProjectFactory()
    url = reverse("admin:monitors_monitor_add")
    sent = form_of(admin_client.get(url).text, "monitor_form")
    sent |= {
        "project": [project.pk],
        "slug": ["new"],
        "name": ["new"],
        "schedule_type": ["crontab"],
        "crontab": ["0 1 * * *"],
        "longer_than": ["1h"],
    }
    response = admin_client.post(url, sent)
    assert response.status_code == 302, response.context["adminform"].form.errors
    assert Monitor.objects.get(slug="new").limits == "longer than 1h: note"
