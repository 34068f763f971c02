"""Every state that a factory offers satisfies every constraint of its table."""

import pytest

from checkins.messages import CheckInMessage, CheckInStatus
from checkins.processing.waiting import restored
from checkins.protocols.request import Limits
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", CheckInStatus)
def test_a_check_in_of_every_status_is_valid(status):
    factories.CheckInFactory(status=status.value)


def test_a_timeout_may_have_finished_late():
    factories.CheckInFactory(status="timeout", finished_status="ok", finished_at=factories.NOW)


@pytest.mark.parametrize("status", ["active", "ok", "error", "pending_deletion"])
def test_an_environment_of_every_status_is_valid(status):
    factories.MonitorEnvironmentFactory(status=status)


def test_an_environment_that_heard_from_its_job_expects_it_again():
    row = factories.MonitorEnvironmentFactory(monitor__crontab="*/5 * * * *", monitor__checkin_margin=2)
    assert f"{row.next_checkin:%H:%M} {row.next_checkin_latest:%H:%M}" == "10:05 10:07"


def test_an_environment_of_an_interval_has_its_anchor():
    row = factories.MonitorEnvironmentFactory(monitor__interval=15, monitor__interval_unit="minute")
    assert (f"{row.next_checkin:%H:%M}", row.anchor_at) == ("10:15", factories.NOW)


def test_an_environment_of_a_disabled_monitor_expects_nothing():
    assert factories.MonitorEnvironmentFactory(monitor__status="disabled").next_checkin is None


@pytest.mark.parametrize("resolved", [False, True])
def test_an_incident_agrees_with_its_environment_and_issue(resolved):
    incident = factories.IncidentFactory(resolved=resolved)
    assert incident.monitor_environment.status == ("ok" if resolved else "error")
    assert incident.issue.status == ("resolved" if resolved else "unresolved")
    assert incident.starting_checkin.monitor_environment == incident.monitor_environment


def test_a_check_in_that_waits_can_be_read_back():
    parked = factories.WaitingCheckInFactory(slug="backup")
    failed = factories.WaitingCheckInFactory(slug="backup", error="ValueError: 7")
    assert (parked.reason, failed.reason) == ("monitor_unknown", "failed")
    for row in (parked, failed):
        [message] = restored(row, Limits())
        assert isinstance(message, CheckInMessage)
        assert (message.project_id, message.slug, message.received_at) == (row.project_id, "backup", row.received_at)


@pytest.mark.parametrize(
    "factory",
    [
        factories.IngestKeyFactory,
        factories.MembershipFactory,
        factories.AuditEntryFactory,
        factories.AttemptFactory,
        factories.CheckInLogFactory,
        factories.ClientLossReportFactory,
        factories.WaitingCheckInFactory,
        factories.ProcessingErrorFactory,
        factories.OccurrenceFactory,
        factories.NotificationFactory,
        factories.TickFactory,
        factories.ShardClockFactory,
        factories.AppliedTickFactory,
    ],
)
def test_a_default_row_is_valid(factory):
    factory.create_batch(2)
