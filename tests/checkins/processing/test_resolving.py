"""Which monitor and environment a check-in is about, and what it creates or changes of them."""

from datetime import timedelta

import pytest

from checkins.editing import delete_environments
from checkins.messages import ProblemKind, Source
from checkins.models import CheckIn
from checkins.processing.apply import receive
from monitors.hot_rows import state_of
from monitors.models import Environment, Monitor, MonitorEnvironment
from tests.factories import NOW, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def kinds(outcome):
    return [problem.kind for problem in outcome.problems]


def environment_of(monitor, name="production"):
    return MonitorEnvironment.objects.get(monitor=monitor, environment__name=name)


def history(monitor):
    """Statuses of the monitor's check-ins in the order of their start."""
    return list(
        CheckIn.objects.filter(monitor_environment__monitor=monitor)
        .order_by("date_added", "id")
        .values_list("status", flat=True)
    )


# --- The monitor ------------------------------------------------------------------------------------------------------


def test_an_unknown_monitor_without_configuration_is_refused():
    project = ProjectFactory()
    [outcome] = receive([make_message("ok", project_id=project.id, source=Source.REST)], now=NOW)
    assert (outcome.accepted, kinds(outcome)) == (False, [ProblemKind.MONITOR_NOT_FOUND])
    assert not CheckIn.objects.exists()


def test_a_slug_of_another_project_is_unknown():
    monitor = MonitorFactory()
    message = make_message("ok", monitor=monitor, project_id=ProjectFactory().id, source=Source.REST)
    [outcome] = receive([message], now=NOW)
    assert kinds(outcome) == [ProblemKind.MONITOR_NOT_FOUND]


def test_a_disabled_monitor_takes_no_check_ins():
    monitor = MonitorFactory(status="disabled")
    [outcome] = receive([make_message("ok", monitor=monitor)], now=NOW)
    assert (outcome.accepted, kinds(outcome)) == (False, [ProblemKind.MONITOR_DISABLED])
    assert not MonitorEnvironment.objects.exists()


# --- Environments (6.6) -----------------------------------------------------------------------------------------------


def test_the_first_check_in_creates_the_environment():
    monitor = MonitorFactory()
    receive([make_message("in_progress", monitor=monitor, environment="staging")], now=NOW)
    row = environment_of(monitor, "staging")
    assert (row.status, row.is_muted, row.shard, row.created_at) == ("active", False, monitor.id % 16, NOW)
    assert (row.next_checkin, row.next_checkin_latest) == (NOW + 5 * MINUTE, NOW + 6 * MINUTE)


def test_monitors_of_a_project_share_their_environments():
    project = ProjectFactory()
    monitors = [MonitorFactory(project=project), MonitorFactory(project=project)]
    receive([make_message("ok", monitor=monitor) for monitor in monitors], now=NOW)
    assert Environment.objects.count() == 1
    assert MonitorEnvironment.objects.count() == 2


def test_a_new_environment_of_a_muted_monitor_starts_muted():
    monitor = MonitorFactory(is_muted=True)
    receive([make_message("ok", monitor=monitor)], now=NOW)
    assert environment_of(monitor).is_muted


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_one_environment_more_than_allowed_is_refused(settings, at_once):
    settings.ENVIRONMENTS_PER_MONITOR = 2
    monitor = MonitorFactory()
    messages = [make_message("ok", monitor=monitor, environment=name, run=n) for n, name in enumerate("abc")]
    outcomes = receive(messages, now=NOW) if at_once else [receive([message], now=NOW)[0] for message in messages]
    assert [kinds(outcome) for outcome in outcomes] == [[], [], [ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED]]
    assert sorted(Environment.objects.values_list("name", flat=True)) == ["a", "b"]
    [known] = receive([make_message("ok", monitor=monitor, environment="a", run=9)], now=NOW)
    assert known.accepted


