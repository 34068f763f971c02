"""Maintenance windows: planned, edited and ended, and what they mean for slots, runs and errors."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from checkins.maintenance import (
    TooManyWindowsError,
    WindowOverError,
    change_tags,
    end_window,
    next_minute,
    plan_window,
    replace_window,
)
from checkins.models import CheckIn
from checkins.processing.apply import receive
from incidents.models import Incident, Occurrence
from incidents.notifications.letters import why
from monitors.hot_rows import lock_environments
from monitors.models import Environment, MaintenanceWindow, Monitor, MonitorEnvironment, Project
from tests.clocktasks.test_order_of_time import a_monitor, at, say, tick
from tests.factories import (
    NOW,
    MaintenanceWindowFactory,
    MonitorEnvironmentFactory,
    MonitorFactory,
    ProjectFactory,
)
from tests.messages import make_message

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def maintenance(monitor, begin, end, **fields):
    """A window of the project of a monitor, in minutes after the start."""
    return MaintenanceWindowFactory(
        project=monitor.project, starts_at=at(begin * 60), ends_at=at(end * 60), name="move", **fields
    )


def outcomes():
    return list(CheckIn.objects.order_by("date_added").values_list("status", "unknown_because"))


def row():
    return MonitorEnvironment.objects.get()


# --- slots ------------------------------------------------------------------------------------------------------------


def test_slots_inside_are_unknown_and_neither_fail_nor_end_a_streak():
    monitor = a_monitor(failure_threshold=2)
    maintenance(monitor, 3, 6)
    say(monitor, ("ok", 61, 1))
    tick(7)  # 13:02 is missed at 13:03; 13:06 is missed at 13:07.

    inside = ("unknown", "maintained")
    assert outcomes() == [("ok", None), ("missed", None), inside, inside, inside, ("missed", None)]
    assert (row().failure_streak, Incident.objects.get().opened_at) == (2, at(420))


def test_a_slot_from_before_whose_margin_ends_inside_is_unknown():
    monitor = a_monitor(crontab="0 * * * *", checkin_margin=10)
    maintenance(monitor, 65, 80)
    say(monitor, ("ok", 1, 1))
    tick(70)
    assert outcomes() == [("ok", None), ("unknown", "maintained")]


def test_a_slot_with_time_before_and_after_is_missed():
    monitor = a_monitor(crontab="0 * * * *", checkin_margin=10)
    maintenance(monitor, 62, 65)
    say(monitor, ("ok", 1, 1))
    tick(70)
    assert outcomes() == [("ok", None), ("missed", None)]


def test_a_run_inside_serves_its_slot():
    monitor = a_monitor()
    maintenance(monitor, 1, 5)
    say(monitor, ("ok", 1, 1), ("ok", 61, 2))
    tick(2)
    assert outcomes() == [("ok", None), ("ok", None)]


# --- runs -------------------------------------------------------------------------------------------------------------


def started(monitor):
    """A run that is due at 13:02:30."""
    say(monitor, ("in_progress", 30, 1))


def daily(**fields):
    return a_monitor(crontab="0 12 * * *", **fields)


def test_a_deadline_inside_moves_to_the_end_of_the_window():
    monitor = daily()
    maintenance(monitor, 2, 10)
    started(monitor)
    tick(9)
    assert outcomes() == [("in_progress", None)]
    tick(10)
    run = CheckIn.objects.get()
    assert (run.status, run.failed_at, Incident.objects.get().opened_at) == ("timeout", at(600), at(600))


def test_p8_the_explanation_names_the_window_with_which_the_time_of_a_run_ended():
    monitor = daily()
    maintenance(monitor, 2, 10)
    started(monitor)
    tick(11)
    explanation = Occurrence.objects.get().explanation
    assert explanation["deadline_at"] == "2026-01-05T13:10:00Z"
    assert explanation["clock_decision"] == "at the end of the maintenance window: move"
    assert "(Judged later than usual: at the end of the maintenance window: move.)" in why(explanation)


@pytest.mark.parametrize("looks", [(), (3,)], ids=["before the clock looked", "after it"])
@pytest.mark.parametrize("run", [1, None], ids=["with its id", "without"])
def test_a_run_that_was_due_inside_may_end_until_the_window_does(looks, run):
    monitor = daily()
    maintenance(monitor, 2, 10)
    say(monitor, ("in_progress", 30, run))
    for minute in looks:
        tick(minute)
    say(monitor, ("ok", 500, run))
    tick(11)
    assert outcomes() == [("ok", None)]
    assert (row().ok_streak, row().has_deferred) == (1, False)


def test_a_deadline_at_the_first_instant_is_judged_then():
    monitor = daily()
    maintenance(monitor, 3, 10)
    say(monitor, ("in_progress", 60, 1))
    tick(3)
    assert CheckIn.objects.get().failed_at == at(180)


def test_the_clock_looks_once_at_a_run_that_it_puts_off():
    monitor = daily()
    maintenance(monitor, 2, 10)
    started(monitor)
    tick(3)
    with CaptureQueriesContext(connection) as queries:
        tick(8)
    assert not [query for query in queries if "FOR UPDATE OF me" in query["sql"]]


# --- errors and oks ---------------------------------------------------------------------------------------------------


def test_an_error_inside_is_recorded_and_does_not_count():
    monitor = daily()
    maintenance(monitor, 2, 10)
    say(monitor, ("error", 130, 1))
    error = CheckIn.objects.get()
    assert (error.status, error.failed_at, error.unknown_because) == ("error", None, "maintained")
    assert (row().failure_streak, Incident.objects.count()) == (0, 0)


def test_an_error_outside_of_a_run_that_began_inside_counts():
    monitor = daily(max_runtime=30)
    maintenance(monitor, 2, 10)
    say(monitor, ("in_progress", 130, 1), ("error", 600, 1))
    assert (CheckIn.objects.get().failed_at, Incident.objects.count()) == (at(600), 1)


def test_a_run_that_failed_inside_and_again_outside_counts_then():
    monitor = daily(max_runtime=30)
    maintenance(monitor, 2, 10)
    say(monitor, ("error", 130, 1))
    receive([make_message("error", monitor=monitor, at=at(610), run=1, duration_ms=5)], now=at(610))
    error = CheckIn.objects.get()
    assert (error.failed_at, error.unknown_because, row().failure_streak) == (at(610), None, 1)


def test_an_ok_inside_counts():
    """A job that works during maintenance works: what was wrong before is over."""
    monitor = daily()
    say(monitor, ("error", 1, 1))
    maintenance(monitor, 2, 10)
    say(monitor, ("ok", 130, 2))
    assert Incident.objects.get().resolved_at == at(130)


def test_d39_above_the_limit_an_error_inside_gets_no_row(settings):
    settings.CHECKINS_PER_MINUTE = 1
    monitor = daily()
    maintenance(monitor, 0, 10)
    say(monitor, *[("error", 10, number) for number in range(1, 15)])
    assert CheckIn.objects.count() == 10


# --- what a window is about -------------------------------------------------------------------------------------------


def windows_of(monitor_environment, since=NOW):
    with transaction.atomic():
        locked = lock_environments([monitor_environment.id], since=since)
    return [window.name for window in locked[monitor_environment.id].windows]


@pytest.fixture
def place():
    return MonitorEnvironmentFactory(monitor__tags=["night", "money"])


def test_a_window_of_the_project_is_about_all_of_it(place):
    MaintenanceWindowFactory(project=place.monitor.project, name="all")
    MaintenanceWindowFactory(name="another project")
    assert windows_of(place) == ["all"]


def test_a_window_of_a_monitor_is_about_that_one(place):
    other = MonitorFactory(project=place.monitor.project)
    for monitor in (place.monitor, other):
        MaintenanceWindowFactory(project=monitor.project, monitor=monitor, name=monitor.slug)
    assert windows_of(place) == [place.monitor.slug]


def test_a_window_of_a_tag_is_about_monitors_with_it(place):
    for tag in ("night", "day"):
        MaintenanceWindowFactory(project=place.monitor.project, tag=tag, name=tag)
    assert windows_of(place) == ["night"]


def test_a_window_of_an_environment_is_about_that_one(place):
    staging = Environment.objects.create(project=place.monitor.project, name="staging")
    for environment in (place.environment, staging):
        MaintenanceWindowFactory(
            project=place.monitor.project, environment=environment, tag="night", name=environment.name
        )
    assert windows_of(place) == ["production"]


def test_a_window_that_ended_is_asked_for_as_long_as_runs_may_go_on(place):
    MaintenanceWindowFactory(project=place.monitor.project)
    assert windows_of(place, since=NOW + timedelta(days=7)) != []
    MonitorEnvironment.objects.update(pending_slot=None, next_checkin=None, next_checkin_latest=None)
    assert windows_of(place, since=NOW + timedelta(days=7, hours=1)) == []


# --- planning, ending, editing ----------------------------------------------------------------------------------------


def planned(now=NOW, **fields):
    fields = {"project": fields.pop("project", None) or ProjectFactory(), "name": "move", **fields}
    if "crontab" not in fields:
        fields.setdefault("ends_at", NOW + timedelta(hours=2))
    fields.setdefault("starts_at", NOW + timedelta(hours=1))
    return plan_window(MaintenanceWindow(**fields), now=now)


@pytest.mark.parametrize(("second", "minute"), [(0, 1), (30, 1), (55, 1), (55.1, 2), (59.9, 2)])
def test_a_window_begins_and_ends_at_a_minute_to_come(second, minute):
    assert next_minute(NOW + timedelta(seconds=second)) == NOW + minute * MINUTE


def test_a_window_that_began_before_it_was_planned_begins_at_the_next_minute():
    assert planned(starts_at=NOW - timedelta(hours=1)).starts_at == NOW + MINUTE


def test_a_project_has_only_so_many_windows_that_have_not_ended(settings):
    settings.MAINTENANCE_WINDOWS_MAX = 2
    project = ProjectFactory()
    first = planned(project=project, starts_at=NOW - MINUTE)
    planned(project=project, crontab="0 3 * * *", minutes=10)
    with pytest.raises(TooManyWindowsError, match="The project has 2 maintenance windows"):
        planned(project=project)
    end_window(first.id, now=NOW + 5 * MINUTE)
    planned(project=project, now=NOW + 7 * MINUTE)


def test_a_window_that_goes_on_ends_at_the_next_minute():
    window = planned()
    assert end_window(window.id, now=NOW + timedelta(minutes=90))
    window.refresh_from_db()
    assert (window.starts_at, window.ends_at) == (NOW + timedelta(hours=1), NOW + timedelta(minutes=91))
    assert not end_window(window.id, now=NOW + timedelta(minutes=92))


def test_a_window_that_has_not_begun_is_removed():
    window = planned()
    assert end_window(window.id, now=NOW)
    assert not MaintenanceWindow.objects.exists()
    assert not end_window(window.id, now=NOW)


def test_an_edit_ends_a_window_and_plans_another():
    old = planned(starts_at=NOW)
    new = replace_window(
        old.id,
        MaintenanceWindow(project=old.project, name="longer", starts_at=NOW, ends_at=NOW + timedelta(hours=5)),
        now=NOW + timedelta(minutes=30),
    )
    old.refresh_from_db()
    assert (old.ends_at, new.starts_at) == (NOW + timedelta(minutes=31), NOW + timedelta(minutes=31))


def test_of_two_edits_one_is_refused():
    old = planned(starts_at=NOW)
    fields = {"project": old.project, "name": "longer", "starts_at": NOW, "ends_at": NOW + timedelta(hours=5)}
    replace_window(old.id, MaintenanceWindow(**fields), now=NOW)
    with pytest.raises(WindowOverError, match="somebody else has just changed it"):
        replace_window(old.id, MaintenanceWindow(**fields), now=NOW)
    assert MaintenanceWindow.objects.filter(name="longer").count() == 1


def test_a_project_knows_until_when_it_has_windows():
    project = ProjectFactory()

    def until():
        return Project.objects.get(id=project.id).maintained_until

    assert until() is None
    once = planned(project=project)
    assert until() == once.ends_at
    rule = planned(project=project, crontab="0 3 * * *", minutes=10)
    assert until() == datetime(9999, 1, 1, tzinfo=UTC)
    end_window(rule.id, now=NOW)
    assert until() == once.ends_at


def test_a_monitor_remembers_the_tags_that_it_had():
    monitor = MonitorFactory(tags=["a"])
    change_tags(monitor.id, ["a"], now=NOW)
    assert Monitor.objects.get().former_tags is None
    change_tags(monitor.id, ["b"], now=NOW)
    change_tags(monitor.id, ["c"], now=NOW + timedelta(seconds=10))  # In the same minute.
    change_tags(monitor.id, [], now=NOW + MINUTE)
    monitor.refresh_from_db()
    assert (monitor.tags, monitor.former_tags) == (
        [],
        [["2026-01-05T10:01:00+00:00", ["a"]], ["2026-01-05T10:02:00+00:00", ["c"]]],
    )


def test_a_monitor_remembers_only_so_many_edits_of_its_tags():
    monitor = MonitorFactory()
    for number in range(25):
        change_tags(monitor.id, [str(number)], now=NOW + number * MINUTE)
    former = Monitor.objects.get().former_tags
    assert former is not None
    assert (len(former), former[-1][1]) == (20, ["23"])


# --- what it costs ----------------------------------------------------------------------------------------------------


def statements(ids):
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        lock_environments(ids, since=NOW)
    return len(queries)


def test_p7_where_no_project_has_a_window_nothing_more_is_asked():
    places = [MonitorEnvironmentFactory() for _ in range(3)]
    MaintenanceWindowFactory()
    assert statements([place.id for place in places]) == 2


def test_p7_the_number_of_statements_does_not_grow_with_windows():
    places = [MonitorEnvironmentFactory(monitor__tags=["a"]) for _ in range(3)]
    ids = [place.id for place in places]
    seen = []
    for _ in range(2):
        for place in places:
            project = place.monitor.project
            MaintenanceWindowFactory(project=project, monitor=place.monitor)
            MaintenanceWindowFactory(project=project, tag="a")
            MaintenanceWindowFactory(project=project, crontab="0 * * * *")
        seen.append(statements(ids))
    assert seen == [4, 4]
