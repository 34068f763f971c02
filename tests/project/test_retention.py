"""D42: everything that grows has an end. What is removed, when, in bounded pieces, and what never is."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings as project_settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, transaction

from audit.models import AuditEntry
from checkins.editing import update_monitor
from checkins.housekeeping import (
    prune_failed_checkins,
    prune_loss_reports,
    prune_processing_errors,
    prune_run_hours,
)
from checkins.models import ClientLossReport, ProcessingError, RunHour, WaitingCheckIn
from checkins.nodes import forget_gone_nodes
from checkins.tasks import keep_house
from clocktasks import tasks as clock_tasks
from clocktasks.housekeeping import prune_applied_ticks, prune_clock_incidents, prune_held_ticks, prune_ticks
from clocktasks.models import AppliedTick, ClockIncident, HeldTick, Tick
from incidents.housekeeping import prune_incidents, prune_issues, prune_notifications, prune_occurrences
from incidents.models import Incident, Issue, Notification, Occurrence
from monitors import pruning
from monitors.changes import attach_config_snapshots
from monitors.housekeeping import (
    prune_admin_log,
    prune_audit_log,
    prune_config_snapshots,
    prune_former_rules,
    prune_maintenance_windows,
    prune_sessions,
)
from monitors.models import ConfigSnapshot, MaintenanceWindow, Monitor
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def ended(at, **fields):
    """An incident that ended then."""
    return factories.IncidentFactory(resolved=True, started_at=at - timedelta(minutes=30), **fields)


def later_occurrence(at):
    incident = ended(at)
    checkin = factories.CheckInFactory(monitor_environment=incident.monitor_environment, status="error")
    factories.OccurrenceFactory(incident=incident, number=11, checkin=checkin, detected_at=at)


def resolved_issue(at):
    factories.IssueFactory(status="resolved", first_seen_at=at, last_seen_at=at, resolved_at=at)


def admin_entry(at):
    user = User.objects.create(username="night")
    LogEntry.objects.create(user=user, action_flag=2, action_time=at)


def elsewhere(work):
    """What the work returns in a connection of its own, which waits for no lock."""

    def run():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '1s'")
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor() as pool:
        return pool.submit(run).result()


def tick(at):
    factories.TickFactory(at=at)
    factories.TickFactory(at=NOW)


KINDS = [
    pytest.param("PROCESSING_ERROR_RETENTION_DAYS", prune_processing_errors, ProcessingError, 1,
                 lambda at: factories.ProcessingErrorFactory(last_received_at=at), id="processing errors"),
    pytest.param("FAILED_CHECKIN_RETENTION_DAYS", prune_failed_checkins, WaitingCheckIn, 1,
                 lambda at: factories.WaitingCheckInFactory(error="ValueError: 7", received_at=at), id="failed"),
    pytest.param("LOSS_REPORT_RETENTION_DAYS", prune_loss_reports, ClientLossReport, 1,
                 lambda at: factories.ClientLossReportFactory(received_at=at), id="loss reports"),
    pytest.param("RUN_HOUR_RETENTION_DAYS", prune_run_hours, RunHour, 1,
                 lambda at: factories.RunHourFactory(hour=at), id="hours of runs"),
    pytest.param("OCCURRENCE_RETENTION_DAYS", prune_occurrences, Occurrence, 1, later_occurrence, id="occurrences"),
    pytest.param("NOTIFICATION_RETENTION_DAYS", prune_notifications, Notification, 1,
                 lambda at: factories.NotificationFactory(incident=ended(at), created_at=at), id="notifications"),
    pytest.param("INCIDENT_RETENTION_DAYS", prune_incidents, Incident, 1, ended, id="incidents"),
    pytest.param("ISSUE_RETENTION_DAYS", prune_issues, Issue, 1, resolved_issue, id="issues"),
    pytest.param("TICK_RETENTION_DAYS", prune_ticks, Tick, 2, tick, id="ticks"),
    pytest.param("APPLIED_TICK_RETENTION_DAYS", prune_applied_ticks, AppliedTick, 1,
                 lambda at: factories.AppliedTickFactory(tick=at), id="applied ticks"),
    pytest.param("HELD_TICK_RETENTION_DAYS", prune_held_ticks, HeldTick, 1,
                 lambda at: factories.HeldTickFactory(at=at), id="held ticks"),
    pytest.param("CLOCK_INCIDENT_RETENTION_DAYS", prune_clock_incidents, ClockIncident, 1,
                 lambda at: factories.ClockIncidentFactory(started_at=at - DAY, ended_at=at), id="clock incidents"),
    pytest.param("AUDIT_DAYS", prune_audit_log, AuditEntry, 1,
                 lambda at: factories.AuditEntryFactory(at=at), id="audit log"),
    pytest.param("MAINTENANCE_WINDOW_RETENTION_DAYS", prune_maintenance_windows, MaintenanceWindow, 1,
                 lambda at: factories.MaintenanceWindowFactory(starts_at=at - DAY, ends_at=at), id="windows"),
    pytest.param("ADMIN_LOG_RETENTION_DAYS", prune_admin_log, LogEntry, 1, admin_entry, id="admin log"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "prune", "model", "rows", "make"), KINDS)
def test_d42_what_is_older_than_its_setting_goes_and_nothing_else(settings, setting, prune, model, rows, make):
    days = 70
    setattr(settings, setting, days)
    make(NOW - days * DAY)
    assert prune(now=NOW) == 0
    assert model.objects.count() == rows
    assert prune(now=NOW + SECOND) >= 1
    assert model.objects.count() == rows - 1


@pytest.mark.parametrize(("setting", "prune", "model", "rows", "make"), KINDS)
def test_d42_nought_keeps_for_ever(settings, setting, prune, model, rows, make):
    setattr(settings, setting, 0)
    make(NOW - 3_000 * DAY)
    assert prune(now=NOW) == 0
    assert model.objects.count() == rows


@pytest.mark.parametrize(("setting", "prune", "model", "rows", "make"), KINDS)
def test_d42_every_kind_has_a_default_that_ends(setting, prune, model, rows, make):
    assert getattr(project_settings, setting) > 0


# --- What is open stays, and what it needs ----------------------------------------------------------------------------

LATER = NOW + 5_000 * DAY


def test_d42_an_open_incident_keeps_its_occurrences_notifications_and_issue():
    occurrence = factories.OccurrenceFactory(number=10)
    checkin = factories.CheckInFactory(monitor_environment=occurrence.incident.monitor_environment, status="error")
    factories.OccurrenceFactory(incident=occurrence.incident, number=11, checkin=checkin)
    factories.NotificationFactory(incident=occurrence.incident)
    for prune in (prune_occurrences, prune_notifications, prune_incidents, prune_issues):
        assert prune(now=LATER) == 0
    assert (Occurrence.objects.count(), Notification.objects.count(), Issue.objects.count()) == (2, 1, 1)


def test_d42_an_incident_that_is_kept_goes_on_explaining_itself(settings):
    settings.INCIDENT_RETENTION_DAYS = 0
    first = factories.OccurrenceFactory(incident=ended(NOW), number=10)
    assert prune_occurrences(now=LATER) == 0
    first.refresh_from_db()
    assert first.explanation["kind"] == "error"


def test_d42_an_incident_goes_with_its_occurrences_and_notifications_and_then_its_issue():
    incident = ended(NOW)
    factories.OccurrenceFactory(incident=incident, number=1)
    factories.NotificationFactory(incident=incident)
    assert prune_issues(now=LATER) == 0, "not before its incident"
    assert prune_incidents(now=LATER) == 3
    assert prune_issues(now=LATER) == 1


def test_d42_an_archived_issue_stays_since_a_person_said_so():
    factories.IssueFactory(status="archived")
    assert prune_issues(now=LATER) == 0


def test_d42_what_is_parked_is_left_to_those_who_settle_it():
    factories.WaitingCheckInFactory()
    assert prune_failed_checkins(now=LATER) == 0


def test_d42_unfinished_ticks_and_what_they_marked_stay():
    factories.TickFactory(at=NOW, finished_at=None)
    factories.TickFactory(at=NOW + 400 * DAY)
    factories.AppliedTickFactory(tick=NOW)
    assert (prune_ticks(now=LATER), prune_applied_ticks(now=LATER)) == (0, 0)


def test_d42_the_newest_sixty_days_of_the_ledger_stay_though_the_clock_stands():
    for day in (0, 1, 60, 61):
        factories.TickFactory(at=NOW - day * DAY)
    assert prune_ticks(now=LATER) == 1
    assert Tick.objects.earliest("at").at == NOW - 60 * DAY


@pytest.mark.parametrize("state", [{"ended_at": None}, {"summarised_at": None}], ids=["goes on", "not summed up"])
def test_d42_a_clock_incident_stays_until_it_is_summed_up(state):
    factories.ClockIncidentFactory(**({"summarised_at": None} | state))
    assert prune_clock_incidents(now=LATER) == 0


# --- Configurations ---------------------------------------------------------------------------------------------------


def snapshots():
    return set(ConfigSnapshot.objects.values_list("id", flat=True))


def test_d42_a_configuration_goes_when_it_is_in_force_nowhere_and_its_check_ins_are_past_keeping(settings):
    settings.CHECKIN_RETENTION_DAYS, settings.CONFIG_SNAPSHOT_RETENTION_DAYS = 90, 20
    monitor = factories.MonitorFactory()
    old = monitor.config_id
    update_monitor(monitor.id, {"checkin_margin": 7}, now=NOW)
    new = Monitor.objects.get().config_id
    assert prune_config_snapshots(now=NOW) == 0
    assert [prune_former_rules(now=NOW + days * DAY) for days in (38, 39)] == [0, 1], (
        "slots of then may still be judged"
    )
    since = NOW + 39 * DAY
    assert prune_config_snapshots(now=since) == 0
    assert prune_config_snapshots(now=since + 100 * DAY) == 0
    assert snapshots() == {old, new}
    assert prune_config_snapshots(now=since + 100 * DAY + SECOND) == 1
    assert snapshots() == {new}


def test_d42_a_configuration_that_is_in_force_again_starts_anew():
    monitor = factories.MonitorFactory(checkin_margin=1)
    update_monitor(monitor.id, {"checkin_margin": 7}, now=NOW)
    prune_former_rules(now=LATER)
    prune_config_snapshots(now=NOW)
    update_monitor(monitor.id, {"checkin_margin": 1}, now=NOW)
    prune_former_rules(now=LATER)
    prune_config_snapshots(now=NOW + DAY)
    update_monitor(monitor.id, {"checkin_margin": 7}, now=NOW)
    prune_former_rules(now=LATER)
    assert prune_config_snapshots(now=NOW + 101 * DAY) == 0


def test_d42_without_an_end_of_check_ins_configurations_stay_too(settings):
    settings.CHECKIN_RETENTION_DAYS = 0
    monitor = factories.MonitorFactory()
    update_monitor(monitor.id, {"checkin_margin": 7}, now=NOW)
    prune_former_rules(now=LATER)
    prune_config_snapshots(now=NOW)
    assert prune_config_snapshots(now=LATER) == 0


@pytest.mark.django_db(transaction=True)
def test_d42_a_configuration_that_is_just_being_put_in_force_is_left_alone():
    monitor = factories.MonitorFactory()
    update_monitor(monitor.id, {"checkin_margin": 7}, now=NOW)
    prune_former_rules(now=LATER)
    prune_config_snapshots(now=NOW)
    returning = factories.MonitorFactory.build(project=monitor.project, checkin_margin=monitor.checkin_margin)
    with transaction.atomic():
        attach_config_snapshots([returning])
        assert elsewhere(lambda: prune_config_snapshots(now=LATER)) == 0
    assert prune_config_snapshots(now=LATER) == 1


# --- Pieces -----------------------------------------------------------------------------------------------------------


def test_d42_a_piece_has_a_bound_and_a_run_has_one(monkeypatch):
    monkeypatch.setattr(pruning, "PIECE_ROWS_MAX", 2)
    monkeypatch.setattr(pruning, "PIECES_MAX", 2)
    factories.HeldTickFactory.create_batch(7)
    monkeypatch.setattr("clocktasks.tasks.utcnow", lambda: LATER)
    assert [clock_tasks.keep_house() for _ in range(3)] == [4, 3, 0]


def test_d42_a_step_that_fails_keeps_no_other_from_its_work(caplog):
    def breaks():
        raise ValueError("of a row that nobody thought of")

    left = [3, 2]
    assert pruning.run_steps([breaks, lambda: left.pop() if left else 0]) == 5
    assert "of a row that nobody thought of" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_d42_two_runs_at_once_share_the_work_and_wait_for_nobody(monkeypatch):
    monkeypatch.setattr(pruning, "PIECE_ROWS_MAX", 2)
    factories.HeldTickFactory.create_batch(3)
    with transaction.atomic():
        assert prune_held_ticks(now=LATER) == 2
        assert elsewhere(lambda: prune_held_ticks(now=LATER)) == 1
    assert not HeldTick.objects.exists()


def test_d42_sessions_go_when_they_expire():
    Session.objects.create(session_key="a", session_data="", expire_date=NOW)
    assert prune_sessions(now=NOW) == 0
    assert prune_sessions(now=NOW + SECOND) == 1


def test_d42_gone_nodes_spans_and_volumes_go(settings):
    factories.IngestNodeFactory(state="left")
    factories.ListeningSpanFactory(until=NOW)
    factories.LostSpanFactory()
    factories.MinuteVolumeFactory()
    assert forget_gone_nodes(now=LATER) == 4


def test_d42_one_task_removes_all_that_is_past_keeping(monkeypatch):
    monkeypatch.setattr("checkins.tasks.utcnow", lambda: LATER)
    monkeypatch.setattr(pruning, "database_now", lambda now: now)
    factories.OccurrenceFactory(incident=ended(NOW), number=11)
    factories.NotificationFactory(incident=ended(NOW))
    factories.ProcessingErrorFactory()
    factories.AuditEntryFactory()
    keep_house()
    for model in (Occurrence, Notification, Incident, Issue, ProcessingError, AuditEntry):
        assert not model.objects.exists()