def test_a_deleted_environment_leaves_room_and_starts_anew():
    monitor = MonitorFactory()
    receive([make_message("error", monitor=monitor, run=1)], now=NOW)
    delete_environments(monitor.id, ["production"])
    receive([make_message("in_progress", monitor=monitor, at=NOW + MINUTE, run=2)], now=NOW)
    assert environment_of(monitor).status == "active"


# --- Configurations (6.5) ---------------------------------------------------------------------------------------------


def test_a_configuration_creates_its_monitor():
    project = ProjectFactory()
    config = make_config(
        "0 3 * * *",
        timezone="Europe/Berlin",
        checkin_margin_minutes=7,
        max_runtime_minutes=40,
        failure_threshold=2,
        recovery_threshold=3,
        owner="team:night",
    )
    message = make_message("ok", project_id=project.id, slug="backup", raw_slug="Backup!", config=config)
    [outcome] = receive([message], now=NOW)
    assert (outcome.accepted, outcome.problems) == (True, [])
    monitor = Monitor.objects.get()
    assert (monitor.slug, monitor.status, monitor.is_upserting) == ("backup", "active", True)
    assert (monitor.schedule_type, monitor.crontab, monitor.timezone) == ("crontab", "0 3 * * *", "Europe/Berlin")
    assert (monitor.checkin_margin, monitor.max_runtime) == (7, 40)
    assert (monitor.failure_threshold, monitor.recovery_threshold, monitor.owner) == (2, 3, "team:night")
    assert monitor.config.config["crontab"] == "0 3 * * *"
    assert f"{environment_of(monitor).next_checkin:%d %H:%M}" == "06 02:00"


def test_what_a_configuration_does_not_name_has_its_default():
    receive([make_message("ok", project_id=ProjectFactory().id, config=make_config())], now=NOW)
    monitor = Monitor.objects.get()
    assert (monitor.checkin_margin, monitor.max_runtime, monitor.timezone) == (1, 30, "UTC")
    assert (monitor.failure_threshold, monitor.recovery_threshold, monitor.owner) == (1, 1, "")


def test_a_configuration_changes_what_it_names_and_keeps_the_rest():
    monitor = MonitorFactory(checkin_margin=9, max_runtime=50, timezone="Asia/Tokyo", owner="user:ann")
    receive([make_message("ok", monitor=monitor, config=make_config("0 * * * *", max_runtime_minutes=20))], now=NOW)
    monitor.refresh_from_db()
    assert (monitor.crontab, monitor.max_runtime, monitor.is_upserting) == ("0 * * * *", 20, True)
    assert (monitor.checkin_margin, monitor.timezone, monitor.owner) == (9, "Asia/Tokyo", "user:ann")


def test_the_check_in_is_judged_by_the_configuration_that_it_brought():
    row = MonitorEnvironmentFactory()
    config = make_config("0 * * * *", max_runtime_minutes=20, checkin_margin_minutes=4)
    receive([make_message("in_progress", monitor=row.monitor, at=NOW + MINUTE, config=config)], now=NOW)
    row.refresh_from_db()
    assert (row.next_checkin, row.next_checkin_latest) == (NOW + 60 * MINUTE, NOW + 64 * MINUTE)
    checkin = CheckIn.objects.get()
    row.monitor.refresh_from_db()
    assert (checkin.timeout_at, checkin.config_id) == (NOW + 21 * MINUTE, row.monitor.config_id)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(make_config("0 * * * *"), id="schedule"),
        pytest.param(make_config("*/5 * * * *", timezone="Asia/Kathmandu"), id="time zone"),
        pytest.param(make_config(checkin_margin_minutes=3), id="margin"),
        pytest.param(make_config(max_runtime_minutes=3), id="runtime"),
    ],
)
def test_d10_a_changed_configuration_recomputes_every_environment_from_now(config):
    monitor = MonitorFactory()
    long_ago = MonitorEnvironmentFactory(
        monitor=monitor, environment__name="staging", last_checkin=NOW - timedelta(days=3)
    )
    new = MonitorEnvironmentFactory(monitor=monitor, environment__name="never", status="active")
    at = NOW + timedelta(minutes=1, seconds=30)
    receive([make_message("ok", monitor=monitor, at=at, config=config)], now=NOW + 9 * MINUTE)
    long_ago.refresh_from_db()
    new.refresh_from_db()
    own = environment_of(monitor)
    assert long_ago.next_checkin == own.next_checkin > at
    assert state_of(long_ago).spans[-1].next_checkin_latest == own.next_checkin_latest
    assert long_ago.next_checkin_latest == NOW + timedelta(days=-3, minutes=6), "what came before waits for the clock"
    assert new.next_checkin is None


