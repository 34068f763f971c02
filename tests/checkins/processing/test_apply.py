"""Applying batches of check-ins to PostgreSQL: docs/reference/behaviour.md, section 6, and what a batch costs."""

import threading
import uuid
from datetime import timedelta

import msgspec
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from checkins.editing import delete_environments, set_monitors_status, update_monitor
from checkins.messages import CheckInStatus, ProblemKind, RunLog
from checkins.models import Attempt, CheckIn, CheckInLog
from checkins.processing.apply import receive
from incidents.models import Incident, Issue, Occurrence
from monitors.hot_rows import state_of
from monitors.models import Monitor, MonitorEnvironment, ShardLayout
from monitors.state import MonitorStatus
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory
from tests.messages import make_config, make_message, run_id
from tests.waiting import PATIENCE_SECONDS, wait_until

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


# --- One check-in -----------------------------------------------------------------------------------------------------


def test_a_check_in_is_stored_with_all_that_is_known_about_it():
    row = MonitorEnvironmentFactory()
    trace_id = uuid.uuid4()
    message = make_message(
        "in_progress", monitor=row.monitor, at=NOW + 5 * MINUTE, run=1, trace_id=trace_id, duration_ms=7
    )
    [outcome] = receive([message], now=NOW + 5 * MINUTE)
    assert (outcome.accepted, outcome.guid, outcome.problems) == (True, run_id(1), [])
    checkin = CheckIn.objects.get()
    assert checkin.guid == run_id(1)
    assert (checkin.project_id, checkin.monitor_environment) == (row.monitor.project_id, row)
    assert (checkin.monitor_environment_id, checkin.shard) == (row.id, row.shard)
    assert (checkin.status, checkin.source, checkin.trace_id) == ("in_progress", "sentry_envelope", trace_id)
    assert checkin.date_added == checkin.date_updated == checkin.date_in_progress == NOW + 5 * MINUTE
    assert checkin.received_at == NOW + 5 * MINUTE
    assert (checkin.expected_time, checkin.timeout_at) == (NOW + 5 * MINUTE, NOW + 35 * MINUTE)
    assert (checkin.duration_ms, checkin.config_id, checkin.failed_at) == (7, row.monitor.config_id, None)


def test_the_time_of_reception_counts_not_the_time_of_processing():
    row = MonitorEnvironmentFactory()
    receive([make_message("ok", monitor=row.monitor, at=NOW + 2 * MINUTE)], now=NOW + 600 * MINUTE)
    row.refresh_from_db()
    assert (row.last_checkin, row.next_checkin) == (NOW + 2 * MINUTE, NOW + 5 * MINUTE)


def test_an_empty_batch_asks_nothing():
    with CaptureQueriesContext(connection) as queries:
        assert receive([], now=NOW) == []
    assert [q["sql"] for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))] == []


# --- Which run a message is about (6.3) -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_running", [False, True])
def test_running_runs_are_asked_for_only_where_one_may_run(is_running):
    row = MonitorEnvironmentFactory()
    if is_running:
        receive([make_message("in_progress", monitor=row.monitor, at=NOW, run=None)], now=NOW)
    with CaptureQueriesContext(connection) as queries:
        receive([make_message("ok", monitor=row.monitor, at=NOW + MINUTE, run=None)], now=NOW + MINUTE)
    asked = [query["sql"] for query in queries if "checkins_runningcheckin" in query["sql"]]
    assert (bool(asked), history(row.monitor)) == (is_running, ["ok"])


def test_the_zero_id_continues_the_newest_running_one():
    row = MonitorEnvironmentFactory()
    say = lambda status, minutes, run=None: make_message(  # noqa: E731
        status, monitor=row.monitor, at=NOW + minutes * MINUTE, run=run
    )
    receive([say("in_progress", 1, run=1)], now=NOW)
    receive([say("in_progress", 2, run=2)], now=NOW)
    [outcome] = receive([say("ok", 3)], now=NOW)
    assert outcome.guid == run_id(2)
    [outcome] = receive([say("ok", 4)], now=NOW)
    assert outcome.guid == run_id(1)
    [outcome] = receive([say("ok", 5)], now=NOW)
    assert outcome.guid not in (None, run_id(1), run_id(2))
    assert CheckIn.objects.count() == 3


