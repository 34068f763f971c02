"""What could not be used, as rows that people can see (D13, D18; docs/reference/behaviour.md, section 15)."""

from datetime import timedelta

import pytest

from checkins.messages import Problem, ProblemKind, RefusedCheckIn, Source
from checkins.models import CheckIn, ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.protocols.fields import parse_checkin
from tests.factories import NOW, MonitorFactory, ProjectFactory
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
BAD_DURATION = Problem(
    ProblemKind.CHECKIN_VALIDATION_FAILED, "duration", "'soon'", "duration 'soon' is not a number of seconds."
)
BAD_TRACE = Problem(ProblemKind.CHECKIN_VALIDATION_FAILED, "trace_id", "'x'", "trace_id 'x' is not a UUID.")
BAD_CONFIG = Problem(ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config", "{}", "monitor_config has no schedule.")


def a_refusal(project, at=NOW, **fields):
    values = {
        "project_id": project.id,
        "slug": "job",
        "environment": "production",
        "received_at": at,
        "source": Source.SENTRY_HTTP,
        "problems": (Problem(ProblemKind.CHECKIN_INVALID_GUID, "check_in_id", "'x'", "check_in_id 'x' is no UUID."),),
        "payload": {"check_in_id": "x"},
    }
    return RefusedCheckIn(**{**values, **fields})


def test_a_problem_is_stored_beside_its_monitor_with_what_was_sent():
    monitor = MonitorFactory()
    at = NOW + 30 * SECOND
    receive([make_message("ok", monitor=monitor, at=at, problems=(BAD_DURATION,))], now=at)
    error = ProcessingError.objects.get()
    assert (error.project_id, error.monitor_id, error.slug) == (monitor.project_id, monitor.id, monitor.slug)
    assert (error.kind, error.field, error.value) == ("CHECKIN_VALIDATION_FAILED", "duration", "'soon'")
    assert error.message == "duration 'soon' is not a number of seconds."
    assert (error.environment, error.source) == ("production", "sentry_envelope")
    assert (error.minute, error.first_received_at, error.last_received_at, error.count) == (NOW, at, at, 1)
    assert error.payload == {"monitor_slug": monitor.slug, "status": "ok"}


@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_d18_a_bad_part_is_dropped_and_the_signal_counts(status):
    monitor = MonitorFactory()
    [outcome] = receive([make_message(status, monitor=monitor, problems=(BAD_DURATION, BAD_TRACE))], now=NOW)
    assert (outcome.accepted, outcome.problems) == (True, [BAD_DURATION, BAD_TRACE])
    checkin = CheckIn.objects.get()
    assert (checkin.status, checkin.duration_ms, checkin.trace_id) == (status, None, None)
    assert sorted(ProcessingError.objects.values_list("field", flat=True)) == ["duration", "trace_id"]


def test_d18_an_unusable_configuration_does_not_cost_a_known_monitor_its_check_in():
    monitor = MonitorFactory()
    [outcome] = receive([make_message("ok", monitor=monitor, config_problem=BAD_CONFIG)], now=NOW)
    assert (outcome.accepted, outcome.problems) == (True, [BAD_CONFIG])
    assert ProcessingError.objects.get().monitor == monitor


def test_d33_a_check_in_of_an_unknown_monitor_that_lost_its_configuration_is_parked_like_any_other():
    project = ProjectFactory()
    message = make_message("ok", project_id=project.id, raw_slug="Job!", config_problem=BAD_CONFIG)
    [outcome] = receive([message], now=NOW)
    assert not outcome.accepted
    [error] = ProcessingError.objects.all()
    assert (error.kind, error.monitor_id) == ("MONITOR_INVALID_CONFIG", None)
    assert WaitingCheckIn.objects.count() == 1


def test_d18_every_part_of_a_real_payload_may_be_bad_but_slug_status_environment_and_id():
    """From what a client sends to the stored rows."""
    monitor = MonitorFactory()
    payload = {
        "monitor_slug": monitor.slug,
        "status": "ok",
        "duration": "soon",
        "contexts": {"trace": {"trace_id": "not an id"}},
        "monitor_config": {"schedule": {"type": "crontab", "value": "every now and then"}, "owner": 7},
    }
    message = parse_checkin(payload, project_id=monitor.project_id, received_at=NOW, source=Source.SENTRY_ENVELOPE)
    [outcome] = receive([message], now=NOW)
    assert outcome.accepted
    assert CheckIn.objects.get().status == "ok"
    assert ProcessingError.objects.filter(monitor=monitor).count() == len(outcome.problems) >= 3
    assert [error.payload for error in ProcessingError.objects.all()] == [payload] * len(outcome.problems)
    monitor.refresh_from_db()
    assert monitor.crontab == "*/5 * * * *"


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_d13_problems_are_stored_once_a_minute_and_kind_with_a_count(at_once):
    monitor = MonitorFactory(status="disabled")
    seconds = [0, 10, 59, 60, 61]
    messages = [
        make_message("ok", monitor=monitor, at=NOW + second * SECOND, payload={"n": second}) for second in seconds
    ]
    for batch in [messages] if at_once else [[message] for message in messages]:
        receive(batch, now=NOW)
    rows = ProcessingError.objects.order_by("minute").values_list(
        "kind", "count", "first_received_at", "last_received_at", "payload"
    )
    assert list(rows) == [
        ("MONITOR_DISABLED", 3, NOW, NOW + 59 * SECOND, {"n": 0}),
        ("MONITOR_DISABLED", 2, NOW + 60 * SECOND, NOW + 61 * SECOND, {"n": 60}),
    ]


def test_d13_other_monitors_environments_fields_and_kinds_have_rows_of_their_own():
    project = ProjectFactory()
    monitors = [MonitorFactory(project=project, status="disabled") for _ in range(2)]
    receive(
        [
            make_message("ok", monitor=monitors[0]),
            make_message("ok", monitor=monitors[1]),
            make_message("ok", monitor=monitors[0], environment="staging"),
            make_message("ok", monitor=monitors[0], problems=(BAD_DURATION, BAD_TRACE)),
        ],
        now=NOW,
    )
    assert sorted(ProcessingError.objects.values_list("count", flat=True)) == [1, 1, 1, 1, 2]


def test_d13_a_flood_makes_one_row_a_minute():
    monitor = MonitorFactory()
    receive([make_message("ok", monitor=monitor, at=NOW + n * SECOND, run=n) for n in range(20)], now=NOW)
    error = ProcessingError.objects.get()
    assert (error.kind, error.count, error.monitor) == ("MONITOR_ENVIRONMENT_RATELIMITED", 14, monitor)
    assert error.first_received_at == NOW + 6 * SECOND


def test_a_message_that_is_no_check_in_is_stored_and_its_neighbours_count():
    monitor = MonitorFactory()
    outcomes = receive([a_refusal(monitor.project, slug=monitor.slug), make_message("ok", monitor=monitor)], now=NOW)
    assert [outcome.accepted for outcome in outcomes] == [False, True]
    error = ProcessingError.objects.get()
    assert (error.kind, error.slug, error.source) == ("CHECKIN_INVALID_GUID", monitor.slug, "sentry_http")


def test_a_refused_message_of_a_known_monitor_is_shown_beside_it():
    """Reference section 15: per monitor if it can be found by project and slug."""
    monitor = MonitorFactory()
    receive([a_refusal(monitor.project, slug=monitor.slug)], now=NOW)
    assert ProcessingError.objects.get().monitor == monitor


def test_a_mismatched_and_a_finished_run_are_shown_beside_their_monitor():
    monitor = MonitorFactory()
    receive(
        [
            make_message("ok", monitor=monitor, run=1),
            make_message("error", monitor=monitor, run=1),
            make_message("ok", monitor=monitor, run=1, environment="staging"),
        ],
        now=NOW,
    )
    errors = ProcessingError.objects.filter(monitor=monitor).order_by("kind")
    assert [(error.kind, error.environment) for error in errors] == [
        ("CHECKIN_ENVIRONMENT_MISMATCH", "staging"),
        ("CHECKIN_FINISHED", "production"),
    ]


def test_problems_of_one_project_are_not_seen_in_another():
    projects = [ProjectFactory(), ProjectFactory()]
    receive([a_refusal(project) for project in projects], now=NOW)
    assert [project.processing_errors.count() for project in projects] == [1, 1]


def test_a_monitor_over_the_limit_leaves_one_problem_only(settings):
    settings.MONITORS_PER_PROJECT = 1
    monitor = MonitorFactory()
    message = make_message("ok", project_id=monitor.project_id, slug="other", raw_slug="other", config=make_config())
    receive([message], now=NOW)
    assert ProcessingError.objects.get().kind == "MONITOR_LIMIT_EXCEEDED"
