"""Every door that a schedule comes through refuses a crontab without a time, with the reason (D34)."""

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from checkins.messages import Source
from checkins.models import ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.waiting import store_failed
from checkins.protocols.fields import parse_checkin
from clocktasks.playback.play import run_scenario
from clocktasks.playback.scenario import parse_scenarios
from monitors.models import Monitor, MonitorEnvironment
from tests.factories import MembershipFactory, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
NEVER, ZONE = "* 2 8-14 3 */7", "America/New_York"
REASON = "it has no time in the next ten years in the zone America/New_York"


def check_in(project_id, config, slug="job"):
    payload = {"monitor_slug": slug, "status": "ok", "monitor_config": config}
    message = parse_checkin(payload, project_id=project_id, received_at=NOW, source=Source.REST)
    [outcome] = receive([message], now=NOW)
    return outcome


def crontab(value, **more):
    return {"schedule": {"type": "crontab", "value": value}, **more}


def test_d34_in_the_configuration_of_a_check_in():
    """The smallest input that stopped the clock of everybody: it makes no monitor, and costs a millisecond."""
    outcome = check_in(ProjectFactory().pk, crontab(NEVER, timezone=ZONE))
    assert REASON in outcome.problems[0].message
    assert not Monitor.objects.exists()


def test_d34_in_a_configuration_that_keeps_the_zone_of_its_monitor():
    """In UTC, where the text was read, it has times; in the monitor's zone it has none."""
    monitor = MonitorFactory(slug="job", timezone=ZONE)
    outcome = check_in(monitor.project_id, crontab(NEVER))
    assert outcome.accepted
    assert REASON in outcome.problems[0].message
    monitor.refresh_from_db()
    assert monitor.crontab != NEVER
    assert ProcessingError.objects.get().monitor_id == monitor.pk


def test_d34_in_the_form_and_in_its_preview(admin_client):
    typed = {"schedule_type": "crontab", "crontab": NEVER, "interval": "", "interval_unit": "", "timezone": ZONE}
    answer = admin_client.get(reverse("admin:monitors_monitor_preview"), typed)
    assert (answer.status_code, answer.json()["field"]) == (400, "crontab")
    assert REASON in answer.json()["error"]
    fields = {
        "project": ProjectFactory().pk,
        "slug": "job",
        "name": "Job",
        "status": "active",
        "tags": "",
        "owner": "",
        "checkin_margin": 1,
        "max_runtime": 30,
        "failure_threshold": 1,
        "recovery_threshold": 1,
    }
    page = admin_client.post(reverse("admin:monitors_monitor_add"), {**typed, **fields})
    assert REASON in page.content.decode()
    assert not Monitor.objects.exists()


def test_d34_on_the_page_of_a_new_monitor_and_in_its_preview(client):
    member = MembershipFactory(role="editor")
    client.force_login(member.user)
    typed = {
        "project": member.project_id,
        "name": "Job",
        "schedule_type": "crontab",
        "crontab": NEVER,
        "timezone": ZONE,
        "checkin_margin": "1",
        "max_runtime": "30",
        "failure_threshold": "1",
        "recovery_threshold": "1",
    }
    page = client.post(reverse("new-monitor"), typed)
    assert (page.status_code, REASON in page.text, Monitor.objects.exists()) == (422, True, False)
    preview = client.get(reverse("preview-schedule"), typed)
    assert (preview.status_code, REASON in preview.text) == (200, True)


def test_d34_in_a_failed_check_in_that_is_processed_again(admin_client):
    payload = {"monitor_slug": "job", "status": "ok", "monitor_config": crontab(NEVER, timezone=ZONE)}
    store_failed(
        parse_checkin(payload, project_id=ProjectFactory().pk, received_at=NOW, source=Source.REST), ValueError("7")
    )
    chosen = {"action": "process_again", "_selected_action": [WaitingCheckIn.objects.get().pk]}
    page = admin_client.post(reverse("admin:checkins_waitingcheckin_changelist"), chosen, follow=True)
    assert "Applied 1, 0 failed again." in page.text
    assert REASON in str(list(ProcessingError.objects.values()))
    assert not Monitor.objects.exists()


@pytest.mark.parametrize(
    ("setup", "event"),
    [
        ({"schedule": NEVER, "timezone": ZONE}, {"action": "tick"}),
        ({"schedule": NEVER}, {"action": "set", "monitor": "job", "timezone": ZONE}),
    ],
)
def test_d34_in_a_scenario(setup, event):
    import json

    story = {
        "name": "a crontab without a time",
        "monitors": [{"slug": "job", "environments": ["production"], **setup}],
        "events": [{"at": "2026-01-05T10:00:00Z", **event}],
        "expect": [],
    }
    [scenario] = parse_scenarios([json.dumps(story).encode()], file="never.jsonl")
    outcome = run_scenario(scenario)
    assert not outcome.passed
    assert REASON in outcome.differences[0].message


def test_d34_a_schedule_that_has_run_out_says_so_on_its_page(admin_client):
    row = MonitorEnvironmentFactory(monitor=MonitorFactory(slug="job", timezone=ZONE), last_checkin=NOW)
    Monitor.objects.filter(pk=row.monitor_id).update(crontab=NEVER)
    page = admin_client.get(reverse("admin:monitors_monitor_change", args=[row.monitor_id]))
    assert "No time in the next ten years: no check-in is expected." in page.content.decode()
    outcome = check_in(row.monitor.project_id, None)
    assert outcome.accepted
    assert MonitorEnvironment.objects.get(pk=row.pk).pending_slot is None