def test_a_second_zero_id_opening_is_a_heartbeat():
    row = MonitorEnvironmentFactory()
    for minutes in (1, 4):
        receive([make_message("in_progress", monitor=row.monitor, at=NOW + minutes * MINUTE)], now=NOW)
    checkin = CheckIn.objects.get()
    assert (checkin.date_added, checkin.timeout_at) == (NOW + MINUTE, NOW + 34 * MINUTE)


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_d22_a_start_without_id_begins_a_run_as_soon_as_the_next_slot_has_come(at_once):
    monitor = MonitorEnvironmentFactory(monitor__crontab="*/10 * * * *").monitor
    starts = [NOW + minutes * MINUTE for minutes in (1, 9, 10, 15)]
    messages = [make_message("in_progress", monitor=monitor, at=at) for at in starts]
    messages.append(make_message("ok", monitor=monitor, at=NOW + 16 * MINUTE))
    for batch in [messages] if at_once else [[message] for message in messages]:
        receive(batch, now=NOW)
    first, second = CheckIn.objects.order_by("date_added")
    assert (first.date_added, first.status, first.timeout_at) == (NOW + MINUTE, "in_progress", NOW + 39 * MINUTE)
    assert (second.date_added, second.status, second.duration_ms) == (NOW + 10 * MINUTE, "ok", 6 * 60_000)


def test_the_zero_id_knows_nothing_of_other_environments():
    monitor = MonitorFactory()
    receive([make_message("in_progress", monitor=monitor, environment="staging")], now=NOW)
    receive([make_message("ok", monitor=monitor, at=NOW + MINUTE)], now=NOW)
    assert history(monitor) == ["in_progress", "ok"]


def test_the_zero_id_does_not_find_a_run_that_timed_out():
    row = MonitorEnvironmentFactory()
    receive([make_message("in_progress", monitor=row.monitor)], now=NOW)
    CheckIn.objects.update(status="timeout", timeout_at=None)
    receive([make_message("ok", monitor=row.monitor, at=NOW + 40 * MINUTE)], now=NOW)
    assert history(row.monitor) == ["timeout", "ok"]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_several_zero_ids_mean_the_same_in_one_batch_as_one_by_one(at_once):
    monitor = MonitorFactory()
    words = ["in_progress", "in_progress", "ok", "ok", "in_progress", "error", "in_progress"]
    messages = [make_message(s, monitor=monitor, at=NOW + n * MINUTE) for n, s in enumerate(words)]
    outcomes = receive(messages, now=NOW) if at_once else [receive([message], now=NOW)[0] for message in messages]
    guids = [outcome.guid for outcome in outcomes]
    assert [guids.index(guid) for guid in guids] == [0, 0, 0, 3, 4, 4, 6]
    assert history(monitor) == ["ok", "ok", "error", "in_progress"]


def test_a_zero_id_in_a_batch_finds_the_older_run_when_the_newer_one_was_just_closed_by_its_id():
    monitor = MonitorFactory()
    for run in (1, 2):
        receive([make_message("in_progress", monitor=monitor, at=NOW + run * MINUTE, run=run)], now=NOW)
    outcomes = receive(
        [
            make_message("ok", monitor=monitor, at=NOW + 3 * MINUTE, run=2),
            make_message("ok", monitor=monitor, at=NOW + 4 * MINUTE),
        ],
        now=NOW,
    )
    assert [outcome.guid for outcome in outcomes] == [run_id(2), run_id(1)]
    assert history(monitor) == ["ok", "ok"]


def test_opening_and_closing_message_in_one_batch_are_one_run():
    monitor = MonitorFactory()
    receive(
        [
            make_message("in_progress", monitor=monitor, run=1),
            make_message("ok", monitor=monitor, at=NOW + MINUTE, run=1),
        ],
        now=NOW,
    )
    checkin = CheckIn.objects.get()
    assert (checkin.status, checkin.duration_ms, checkin.date_in_progress) == ("ok", 60_000, NOW)


