"""What needs a person, and what is being waited for."""

from datetime import timedelta

import pytest
import time_machine

from checkins.models import RunningCheckIn
from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


def test_a_member_without_trouble_reads_that_nothing_needs_a_person(db, stranger):
    assert "Nothing needs a person" in words(stranger.get("/"))


def test_somebody_without_a_project_is_told_whom_to_ask(client):
    client.force_login(factories.UserFactory())
    assert "You are no member of any project yet." in words(client.get("/"))


def test_an_open_incident_stands_with_its_reason_and_its_buttons(as_role, monitor):
    page = words(as_role("responder").get("/"))
    assert "1 job needs a person" in page
    assert monitor.name in page
    assert "Reported an error at 10:00 UTC." in page
    assert "Acknowledge" in page


def test_a_viewer_has_no_buttons(as_role):
    page = words(as_role("viewer").get("/"))
    assert "1 job needs a person" in page
    assert not {"Acknowledge", "Snooze", "Mute"} & set(page.split())


def test_incidents_of_other_projects_are_not_there(stranger, monitor):
    assert monitor.name not in words(stranger.get("/"))


def test_what_nobody_has_acknowledged_comes_first_then_the_oldest(as_role, monitor):
    now = utcnow()
    for name, hours, acknowledged in (("old", 9, False), ("older", 10, True), ("new", 1, False)):
        environment = factories.MonitorEnvironmentFactory(
            monitor__project=monitor.project, monitor__name=name, status="error"
        )
        factories.IncidentFactory(
            monitor_environment=environment,
            started_at=now - timedelta(hours=hours),
            opened_at=now - timedelta(hours=hours),
            **({"acknowledged_at": now, "acknowledged_by": "ann"} if acknowledged else {}),
        )
    page = as_role("viewer").get("/").context["open"]
    assert [one.environment.monitor.name for one, _ in page][1:] == ["old", "new", "older"]


@pytest.mark.parametrize("how", ["muted", "snoozed", "archived", "disabled"])
def test_what_a_person_has_quieted_is_only_counted(as_role, incident, environment, monitor, how):
    match how:
        case "muted":
            environment.is_muted = True
            environment.save()
        case "snoozed":
            monitor.snoozed_until = utcnow() + timedelta(hours=1)
            monitor.save()
        case "archived":
            incident.issue.status = "archived"
            incident.issue.save()
        case "disabled":
            monitor.status = "disabled"
            monitor.save()
    page = words(as_role("viewer").get("/"))
    assert "Nothing needs a person" in page
    assert ("1 more fails and is muted, snoozed or archived." in page) == (how != "disabled")


def test_a_check_in_that_is_late_is_waited_for(as_role, monitor):
    now = utcnow()
    factories.MonitorEnvironmentFactory(
        monitor__project=monitor.project,
        monitor__name="report",
        status="ok",
        pending_slot=now - timedelta(minutes=3),
        next_checkin=now - timedelta(minutes=3),
        next_checkin_latest=now + timedelta(minutes=7),
    )
    with time_machine.travel(now, tick=False):
        page = words(as_role("viewer").get("/"))
    assert "report production expected 3 minutes ago , counts as missed after" in page


def test_a_run_that_goes_on_twice_as_long_as_usual_is_shown(as_role, monitor):
    now = utcnow()
    environment = factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name="import")
    factories.RecentRunsFactory(monitor_environment=environment, durations_ms=[60_000] * 20)
    for minutes in (1, 3):
        factories.CheckInFactory(
            monitor_environment=environment,
            status="in_progress",
            date_added=now - timedelta(minutes=minutes),
            timeout_at=now + timedelta(minutes=30),
        )
    assert RunningCheckIn.objects.count() == 2
    with time_machine.travel(now, tick=False):
        page = words(as_role("viewer").get("/"))
    assert page.count("import production runs for 3 minutes, usually 1 minute") == 1


def test_the_number_of_statements_does_not_grow_with_the_incidents(as_role, monitor, django_assert_max_num_queries):
    client = as_role("responder")
    for _ in range(12):
        row = factories.IncidentFactory(monitor_environment__monitor__project=monitor.project)
        factories.OccurrenceFactory(incident=row)
    with django_assert_max_num_queries(10):
        client.get("/")
