"""Creating, editing, muting and deleting monitors (docs/reference/behaviour.md, sections 10 and 17; D10, D15)."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from msgspec.structs import replace

from checkins.editing import delete_environments, delete_monitors, set_monitors_status, update_monitor
from checkins.models import CheckIn
from checkins.processing.apply import receive
from clocktasks.kinds.timeout import mark_timeouts
from incidents.models import Incident
from monitors.changes import attach_config_snapshots
from monitors.hot_rows import state_of
from monitors.models import ConfigSnapshot, Monitor, MonitorEnvironment
from monitors.services import create_monitor, set_environments_muted, set_monitors_muted
from monitors.state import MonitorStatus
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory
from tests.messages import make_config, make_message, run_id

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def times(row):
    row.refresh_from_db()
    return [
        None if at is None else f"{at:%H:%M}" for at in (row.pending_slot, row.next_checkin, row.next_checkin_latest)
    ]


def environments(monitor, *names):
    return [MonitorEnvironmentFactory(monitor=monitor, environment__name=name) for name in names]


# --- Creating ---------------------------------------------------------------------------------------------------------


def test_a_new_monitor_points_at_the_snapshot_of_its_configuration():
    monitor = create_monitor(MonitorFactory.build(project=ProjectFactory(), crontab="0 3 * * *", config=None))
    monitor.refresh_from_db()
    assert monitor.config.config == {
        "schedule_type": "crontab",
        "crontab": "0 3 * * *",
        "interval": None,
        "interval_unit": None,
        "timezone": "UTC",
        "checkin_margin": 1,
        "max_runtime": 30,
        "failure_threshold": 1,
        "recovery_threshold": 1,
    }


def test_equal_configurations_share_a_snapshot_and_a_thousand_cost_two_statements():
    monitors = [MonitorFactory.build(crontab=f"{n % 60} * * * *") for n in range(1_000)]
    with CaptureQueriesContext(connection) as queries:
        attach_config_snapshots(monitors)
    assert (len(queries), ConfigSnapshot.objects.count()) == (2, 60)
    assert monitors[0].config_id == monitors[60].config_id != monitors[1].config_id


def test_a_slug_that_is_taken_is_refused():
    monitor = MonitorFactory()
    with pytest.raises(IntegrityError):
        create_monitor(MonitorFactory.build(project=monitor.project, slug=monitor.slug, config=None))


# --- Editing (D10) ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"crontab": "30 * * * *"}, ["10:30", "10:30", "10:32"], id="schedule"),
        pytest.param({"timezone": "Asia/Kathmandu"}, ["10:15", "10:15", "10:17"], id="time zone"),
        pytest.param({"checkin_margin": 9}, ["11:00", "11:00", "11:09"], id="margin"),
        pytest.param({"max_runtime": 7}, ["11:00", "11:00", "11:02"], id="runtime"),
        pytest.param(
            {"schedule_type": "interval", "crontab": None, "interval": 20, "interval_unit": "minute"},
            ["10:23", "10:23", "10:25"],
            id="kind of schedule",
        ),
    ],
)
def test_d10_changing_what_is_expected_counts_from_now_in_every_environment(changes, expected):
    monitor = MonitorFactory(crontab="0 * * * *", checkin_margin=2)
    rows = environments(monitor, "production", "staging")
    overdue = MonitorEnvironmentFactory(
        monitor=monitor, environment__name="overdue", last_checkin=NOW - timedelta(days=3)
    )
    update_monitor(monitor.id, changes, now=NOW + 3 * MINUTE)
    assert [times(row) for row in rows] == [expected] * 2
    # What came before is still judged by the rules of then (D32): three days ago at 11:00, with a margin of 2.
    assert times(overdue) == ["11:00", expected[1], "11:02"]
    newest = state_of(overdue).spans[-1]
    assert [f"{at:%H:%M}" for at in (newest.pending_slot, newest.next_checkin, newest.next_checkin_latest)] == expected


@pytest.mark.parametrize(
    "changes", [{"name": "New"}, {"failure_threshold": 3}, {"recovery_threshold": 3}, {"owner": "team:x"}, {}]
)
def test_other_changes_leave_the_expected_times(changes):
    row = MonitorEnvironmentFactory(monitor__crontab="*/5 * * * *", last_checkin=NOW - timedelta(days=1))
    before = times(row)
    update_monitor(row.monitor_id, changes, now=NOW + 3 * MINUTE)
    assert times(row) == before
    row.monitor.refresh_from_db()
    assert {column: getattr(row.monitor, column) for column in changes} == changes


def test_d10_an_environment_that_heard_nothing_still_expects_nothing():
    row = MonitorEnvironmentFactory(status="active")
    update_monitor(row.monitor_id, {"crontab": "0 * * * *"}, now=NOW)
    assert times(row) == [None] * 3


def test_d32_slots_that_the_clock_has_not_judged_yet_wait_with_the_rules_of_then():
    """The clock is away: 10:05 and 10:10 wait to be judged, and the check-in of 10:12 is remembered beside them."""
    row = MonitorEnvironmentFactory()
    receive([make_message("ok", monitor=row.monitor, at=NOW + 12 * MINUTE)], now=NOW + 12 * MINUTE)
    row.refresh_from_db()
    assert (times(row), len(row.served_ahead)) == (["10:05", "10:15", "10:06"], 1)
    update_monitor(row.monitor_id, {"checkin_margin": 3}, now=NOW + 13 * MINUTE)
    assert (times(row), row.served_ahead) == (["10:05", "10:15", "10:06"], None)
    older, newest = state_of(row).spans
    assert (older.until, len(older.served_ahead), newest.pending_slot) == (NOW + 13 * MINUTE, 1, NOW + 15 * MINUTE)


def test_an_edit_points_the_monitor_at_another_snapshot_and_old_check_ins_keep_theirs():
    checkin = CheckInFactory()
    before = checkin.config_id
    monitor = update_monitor(checkin.monitor_environment.monitor_id, {"checkin_margin": 9}, now=NOW)
    checkin.refresh_from_db()
    assert checkin.config_id == before != monitor.config_id
    assert monitor.config.config["checkin_margin"] == 9


def test_d31_a_longer_runtime_moves_the_deadlines_of_running_check_ins_only():
    row = MonitorEnvironmentFactory()
    start = NOW + timedelta(seconds=40)
    running = CheckInFactory(monitor_environment=row, status="in_progress", date_added=start)
    ended = CheckInFactory(monitor_environment=row, status="ok", date_added=start)
    elsewhere = CheckInFactory(status="in_progress", date_added=start)
    late = CheckInFactory(
        monitor_environment=row,
        status="in_progress",
        date_added=start,
        timeout_at=NOW + MINUTE,
        finished_status="ok",
        finished_at=NOW + MINUTE,
    )
    update_monitor(row.monitor_id, {"max_runtime": 70}, now=NOW + 2 * MINUTE)
    deadlines = [CheckIn.objects.get(id=checkin.id).timeout_at for checkin in (running, ended, elsewhere, late)]
    # The run that ended after its old deadline has passed it already.
    assert deadlines == [start + 70 * MINUTE, None, elsewhere.timeout_at, late.timeout_at]


def test_d31_a_longer_runtime_counts_from_when_the_run_was_last_heard_of():
    row = MonitorEnvironmentFactory()
    run = CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW, date_updated=NOW + 20 * MINUTE)
    update_monitor(row.monitor_id, {"max_runtime": 60}, now=NOW + 25 * MINUTE)
    assert CheckIn.objects.get(id=run.id).timeout_at == NOW + 80 * MINUTE


def test_d31_an_end_that_came_too_late_is_no_message_that_a_longer_runtime_counts_from():
    """The edit was received before the deadline, and is stored after that end."""
    row = MonitorEnvironmentFactory()
    late = NOW + 35 * MINUTE
    run = CheckInFactory(
        monitor_environment=row,
        status="in_progress",
        date_added=NOW,
        date_updated=late,
        finished_status="error",
        finished_at=late,
    )
    update_monitor(row.monitor_id, {"max_runtime": 32}, now=NOW + 10 * MINUTE)
    assert CheckIn.objects.get(id=run.id).timeout_at == NOW + 32 * MINUTE


def test_d31_no_runtime_keeps_a_run_alive_for_more_than_seven_days():
    row = MonitorEnvironmentFactory()
    run = CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW, date_updated=NOW + 20 * MINUTE)
    update_monitor(row.monitor_id, {"max_runtime": 10_080}, now=NOW + 25 * MINUTE)
    assert CheckIn.objects.get(id=run.id).timeout_at == NOW + timedelta(days=7)


def test_d31_a_shorter_runtime_leaves_the_deadlines_of_running_check_ins():
    row = MonitorEnvironmentFactory()
    run = CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW)
    update_monitor(row.monitor_id, {"max_runtime": 7}, now=NOW + MINUTE)
    assert CheckIn.objects.get(id=run.id).timeout_at == run.timeout_at


def test_d31_a_deadline_that_has_passed_is_the_clocks():
    row = MonitorEnvironmentFactory()
    run = CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW)
    update_monitor(row.monitor_id, {"max_runtime": 70}, now=run.timeout_at)
    assert CheckIn.objects.get(id=run.id).timeout_at == run.timeout_at


def test_editing_a_monitor_that_is_not_there_is_an_error():
    with pytest.raises(Monitor.DoesNotExist):
        update_monitor(17, {"name": "x"}, now=NOW)


def test_a_slug_that_another_monitor_has_is_refused():
    monitor = MonitorFactory()
    other = MonitorFactory(project=monitor.project)
    with pytest.raises(IntegrityError):
        update_monitor(other.id, {"slug": monitor.slug}, now=NOW)


# --- Switching on and off ---------------------------------------------------------------------------------------------


def test_d23_a_deadline_that_passed_while_the_monitor_was_disabled_is_unknown_however_late_the_clock_is():
    row = MonitorEnvironmentFactory()
    due_before, due_meanwhile, due_later, ended = (
        CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW, timeout_at=NOW + minutes * MINUTE)
        for minutes in (1, 10.5, 99, 11)
    )
    CheckIn.objects.filter(id=ended.id).update(finished_status="error", finished_at=NOW + 12 * MINUTE)
    set_monitors_status([row.monitor_id], MonitorStatus.DISABLED, now=NOW + 2 * MINUTE)
    set_monitors_status([row.monitor_id], MonitorStatus.ACTIVE, now=NOW + 20 * MINUTE)
    for run in (due_before, due_meanwhile, due_later, ended):
        run.refresh_from_db()
    assert [run.status for run in (due_before, due_later)] == ["in_progress"] * 2
    assert (due_meanwhile.status, due_meanwhile.unknown_because) == ("unknown", "disabled")
    assert due_meanwhile.date_updated == NOW + 11 * MINUTE
    assert (ended.status, ended.failed_at, ended.unknown_because) == ("error", None, None)


def test_d23_what_was_due_before_the_monitor_was_disabled_is_judged_as_ever():
    row = MonitorEnvironmentFactory()
    run = CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW, timeout_at=NOW + MINUTE)
    set_monitors_status([row.monitor_id], MonitorStatus.DISABLED, now=NOW + 2 * MINUTE)
    mark_timeouts(row.shard, NOW + 3 * MINUTE)
    run.refresh_from_db()
    assert (run.status, Incident.objects.count()) == ("timeout", 1)


def test_d10_a_disabled_monitor_expects_nothing_and_an_enabled_one_counts_from_now():
    monitor = MonitorFactory(crontab="*/5 * * * *")
    rows = environments(monitor, "production", "staging")
    assert set_monitors_status([monitor.id], MonitorStatus.DISABLED, now=NOW + MINUTE) == 1
    assert [times(row) for row in rows] == [[None] * 3] * 2
    assert set_monitors_status([monitor.id], MonitorStatus.ACTIVE, now=NOW + 62 * MINUTE) == 1
    assert [times(row) for row in rows] == [["11:05", "11:05", "11:06"]] * 2


def test_disabling_keeps_status_streaks_and_the_open_incident():
    monitor = MonitorFactory()
    receive([make_message("error", monitor=monitor)], now=NOW)
    set_monitors_status([monitor.id], MonitorStatus.DISABLED, now=NOW + MINUTE)
    row = MonitorEnvironment.objects.get()
    assert (row.status, row.failure_streak, Incident.objects.filter(resolved_at=None).count()) == ("error", 1, 1)


def test_enabling_what_is_enabled_changes_nothing():
    row = MonitorEnvironmentFactory(last_checkin=NOW - timedelta(days=1))
    before = times(row)
    set_monitors_status([row.monitor_id], MonitorStatus.ACTIVE, now=NOW)
    assert times(row) == before


def test_many_monitors_cost_as_many_statements_as_few():
    costs = []
    for count in (2, 40):
        ids = [MonitorEnvironmentFactory().monitor_id for _ in range(count)]
        with CaptureQueriesContext(connection) as queries:
            assert set_monitors_status(ids, MonitorStatus.DISABLED, now=NOW) == count
        costs.append(len(queries))
    assert costs[0] == costs[1]


# --- Muting (10) ------------------------------------------------------------------------------------------------------


def muted(rows):
    return [MonitorEnvironment.objects.get(id=row.id).is_muted for row in rows]


def test_muting_a_monitor_mutes_all_its_environments_and_those_to_come():
    monitor, other = MonitorFactory(), MonitorEnvironmentFactory()
    rows = environments(monitor, "production", "staging")
    assert set_monitors_muted([monitor.id], True) == 1
    assert muted([*rows, other]) == [True, True, False]
    receive([make_message("ok", monitor=monitor, environment="new")], now=NOW)
    assert MonitorEnvironment.objects.get(environment__name="new").is_muted
    assert set_monitors_muted([monitor.id], False) == 1
    assert not MonitorEnvironment.objects.filter(is_muted=True).exists()


@pytest.mark.parametrize(("names", "starts_muted"), [(["a"], False), (["a", "b"], True)])
def test_an_environment_starts_muted_when_all_others_of_its_monitor_are(names, starts_muted):
    monitor = MonitorFactory()
    rows = dict(zip("ab", environments(monitor, "a", "b"), strict=True))
    assert set_environments_muted([rows[name].id for name in names], True) == len(names)
    receive([make_message("ok", monitor=monitor, environment="new")], now=NOW)
    assert MonitorEnvironment.objects.get(environment__name="new").is_muted is starts_muted


def test_muting_changes_nothing_else():
    row = MonitorEnvironmentFactory()
    before = state_of(row)
    set_environments_muted([row.id], True)
    row.refresh_from_db()
    assert (state_of(row), row.is_muted) == (before, True)


# --- Deleting (17, D15) -----------------------------------------------------------------------------------------------


def test_a_deleted_monitor_is_out_of_sight_at_once_and_its_slug_is_free():
    monitor = MonitorFactory(slug="backup")
    [row] = environments(monitor, "production")
    assert delete_monitors([monitor.id], now=NOW) == 1
    monitor.refresh_from_db()
    assert (monitor.status, monitor.slug == "backup") == ("pending_deletion", False)
    assert times(row) == [None] * 3
    assert row.status == "pending_deletion"
    message = make_message("ok", project_id=monitor.project_id, slug="backup", raw_slug="backup")
    assert [outcome.accepted for outcome in receive([message], now=NOW)] == [False]
    [created] = receive([replace(message, config=make_config())], now=NOW)
    assert created.accepted
    assert Monitor.objects.get(slug="backup").id != monitor.id


def test_deleting_twice_deletes_once():
    monitor = MonitorFactory()
    assert [delete_monitors([monitor.id], now=NOW) for _ in range(2)] == [1, 0]


def test_a_deleted_monitor_cannot_be_switched_on_again():
    monitor = MonitorFactory()
    delete_monitors([monitor.id], now=NOW)
    assert set_monitors_status([monitor.id], MonitorStatus.ACTIVE, now=NOW) == 0


def test_deleting_an_environment_leaves_the_others_and_frees_its_name():
    monitor = MonitorFactory()
    kept, gone = environments(monitor, "production", "staging")
    assert delete_environments(monitor.id, ["staging"]) == 1
    assert (times(kept)[0], times(gone)) == ("10:05", [None] * 3)
    receive([make_message("ok", monitor=monitor, environment="staging", run=1)], now=NOW)
    assert CheckIn.objects.get(guid=run_id(1)).monitor_environment_id not in (kept.id, gone.id)


@pytest.mark.parametrize(
    "names", [[], ["no such"], ["Production"], [""]], ids=["none", "unknown", "another case", "empty"]
)
def test_d15_names_that_do_not_exist_delete_nothing(names):
    row = MonitorEnvironmentFactory()
    assert delete_environments(row.monitor_id, names) == 0
    row.refresh_from_db()
    row.monitor.refresh_from_db()
    assert (row.status, row.monitor.status) == ("ok", "active")


def test_d15_an_environment_of_another_monitor_is_not_deleted():
    row, other = MonitorEnvironmentFactory(), MonitorFactory()
    assert delete_environments(other.id, [row.environment.name]) == 0
    assert delete_monitors([], now=NOW) == delete_monitors([0, -1], now=NOW) == 0
    row.refresh_from_db()
    assert row.status == "ok"


def test_d23_a_run_that_was_going_on_in_a_deleted_environment_becomes_unknown():
    row = MonitorEnvironmentFactory(monitor__max_runtime=10)
    receive([make_message("in_progress", monitor=row.monitor, run=1)], now=NOW)
    delete_environments(row.monitor_id, ["production"])
    mark_timeouts(row.shard, NOW + 10 * MINUTE)
    row.refresh_from_db()
    run = CheckIn.objects.get(guid=run_id(1))
    assert (row.status, run.status, run.unknown_because) == ("pending_deletion", "unknown", "deleted")
    assert Incident.objects.count() == 0