def test_words_of_a_retried_run_are_kept_whether_they_come_in_one_batch_or_later():
    monitor = MonitorFactory()
    say = lambda status, seconds, duration_ms: make_message(  # noqa: E731
        status, monitor=monitor, at=NOW + timedelta(seconds=seconds), run=1, duration_ms=duration_ms
    )
    receive([say("in_progress", 0, None), say("error", 1, 10), say("error", 2, 20)], now=NOW)
    receive([say("ok", 3, 30)], now=NOW)
    assert list(Attempt.objects.values_list("status", "duration_ms")) == [("error", 10), ("error", 20)]
    checkin = CheckIn.objects.get()
    assert (checkin.status, checkin.duration_ms, checkin.failed_at) == ("ok", 30, NOW + timedelta(seconds=1))


# --- D9 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_d9_an_id_reused_in_another_environment_or_monitor_of_the_project_is_refused(at_once):
    project = ProjectFactory()
    first, second = MonitorFactory(project=project), MonitorFactory(project=project)
    messages = [
        make_message("in_progress", monitor=first, run=1),
        make_message("ok", monitor=first, run=1, environment="staging"),
        make_message("ok", monitor=second, run=1),
    ]
    outcomes = receive(messages, now=NOW) if at_once else [receive([message], now=NOW)[0] for message in messages]
    assert [outcome.accepted for outcome in outcomes] == [True, False, False]
    mismatch = [ProblemKind.CHECKIN_ENVIRONMENT_MISMATCH]
    assert [kinds(outcome) for outcome in outcomes] == [[], mismatch, mismatch]
    assert CheckIn.objects.get().status == "in_progress"
    # The environment that the message named has been created all the same (docs/reference/behaviour.md, section 6.3).
    assert environment_of(first, "staging").next_checkin is None


def test_d9_an_id_of_another_project_is_free():
    monitors = [MonitorFactory(slug="same"), MonitorFactory(slug="same")]
    outcomes = receive([make_message("ok", monitor=monitor, run=1) for monitor in monitors], now=NOW)
    assert [outcome.accepted for outcome in outcomes] == [True, True]
    assert CheckIn.objects.filter(guid=run_id(1)).count() == 2


# --- D13 --------------------------------------------------------------------------------------------------------------


def test_d13_the_seventh_check_in_of_a_minute_is_refused_and_its_neighbours_are_not():
    project = ProjectFactory()
    noisy, neighbour = MonitorFactory(project=project), MonitorFactory(project=project)
    noise = [make_message("ok", monitor=noisy, at=NOW + timedelta(seconds=n), run=n) for n in range(8)]
    others = [
        make_message("ok", monitor=neighbour, run=100),
        make_message("ok", monitor=noisy, environment="staging", run=101),
    ]
    outcomes = receive([*noise, *others], now=NOW)
    assert [outcome.accepted for outcome in outcomes] == [True] * 6 + [False] * 2 + [True] * 2
    assert kinds(outcomes[6]) == kinds(outcomes[7]) == [ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED]
    [next_minute] = receive([make_message("ok", monitor=noisy, at=NOW + MINUTE, run=9)], now=NOW)
    assert next_minute.accepted


def tell_one_by_one(monitor, *words):
    """Each word a second after the one before; returns what was refused."""
    messages = [
        make_message(status, monitor=monitor, at=NOW + n * timedelta(seconds=0.5), run=run)
        for n, (status, run) in enumerate(words)
    ]
    return [kinds(receive([message], now=NOW)[0]) for message in messages]


LIMITED = [ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED]


def test_d25_the_last_word_of_a_known_run_is_spared_and_what_begins_is_not():
    monitor = MonitorFactory()
    starts = [("in_progress", n) for n in range(8)]
    refused = tell_one_by_one(monitor, *starts, *[("ok", n) for n in range(8)], ("in_progress", 0))
    assert refused == [[]] * 6 + [LIMITED] * 2 + [[]] * 6 + [LIMITED] * 3
    assert [checkin.status for checkin in CheckIn.objects.all()] == ["ok"] * 6