def test_an_unchanged_configuration_recomputes_nothing():
    monitor = MonitorFactory(is_upserting=True)
    long_ago = MonitorEnvironmentFactory(
        monitor=monitor, environment__name="staging", last_checkin=NOW - timedelta(days=3)
    )
    receive([make_message("ok", monitor=monitor, config=make_config())], now=NOW)
    before = long_ago.next_checkin
    long_ago.refresh_from_db()
    assert long_ago.next_checkin == before


def test_a_configuration_for_a_disabled_monitor_is_applied_although_the_check_in_is_refused():
    row = MonitorEnvironmentFactory(monitor__status="disabled")
    [outcome] = receive([make_message("ok", monitor=row.monitor, config=make_config("0 * * * *"))], now=NOW)
    assert (outcome.accepted, kinds(outcome)) == (False, [ProblemKind.MONITOR_DISABLED])
    row.monitor.refresh_from_db()
    row.refresh_from_db()
    assert (row.monitor.crontab, row.monitor.status, row.next_checkin) == ("0 * * * *", "disabled", None)


@pytest.mark.parametrize(
    ("run", "status", "still_upserting"),
    [
        pytest.param(2, "in_progress", False, id="a new run"),
        pytest.param(2, "ok", False, id="a new whole run"),
        pytest.param(1, "ok", True, id="the end of the run that brought it"),
    ],
)
def test_a_new_run_without_configuration_is_no_longer_upserting(run, status, still_upserting):
    monitor = MonitorFactory()
    receive([make_message("in_progress", monitor=monitor, run=1, config=make_config())], now=NOW)
    receive([make_message(status, monitor=monitor, at=NOW + MINUTE, run=run)], now=NOW)
    monitor.refresh_from_db()
    assert monitor.is_upserting is still_upserting


def test_an_owner_is_replaced_by_another_and_never_cleared():
    monitor = MonitorFactory(owner="user:ann")
    receive([make_message("ok", monitor=monitor, run=1, config=make_config(owner="user:bob"))], now=NOW)
    receive([make_message("ok", monitor=monitor, run=2, config=make_config())], now=NOW)
    monitor.refresh_from_db()
    assert monitor.owner == "user:bob"


def test_one_monitor_more_than_allowed_is_refused_though_its_configuration_is_good(settings):
    settings.MONITORS_PER_PROJECT = 2
    project = ProjectFactory()
    outcomes = receive(
        [
            make_message("ok", project_id=project.id, slug=slug, raw_slug=slug, config=make_config())
            for slug in ("a", "b", "c")
        ],
        now=NOW,
    )
    assert [kinds(outcome) for outcome in outcomes] == [[], [], [ProblemKind.MONITOR_LIMIT_EXCEEDED]]
    assert sorted(Monitor.objects.values_list("slug", flat=True)) == ["a", "b"]


def test_messages_of_a_batch_that_create_one_monitor_share_it():
    project = ProjectFactory()
    outcomes = receive(
        [
            make_message("in_progress", project_id=project.id, run=1, config=make_config()),
            make_message("ok", project_id=project.id, run=1, at=NOW + MINUTE),
            make_message("ok", project_id=project.id, run=2, environment="staging", config=make_config("0 * * * *")),
        ],
        now=NOW,
    )
    assert [outcome.accepted for outcome in outcomes] == [True] * 3
    assert Monitor.objects.get().crontab == "0 * * * *"
