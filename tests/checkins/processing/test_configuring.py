"""D40: what people set can be locked, and what check-ins change is shown with the key that did."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkins.editing import update_monitor
from checkins.models import CheckIn, ProcessingError
from checkins.processing.apply import apply, receive
from checkins.processing.configuring import REFUSED_KEPT
from checkins.processing.finding import Hints
from monitors.models import CONFIG_CHANGES_KEPT, ConfigChange, Monitor
from monitors.services import lock_config_of_project
from tests import factories
from tests.factories import NOW
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
OLD, NEW, OTHER = "0 3 * * *", "30 5 * * *", "45 6 * * *"


@pytest.fixture
def monitor():
    return factories.MonitorFactory(crontab=OLD, failure_threshold=3, owner="team:a", is_config_locked=True)


def wants(monitor, crontab=NEW, *, minute=0, key=None, environment="production", **config):
    """A whole run of the job, which brings its configuration."""
    at = NOW + minute * MINUTE
    return make_message(
        "ok", monitor=monitor, at=at, key_id=key, environment=environment, config=make_config(crontab, **config)
    )


def hear(*messages):
    return [
        [problem.kind.value for problem in outcome.problems]
        for outcome in receive(messages, now=max(message.received_at for message in messages))
    ]


def told():
    return ProcessingError.objects.filter(kind="MONITOR_CONFIG_LOCKED")


def crontab_of(monitor):
    return Monitor.objects.get(pk=monitor.pk).crontab


def lock(monitor, value):
    update_monitor(monitor.pk, {"is_config_locked": value}, now=NOW)


# --- What is locked stays ---------------------------------------------------------------------------------------------


def test_d40_a_locked_monitor_keeps_all_that_people_set_and_the_check_in_counts(monitor):
    config = {
        "timezone": "Asia/Tokyo",
        "checkin_margin_minutes": 9,
        "max_runtime_minutes": 99,
        "failure_threshold": 700,
        "recovery_threshold": 7,
        "owner": "team:b",
    }
    before = dict(Monitor.objects.filter(pk=monitor.pk).values()[0])
    receive([wants(monitor, **config)], now=NOW)

    after = dict(Monitor.objects.filter(pk=monitor.pk).values()[0])
    assert {name for name in before if before[name] != after[name]} == {"is_upserting", "refused_changes"}
    assert CheckIn.objects.get().status == "ok"
    assert not ConfigChange.objects.exists()


def test_d40_the_error_says_what_the_check_in_wanted(monitor):
    hear(wants(monitor, failure_threshold=1))

    error = told().get()
    assert (error.monitor, error.field) == (monitor, "monitor_config")
    assert error.value == f"crontab={NEW}, failure_threshold=1"
    assert f"crontab from '{OLD}' to '{NEW}', failure_threshold from 3 to 1" in error.message


def test_d40_each_wanted_change_is_told_once_and_not_at_each_run(monitor):
    heard = [hear(wants(monitor, crontab, minute=n)) for n, crontab in enumerate((NEW, NEW, OTHER, NEW, OTHER, OLD))]

    once = [["MONITOR_CONFIG_LOCKED"]]
    assert heard == [once, [[]], once, [[]], [[]], [[]]]
    assert sum(error.count for error in told()) == 2


def test_d40_in_one_batch_it_is_told_once_too(monitor):
    assert hear(*(wants(monitor, minute=n) for n in range(3))) == [["MONITOR_CONFIG_LOCKED"], [], []]


def test_d40_another_configuration_of_the_monitor_makes_it_another_change(monitor):
    hear(wants(monitor))
    update_monitor(monitor.pk, {"crontab": OTHER}, now=NOW)

    assert hear(wants(monitor, minute=1)) == [["MONITOR_CONFIG_LOCKED"]]


def test_d40_a_monitor_remembers_so_many_refused_changes(monitor):
    hear(*(wants(monitor, f"{n} * * * *", minute=n) for n in range(REFUSED_KEPT + 5)))

    assert len(Monitor.objects.get().refused_changes or []) == REFUSED_KEPT


def test_d40_who_lifts_the_lock_has_the_next_check_in_taken_and_a_new_lock_tells_anew(monitor):
    hear(wants(monitor))
    lock(monitor, False)
    assert hear(wants(monitor, minute=1)) == [[]]
    assert crontab_of(monitor) == NEW

    update_monitor(monitor.pk, {"crontab": OLD, "is_config_locked": True}, now=NOW)
    assert hear(wants(monitor, minute=2)) == [["MONITOR_CONFIG_LOCKED"]]


def test_d40_what_is_as_the_monitor_is_already_is_no_change(monitor):
    assert hear(wants(monitor, OLD, failure_threshold=3), wants(monitor, OLD, minute=1)) == [[], []]


# --- The project's default --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project", "own", "is_kept"), [(True, None, True), (True, False, False), (False, True, True), (False, None, False)]
)
def test_d40_a_monitor_that_says_nothing_does_as_its_project_says(project, own, is_kept):
    monitor = factories.MonitorFactory(crontab=OLD, project__is_config_locked=project, is_config_locked=own)
    hear(wants(monitor))

    assert (crontab_of(monitor) == OLD) is is_kept


def test_d40_a_lock_of_the_project_that_is_set_anew_tells_anew():
    monitor = factories.MonitorFactory(crontab=OLD)
    lock_config_of_project(monitor.project_id, True)
    hear(wants(monitor))
    assert hear(wants(monitor, minute=1)) == [[]]

    lock_config_of_project(monitor.project_id, False)
    lock_config_of_project(monitor.project_id, True)
    assert hear(wants(monitor, minute=2)) == [["MONITOR_CONFIG_LOCKED"]]


def test_d40_a_locked_project_still_gets_new_monitors_and_keeps_them_as_they_came():
    project = factories.ProjectFactory(is_config_locked=True)
    first, second = (
        make_message("ok", project_id=project.id, at=NOW + n * MINUTE, config=make_config(crontab))
        for n, crontab in enumerate((OLD, NEW))
    )

    assert hear(first, second) == [[], ["MONITOR_CONFIG_LOCKED"]]
    assert Monitor.objects.get().crontab == OLD


# --- What a process remembers of monitors -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_locked", [True, False])
def test_d40_a_process_that_remembers_the_monitor_sees_that_its_lock_has_changed(monitor, is_locked):
    hints = Hints()
    lock(monitor, not is_locked)
    for minute in range(2):
        apply([wants(monitor, OLD, minute=minute)], now=NOW, hints=hints)
    lock(monitor, is_locked)
    apply([wants(monitor, minute=2)], now=NOW, hints=hints)

    assert (crontab_of(monitor) == OLD) is is_locked


def test_d40_a_process_that_has_told_a_refusal_takes_the_same_when_the_lock_is_lifted(monitor):
    hints = Hints()
    for minute in range(3):
        apply([wants(monitor, minute=minute)], now=NOW, hints=hints)
    lock(monitor, False)
    apply(
        [make_message("in_progress", monitor=monitor, at=NOW + 3 * MINUTE), wants(monitor, minute=4)],
        now=NOW,
        hints=hints,
    )

    assert crontab_of(monitor) == NEW


def test_d40_a_refusal_that_was_told_costs_one_look_and_no_write_of_the_monitor(monitor):
    hints = Hints()
    for minute in range(3):
        apply([wants(monitor, OLD, minute=minute)], now=NOW, hints=hints)
    with CaptureQueriesContext(connection) as ordinary:
        apply([wants(monitor, OLD, minute=3)], now=NOW, hints=hints)
    for minute in range(4, 6):
        apply([wants(monitor, minute=minute)], now=NOW, hints=hints)
    with CaptureQueriesContext(connection) as refused:
        apply([wants(monitor, minute=6)], now=NOW, hints=hints)

    assert len(refused) == len(ordinary) + 1
    assert not any("UPDATE monitors_monitor " in query["sql"] for query in refused.captured_queries)


# --- Who changed what -------------------------------------------------------------------------------------------------


def shown():
    return list(ConfigChange.objects.order_by("id").values_list("made_by", "difference"))


def test_d40_a_change_is_kept_with_the_key_that_made_it_and_not_in_full():
    monitor = factories.MonitorFactory(crontab=OLD, failure_threshold=3)
    key = factories.IngestKeyFactory(project=monitor.project, label="ci")
    hear(wants(monitor, key=key.pk, failure_threshold=1), wants(monitor, minute=1, key=key.pk))

    assert shown() == [(str(key), {"crontab": [OLD, NEW], "failure_threshold": [3, 1]})]
    assert "ci" in str(key)
    assert key.public_key not in str(shown())
    assert ConfigChange.objects.get().changed_at == NOW


@pytest.mark.parametrize(
    ("key", "made_by"), [(0, "the monitor's ping address"), (None, "no key"), (987_654, "a deleted key")]
)
def test_d40_a_change_without_a_known_key_says_so(key, made_by):
    hear(wants(factories.MonitorFactory(crontab=OLD), key=key))

    assert [by for by, _ in shown()] == [made_by]


def test_d40_changes_of_one_batch_are_all_kept_in_order():
    hear(*(wants(factories.MonitorFactory(crontab=OLD, slug=slug), NEW) for slug in ("a", "b")))
    monitor = Monitor.objects.get(slug="a")
    hear(wants(monitor, OTHER, minute=1), wants(monitor, OLD, minute=2))

    assert [change.difference["crontab"] for change in monitor.config_changes.order_by("id")] == [
        [OLD, NEW],
        [NEW, OTHER],
        [OTHER, OLD],
    ]


def test_d40_from_crontab_to_interval_every_column_is_named():
    monitor = factories.MonitorFactory(interval=15, interval_unit="minute")
    hear(wants(monitor))

    [(_, change)] = shown()
    assert change == {
        "schedule_type": ["interval", "crontab"],
        "crontab": [None, NEW],
        "interval": [15, None],
        "interval_unit": ["minute", None],
    }


def test_d40_of_a_monitor_the_newest_changes_are_kept():
    monitor, other = factories.MonitorFactory(crontab=OLD), factories.MonitorFactory(crontab=OLD)
    hear(wants(other))
    for start in (0, 30):
        hear(*(wants(monitor, f"{n} * * * *", minute=n) for n in range(start, start + 30)))

    kept = list(monitor.config_changes.order_by("id"))
    assert len(kept) == CONFIG_CHANGES_KEPT
    assert kept[-1].difference["crontab"] == ["58 * * * *", "59 * * * *"]
    assert kept[0].difference["crontab"] == ["9 * * * *", "10 * * * *"]
    assert other.config_changes.count() == 1


def test_d40_the_first_configuration_of_a_monitor_is_no_change():
    hear(make_message("ok", project_id=factories.ProjectFactory().id, config=make_config(NEW)))

    assert shown() == []