def test_d25_an_error_of_a_run_that_nobody_knows_is_spared():
    monitor = MonitorFactory()
    assert tell_one_by_one(monitor, *[("in_progress", n) for n in range(6)], ("error", 99))[-1] == []
    assert MonitorEnvironment.objects.get(monitor=monitor).status == "error"


def test_d25_the_last_word_without_id_of_a_running_run_is_spared():
    monitor = MonitorFactory(crontab="0 * * * *")
    assert tell_one_by_one(monitor, *[("in_progress", None)] * 6, ("in_progress", None), ("ok", None))[-2:] == [
        LIMITED,
        [],
    ]


def test_d25_above_ten_times_the_limit_the_last_word_of_a_known_run_is_dropped():
    monitor = MonitorFactory()
    words = [("in_progress", 1), *[("error", n) for n in range(2, 61)], ("ok", 1)]
    assert tell_one_by_one(monitor, *words)[-2:] == [[], LIMITED]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_d39_an_error_far_above_the_limit_counts_and_is_folded_into_the_newest_error(at_once):
    monitor = MonitorFactory(failure_threshold=3)
    messages = [make_message("error", monitor=monitor, at=NOW + timedelta(milliseconds=n), run=n) for n in range(65)]
    messages[-1] = msgspec.structs.replace(messages[-1], log=RunLog(b"dropped", 7))
    for batch in [messages] if at_once else [[message] for message in messages]:
        outcomes = receive(batch, now=NOW)
    assert (outcomes[-1].accepted, kinds(outcomes[-1])) == (True, LIMITED)
    errors = CheckIn.objects.order_by("date_added")
    assert [error.folded_count or 0 for error in errors] == [0] * 59 + [5]
    assert outcomes[-1].guid == errors[59].guid
    assert MonitorEnvironment.objects.get(monitor=monitor).failure_streak == 65
    assert CheckInLog.objects.count() == 0


def test_d39_a_failure_is_seen_whatever_others_said_in_its_minute():
    monitor = MonitorFactory()
    CheckInFactory(
        monitor_environment=MonitorEnvironmentFactory(
            monitor=monitor, environment__name="production", limit_minute=NOW, limit_count=60, status="ok"
        ),
        status="error",
        date_added=NOW - 60 * MINUTE,
    )
    assert tell_one_by_one(monitor, ("error", 1), ("error", 2)) == [LIMITED] * 2
    assert MonitorEnvironment.objects.get(monitor=monitor).failure_streak == 2
    # The error of an hour ago is not theirs: the first one has a row of its own.
    assert [c.folded_count or 0 for c in CheckIn.objects.order_by("date_added")] == [0, 1]


def test_d13_the_limit_holds_over_batches_and_is_a_setting(settings):
    settings.CHECKINS_PER_MINUTE = 2
    monitor = MonitorFactory()
    outcomes = [receive([make_message("ok", monitor=monitor, run=n)], now=NOW)[0] for n in range(3)]
    assert [outcome.accepted for outcome in outcomes] == [True, True, False]


# --- Failures within a batch ------------------------------------------------------------------------------------------


def test_fail_ok_fail_in_one_batch_are_two_incidents_of_one_issue_and_the_first_is_resolved():
    monitor = MonitorFactory()
    receive(
        [
            make_message(status, monitor=monitor, at=NOW + n * MINUTE, run=n)
            for n, status in enumerate(["error", "ok", "error"])
        ],
        now=NOW + 9 * MINUTE,
    )
    first, second = Incident.objects.order_by("started_at")
    assert (first.started_at, first.resolved_at, first.resolving_checkin) == (
        NOW,
        NOW + MINUTE,
        CheckIn.objects.get(guid=run_id(1)),
    )
    assert (second.started_at, second.resolved_at) == (NOW + 2 * MINUTE, None)
    issue = Issue.objects.get()
    assert (issue.status, issue.regression_count, issue.occurrence_count) == ("unresolved", 1, 2)
    assert [o.checkin.guid for o in Occurrence.objects.order_by("id")] == [run_id(0), run_id(2)]
    row = environment_of(monitor)
    assert (row.status, row.failure_streak, row.ok_streak) == ("error", 1, 0)


def test_a_batch_gives_the_rows_that_its_messages_give_one_by_one():
    words = ["ok", "error", "error", "in_progress", "ok", "error", "ok", "ok", "error", "error", "error"]

    def story(at_once):
        rows = [MonitorEnvironmentFactory(monitor__failure_threshold=2, monitor__recovery_threshold=2) for _ in "ab"]
        messages = [
            make_message(words[(n + shift) % len(words)], monitor=row.monitor, at=NOW + n * MINUTE, run=n)
            for n in range(len(words))
            for shift, row in enumerate(rows)
        ]
        for batch in [messages] if at_once else [[message] for message in messages]:
            receive(batch, now=NOW + 99 * MINUTE)
        told = []
        for row in rows:
            row.refresh_from_db()
            incidents = Incident.objects.filter(monitor_environment=row).order_by("opened_at")
            told.append(
                (
                    state_of(row),
                    list(incidents.values_list("started_at", "opened_at", "resolved_at", "resolving_checkin__guid")),
                    list(Issue.objects.filter(monitor_environment=row).values_list("status", "occurrence_count")),
                    list(Issue.objects.filter(monitor_environment=row).values_list("resolved_at", "first_seen_at")),
                    list(
                        Occurrence.objects.filter(incident__in=incidents)
                        .order_by("incident__opened_at", "occurred_at")
                        .values_list("occurred_at", "detected_at", "run_checkin_guids", "explanation")
                    ),
                )
            )
        return told

    assert story(at_once=True) == story(at_once=False)


# --- What a batch costs -----------------------------------------------------------------------------------------------

STATEMENTS_MAX = 25
EVERYTHING_STATEMENTS_MAX = 40  # One batch that creates monitors, edits others, fails, recovers, opens and closes.


def statements_of(messages):
    """Apply a batch and return how many statements it took, without those that only the test's transaction needs."""
    with CaptureQueriesContext(connection) as queries:
        outcomes = receive(messages, now=NOW)
    assert all(outcome.accepted for outcome in outcomes)
    sent = [query["sql"] for query in queries]
    return len([sql for sql in sent if not sql.startswith(("SAVEPOINT", "RELEASE SAVEPOINT"))])


def fresh_monitors(count, project):
    first = Monitor.objects.count()
    return [
        make_message("in_progress", project_id=project.id, slug=f"new-{n}", raw_slug=f"new-{n}", config=make_config())
        for n in range(first, first + count)
    ]


def heard_before(count, project):
    monitors = MonitorFactory.create_batch(count, project=project)
    receive([make_message("ok", monitor=monitor, at=NOW - MINUTE) for monitor in monitors], now=NOW)
    return monitors


def oks(count, project):
    return [make_message("ok", monitor=monitor) for monitor in heard_before(count, project)]


def errors(count, project):
    return [make_message("error", monitor=monitor) for monitor in heard_before(count, project)]


def recoveries(count, project):
    monitors = heard_before(count, project)
    receive([make_message("error", monitor=monitor, at=NOW - MINUTE / 2) for monitor in monitors], now=NOW)
    return [make_message("ok", monitor=monitor) for monitor in monitors]


def changed_configurations(count, project):
    return [
        make_message("ok", monitor=monitor, config=make_config("0 * * * *", max_runtime_minutes=10))
        for monitor in heard_before(count, project)
    ]


def openings_and_closings(count, project):
    """A quarter each: openings, ends that are ok, ends that are errors, and recoveries."""
    part = count // 4
    running = heard_before(2 * part, project)
    receive([make_message("in_progress", monitor=monitor, at=NOW - MINUTE / 2) for monitor in running], now=NOW)
    return [
        *[make_message("in_progress", monitor=monitor) for monitor in heard_before(part, project)],
        *[make_message(("ok", "error")[n % 2], monitor=monitor) for n, monitor in enumerate(running)],
        *recoveries(part, project),
    ]


def everything(count, project):
    """A fifth each: new monitors, changed ones, failures, recoveries and ends of running ones."""
    part = count // 5
    running = heard_before(part, project)
    receive([make_message("in_progress", monitor=monitor, at=NOW - MINUTE / 2) for monitor in running], now=NOW)
    return [
        *fresh_monitors(part, project),
        *changed_configurations(part, project),
        *errors(part, project),
        *recoveries(part, project),
        *[make_message("error", monitor=monitor) for monitor in running],
    ]


@pytest.mark.parametrize(
    "batch",
    [fresh_monitors, oks, errors, recoveries, changed_configurations, openings_and_closings, everything],
    ids=lambda batch: batch.__name__,
)
def test_a_batch_of_many_environments_takes_as_few_statements_as_one_of_a_tenth(batch, settings):
    settings.ALERT_EMAIL_TO = ["night@example.com"]
    project = ProjectFactory()
    ShardLayout.objects.create(count=16)  # The first environment ever would make it.
    count = 500 if batch is everything else 100  # A batch is of 500 at most.
    few = statements_of(batch(count // 10, project))
    many = statements_of(batch(count, project))
    assert many == few
    assert many <= (EVERYTHING_STATEMENTS_MAX if batch is everything else STATEMENTS_MAX)


# --- Several at once --------------------------------------------------------------------------------------------------


def in_threads(*jobs):
    """Run functions at the same time, each on a connection of its own; raise what any of them raised."""
    errors = []

    def run(job):
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "still waiting: a deadlock that nobody resolves"
    if errors:
        raise errors[0]


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_bring_the_same_new_id_at_once_make_one_check_in():
    """In different environments, so that no lock on a row keeps them apart: the unique id alone does."""
    project = ProjectFactory()
    monitors = [MonitorFactory(project=project) for _ in range(2)]
    receive([make_message("ok", monitor=monitor, at=NOW - MINUTE) for monitor in monitors], now=NOW)
    before = CheckIn.objects.count()
    outcomes = {}
    start = threading.Barrier(2)

    def bring(number, run):
        start.wait(PATIENCE_SECONDS)
        [outcomes[run, number]] = receive([make_message("in_progress", monitor=monitors[number], run=run)], now=NOW)

    for run in range(1, 6):
        in_threads(lambda run=run: bring(0, run), lambda run=run: bring(1, run))
        assert sorted(outcomes[run, n].accepted for n in (0, 1)) == [False, True]
        assert CheckIn.objects.filter(guid=run_id(run)).count() == 1
    assert CheckIn.objects.count() == before + 5


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_bring_the_same_new_id_of_one_environment_continue_one_run():
    monitor = MonitorFactory()
    start = threading.Barrier(2)

    def bring(status):
        start.wait(PATIENCE_SECONDS)
        receive([make_message(status, monitor=monitor, run=1)], now=NOW)

    in_threads(lambda: bring("in_progress"), lambda: bring("ok"))
    assert CheckIn.objects.get().status == "ok"


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_create_the_same_monitors_at_once_share_them():
    project = ProjectFactory()
    start = threading.Barrier(2)
    outcomes = []

    def bring(slugs, environment):
        start.wait(PATIENCE_SECONDS)
        outcomes.extend(
            receive(
                [
                    make_message(
                        "ok",
                        project_id=project.id,
                        slug=slug,
                        raw_slug=slug,
                        environment=environment,
                        config=make_config(),
                    )
                    for slug in slugs
                ],
                now=NOW,
            )
        )

    slugs = [f"job-{n}" for n in range(200)]
    in_threads(lambda: bring(slugs, "a"), lambda: bring(slugs[::-1], "b"))
    assert [outcome.accepted for outcome in outcomes] == [True] * 400
    assert (Monitor.objects.count(), MonitorEnvironment.objects.count(), CheckIn.objects.count()) == (200, 400, 400)


@pytest.mark.django_db(transaction=True)
def test_batches_in_different_orders_and_an_editor_do_not_block_each_other():
    project = ProjectFactory()
    monitors = [MonitorFactory(project=project, is_upserting=True) for _ in range(12)]
    receive([make_message("ok", monitor=monitor, at=NOW - MINUTE) for monitor in monitors], now=NOW)
    rounds = 15
    start = threading.Barrier(4)
    accepted: list[bool] = []

    def batches(number, order):
        start.wait(PATIENCE_SECONDS)
        for n in range(rounds):
            messages = [
                make_message(
                    ("error", "ok", "in_progress")[n % 3],
                    monitor=monitor,
                    at=NOW + (n * 3 + number) * MINUTE,
                    run=10_000 * (number + 1) + 100 * n + place,
                    # Now and then a batch changes monitors too, and meets environments that do not exist yet.
                    config=make_config(f"*/{2 + n} * * * *") if (n + place) % 4 == 0 else None,
                    environment="production" if n % 2 else f"env-{n}",
                )
                for place, monitor in enumerate(order)
            ]
            accepted.extend(outcome.accepted for outcome in receive(messages, now=NOW))

    def editor():
        start.wait(PATIENCE_SECONDS)
        for n in range(rounds):
            for monitor in monitors[n % 3 :: 3]:
                update_monitor(monitor.id, {"checkin_margin": 1 + n, "max_runtime": 20 + n}, now=NOW + n * MINUTE)

    in_threads(
        lambda: batches(0, monitors),
        lambda: batches(1, monitors[::-1]),
        lambda: batches(2, monitors[::2] + monitors[1::2]),
        editor,
    )
    assert accepted == [True] * (3 * rounds * len(monitors))
    failing = set(MonitorEnvironment.objects.filter(status="error").values_list("id", flat=True))
    open_incidents = Incident.objects.filter(resolved_at=None).values_list("monitor_environment_id", flat=True)
    assert failing == set(open_incidents)


def while_another_holds(row, change):
    """Return a function that runs `change` in a transaction which commits only once somebody waits for its locks."""

    def run():
        with transaction.atomic():
            change()
            row["changed"].set()
            wait_until(somebody_waits, "somebody waits")

    return run


def somebody_waits():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0


@pytest.mark.django_db(transaction=True)
def test_a_check_in_that_waited_while_its_monitor_was_disabled_is_refused():
    """Otherwise the disabled monitor would expect its next run, and miss it."""
    row = MonitorEnvironmentFactory()
    story, outcomes = {"changed": threading.Event()}, []
    disable = while_another_holds(
        story, lambda: set_monitors_status([row.monitor_id], MonitorStatus.DISABLED, now=NOW + MINUTE)
    )

    def check_in():
        assert story["changed"].wait(PATIENCE_SECONDS)
        outcomes.extend(receive([make_message("ok", monitor=row.monitor, at=NOW + MINUTE, run=1)], now=NOW))

    in_threads(disable, check_in)
    row.refresh_from_db()
    assert (row.next_checkin_latest, outcomes[0].accepted, kinds(outcomes[0])) == (
        None,
        False,
        [ProblemKind.MONITOR_DISABLED],
    )


@pytest.mark.django_db(transaction=True)
def test_a_check_in_that_waited_while_its_environment_was_deleted_starts_a_new_one():
    """P1: it was not refused, so it must not vanish."""
    row = MonitorEnvironmentFactory()
    story, outcomes = {"changed": threading.Event()}, []
    delete = while_another_holds(story, lambda: delete_environments(row.monitor_id, ["production"]))

    def check_in():
        assert story["changed"].wait(PATIENCE_SECONDS)
        outcomes.extend(receive([make_message("ok", monitor=row.monitor, at=NOW + MINUTE, run=1)], now=NOW))

    in_threads(delete, check_in)
    assert outcomes[0].accepted
    stored = CheckIn.objects.get(guid=run_id(1))
    assert stored.status == CheckInStatus.OK
    assert stored.monitor_environment_id == environment_of(row.monitor).id != row.id
