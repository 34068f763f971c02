"""D17: a check-in that comes before its monitor is kept, and applied as if it had come in time.

@sentry/node sends the messages of a run over several connections. Of a job that fails at once the end arrives first,
0.4 ms before the beginning, which alone brings the configuration of a monitor that nobody knows yet.
"""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from checkins.editing import delete_monitors
from checkins.messages import LogMessage, Problem, ProblemKind, RunLog, Source
from checkins.models import CheckIn, CheckInLog, ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.retry import retry_failed, settle_parked
from checkins.processing.transitions import decide_checkin
from incidents.models import Incident
from monitors.models import Monitor, MonitorEnvironment
from tests.connections import in_another_connection
from tests.factories import NOW, MonitorFactory, ProjectFactory, WaitingCheckInFactory
from tests.messages import make_config, make_message, run_id

pytestmark = pytest.mark.django_db

MOMENT = timedelta(microseconds=400)
MINUTE = timedelta(minutes=1)
PARKING_TIME = 2 * MINUTE


@pytest.fixture
def project():
    return ProjectFactory()


@pytest.fixture
def say(project):
    """Make a message of this project for the monitor `job`, which nobody has created."""
    return lambda status, at=NOW, **fields: make_message(status, at=at, **{"project_id": project.id, "run": 1} | fields)


def waiting():
    return list(WaitingCheckIn.objects.order_by("id").values_list("reason", "slug", "environment", "received_at"))


def runs():
    return list(CheckIn.objects.order_by("id").values_list("guid", "status", "date_added", "date_in_progress"))


def told():
    return list(ProcessingError.objects.order_by("id").values_list("kind", "slug", "count"))


# --- The answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [Source.SENTRY_ENVELOPE, Source.SENTRY_HTTP])
@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_d17_a_check_in_of_a_sentry_client_for_an_unknown_monitor_is_parked_not_refused(say, source, status):
    [outcome] = receive([say(status, source=source)], now=NOW)
    assert (outcome.parked, outcome.problems, outcome.created) == (True, [], False)
    assert waiting() == [("monitor_unknown", "job", "production", NOW)]
    assert (runs(), told()) == ([], [])


@pytest.mark.parametrize("source", [Source.HEALTHCHECKS, Source.CRONITOR, Source.UPTIME_KUMA, Source.REST])
def test_clients_that_ask_whether_there_is_a_monitor_are_told_at_once(say, source):
    [outcome] = receive([say("ok", source=source)], now=NOW)
    assert (outcome.accepted, outcome.parked) == (False, False)
    assert [problem.kind for problem in outcome.problems] == [ProblemKind.MONITOR_NOT_FOUND]
    assert (waiting(), told()) == ([], [("MONITOR_NOT_FOUND", "job", 1)])


def test_d33_what_the_same_client_lost_of_its_configuration_is_told_at_once_and_the_check_in_waits(say):
    """The monitor may still come with the run's other message, or by hand; what was lost is told once."""
    unusable = Problem(ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config", "5", "it takes a JSON object.")
    [outcome] = receive([say("ok", config_problem=unusable)], now=NOW)
    assert outcome.parked
    assert [problem.kind for problem in outcome.problems] == [ProblemKind.MONITOR_INVALID_CONFIG]
    assert len(waiting()) == 1
    settle_parked(now=NOW + PARKING_TIME)
    assert told() == [("MONITOR_INVALID_CONFIG", "job", 1), ("MONITOR_NOT_FOUND", "job", 1)]


# --- The monitor comes with the run's other message -------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "two batches"])
@pytest.mark.parametrize("ended", ["ok", "error"])
def test_d17_the_end_of_a_run_that_overtakes_its_beginning_counts_as_if_it_had_not(say, ended, at_once):
    end, beginning = say(ended, NOW), say("in_progress", NOW + MOMENT, config=make_config())
    batches = [[end, beginning]] if at_once else [[end], [beginning]]
    outcomes = [outcome for batch in batches for outcome in receive(batch, now=batch[-1].received_at)]
    assert [outcome.accepted or outcome.parked for outcome in outcomes] == [True, True]
    assert outcomes[1].created
    # Its own time of reception is the run's; in one batch the causal order puts the beginning first.
    start = NOW + MOMENT if at_once else NOW
    assert runs() == [(run_id(1), ended, start, NOW + MOMENT)]
    assert (waiting(), told()) == ([], [])
    assert MonitorEnvironment.objects.get().status == ended
    assert Incident.objects.count() == int(ended == "error")
    assert Monitor.objects.get().is_upserting


def test_d17_all_that_waits_for_a_monitor_is_applied_in_the_order_in_which_it_came(say):
    receive([say("in_progress", NOW, run=1)], now=NOW)
    receive([say("error", NOW + MINUTE, run=1), say("ok", NOW + MINUTE, run=2, environment="staging")], now=NOW)
    receive([say("ok", NOW + 80 * timedelta(seconds=1), run=3, config=make_config())], now=NOW)
    assert [(guid, status) for guid, status, *_ in runs()] == [
        (run_id(1), "error"),
        (run_id(2), "ok"),
        (run_id(3), "ok"),
    ]
    row = MonitorEnvironment.objects.get(environment__name="production")
    assert (row.status, row.last_checkin) == ("ok", NOW + 80 * timedelta(seconds=1))
    assert waiting() == []


def test_d17_a_monitor_that_is_created_takes_only_what_waits_for_it(say, project):
    stranger = ProjectFactory()
    receive([say("ok", slug="other", run=2), say("ok", project_id=stranger.id, run=3)], now=NOW)
    receive([say("ok", config=make_config())], now=NOW)
    assert [(slug, reason) for reason, slug, *_ in waiting()] == [
        ("other", "monitor_unknown"),
        ("job", "monitor_unknown"),
    ]
    assert [guid for guid, *_ in runs()] == [run_id(1)]


def test_d17_output_waits_with_its_run(say, project):
    log = LogMessage(
        project_id=project.id,
        slug="job",
        raw_slug="job",
        environment="production",
        check_in_id=run_id(1),
        received_at=NOW,
        source=Source.SENTRY_HTTP,
        log=RunLog(b"caf\xe9 \x00", 9),
        payload={},
    )
    [outcome] = receive([log], now=NOW)
    assert outcome.parked
    receive([say("ok", NOW + MOMENT, config=make_config())], now=NOW)
    stored = CheckInLog.objects.get()
    assert (stored.guid, bytes(stored.body), stored.size_bytes) == (run_id(1), b"caf\xe9 \x00", 9)


def test_d17_a_parked_check_in_outlives_the_batches_that_do_not_concern_it(say):
    receive([say("ok")], now=NOW)
    known = MonitorFactory()
    for minute in range(3):
        receive([make_message("ok", monitor=known, at=NOW + minute * MINUTE)], now=NOW + minute * MINUTE)
        assert settle_parked(now=NOW + MINUTE) == 0
    assert waiting() == [("monitor_unknown", "job", "production", NOW)]


# --- The sweep --------------------------------------------------------------------------------------------------------


def test_d17_a_monitor_that_a_person_creates_gets_what_waited_for_it(say, project):
    receive([say("in_progress", NOW), say("ok", NOW + MINUTE)], now=NOW + MINUTE)
    MonitorFactory(project=project, slug="job")
    assert settle_parked(now=NOW + 90 * timedelta(seconds=1)) == 2
    assert runs() == [(run_id(1), "ok", NOW, NOW)]
    assert MonitorEnvironment.objects.get().last_checkin == NOW
    assert (waiting(), told()) == ([], [])
    assert settle_parked(now=NOW + PARKING_TIME) == 0


@pytest.mark.parametrize(
    ("waited", "found"),
    [
        pytest.param(PARKING_TIME - MOMENT, [], id="just before"),
        pytest.param(PARKING_TIME, [("MONITOR_NOT_FOUND", "job", 1)], id="at the time"),
        pytest.param(PARKING_TIME + MOMENT, [("MONITOR_NOT_FOUND", "job", 1)], id="just after"),
    ],
)
def test_d17_only_after_the_parking_time_nobody_knows_the_monitor(say, waited, found):
    receive([say("ok", raw_slug="Job!")], now=NOW)
    settled = settle_parked(now=NOW + waited)
    assert (settled, told()) == (len(found), found)
    assert len(waiting()) == 1 - len(found)


def test_d17_what_waited_in_vain_is_told_with_all_that_was_sent(say, project):
    receive([say("ok", raw_slug="Job!", environment="staging", source=Source.SENTRY_HTTP)], now=NOW)
    settle_parked(now=NOW + PARKING_TIME)
    error = ProcessingError.objects.get()
    assert (error.project, error.monitor, error.slug, error.environment) == (project, None, "job", "staging")
    assert (error.field, error.value, error.source) == ("monitor_slug", "Job!", "sentry_http")
    assert error.first_received_at == NOW, "when it came, not when it was given up"
    assert error.payload == {"monitor_slug": "job", "status": "ok"}


def test_d17_the_parking_time_is_a_setting(say, settings):
    settings.PARKED_CHECKIN_SECONDS = 7
    receive([say("ok")], now=NOW)
    assert settle_parked(now=NOW + timedelta(seconds=6)) == 0
    assert settle_parked(now=NOW + timedelta(seconds=7)) == 1


def test_d17_a_monitor_that_is_being_deleted_is_not_waited_for(say, project):
    monitor = MonitorFactory(project=project, slug="job")
    delete_monitors([monitor.id], now=NOW)
    receive([say("ok")], now=NOW)
    assert settle_parked(now=NOW + MINUTE) == 0
    assert settle_parked(now=NOW + PARKING_TIME) == 1
    assert told() == [("MONITOR_NOT_FOUND", "job", 1)]


def test_d17_a_check_in_that_comes_late_to_a_disabled_monitor_is_refused_as_any_other(say, project):
    receive([say("ok")], now=NOW)
    MonitorFactory(project=project, slug="job", status="disabled")
    assert settle_parked(now=NOW + MINUTE) == 1
    assert (waiting(), told()) == ([], [("MONITOR_DISABLED", "job", 1)])


def test_d17_what_failed_waits_for_a_person_and_no_sweep_touches_it(say):
    WaitingCheckInFactory(error="ValueError: 7", slug="job", received_at=NOW - 10 * MINUTE)
    assert settle_parked(now=NOW) == 0
    receive([say("ok", config=make_config())], now=NOW)
    assert [reason for reason, *_ in waiting()] == ["failed"]


def test_d14_a_parked_check_in_that_meets_an_error_of_ours_holds_up_no_other(say, project, monkeypatch):
    receive([say("ok", NOW + n * MOMENT, run=n) for n in (1, 2, 3)], now=NOW)
    receive([say("ok", slug="other", run=4)], now=NOW)
    MonitorFactory(project=project, slug="job")

    def decide(message, **facts):
        if message.check_in_id == run_id(2):
            raise ZeroDivisionError("run 2")
        return decide_checkin(message, **facts)

    monkeypatch.setattr("checkins.processing.apply.decide_checkin", decide)
    assert settle_parked(now=NOW + PARKING_TIME) == 4
    assert [guid for guid, *_ in runs()] == [run_id(1), run_id(3)]
    assert told() == [("MONITOR_NOT_FOUND", "other", 1)]
    failed = WaitingCheckIn.objects.get()
    assert (failed.reason, failed.received_at) == ("failed", NOW + 2 * MOMENT)
    assert "run 2" in failed.error
    monkeypatch.undo()
    assert settle_parked(now=NOW + PARKING_TIME) == 0
    assert retry_failed([failed.id], now=NOW + PARKING_TIME) == (1, 0)
    assert len(runs()) == 3


def test_d14_what_another_version_parked_and_this_one_cannot_read_holds_up_no_other(say, project):
    receive([say("ok", run=1), say("ok", run=2)], now=NOW)
    unreadable = WaitingCheckIn.objects.earliest("id")
    WaitingCheckIn.objects.filter(id=unreadable.id).update(message={"type": "CheckInMessage", "fields": {}})
    MonitorFactory(project=project, slug="job")
    assert settle_parked(now=NOW + MINUTE) == 1
    assert [guid for guid, *_ in runs()] == [run_id(2)]
    unreadable.refresh_from_db()
    assert (unreadable.reason, "ValidationError" in unreadable.error) == ("failed", True)


# --- At the same time -------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_d17_two_sweeps_at_once_settle_what_waits_once():
    project = ProjectFactory()
    message = make_message("error", project_id=project.id, run=1)
    receive([message], now=NOW)
    MonitorFactory(project=project, slug="job")
    counts = []
    with in_another_connection(lambda: counts.append(settle_parked(now=NOW + MINUTE))) as outcome:
        # The other one has not committed: this one leaves to it what it settles, without waiting for it.
        counts.append(settle_parked(now=NOW + MINUTE))
        _wait_for_the_other(project)
    assert outcome.was_waited_for
    assert counts == [1, 0]
    assert runs() == [(run_id(1), "error", NOW, None)]
    assert (Incident.objects.count(), waiting(), told()) == (1, [], [])


def _wait_for_the_other(project):
    """End the other transaction, which goes on until somebody waits for one of its rows."""
    with transaction.atomic():
        list(MonitorEnvironment.objects.filter(monitor__project=project).select_for_update())
        list(WaitingCheckIn.objects.filter(project=project).select_for_update())


@pytest.mark.django_db(transaction=True)
def test_d17_a_sweep_and_a_configuration_at_once_apply_what_waits_once():
    """The sweep gives up what the configuration's batch has just taken, or waits for it: never both."""
    project = ProjectFactory()
    receive([make_message("error", project_id=project.id, run=1)], now=NOW)
    opening = make_message("in_progress", at=NOW + PARKING_TIME, project_id=project.id, run=1, config=make_config())
    with in_another_connection(lambda: receive([opening], now=NOW + PARKING_TIME)) as outcome:
        settled = settle_parked(now=NOW + PARKING_TIME)
        _wait_for_the_other(project)
    assert outcome.was_waited_for
    assert settled == 0
    assert runs() == [(run_id(1), "error", NOW, NOW + PARKING_TIME)]
    assert (waiting(), told()) == ([], [])


@pytest.mark.django_db(transaction=True)
def test_d17_a_check_in_parked_beside_the_batch_that_creates_its_monitor_is_found_by_the_sweep():
    """Neither transaction sees the other: the check-in misses its monitor by a hair, and waits for the sweep only."""
    project = ProjectFactory()
    opening = make_message("in_progress", at=NOW, project_id=project.id, run=1, config=make_config())
    with in_another_connection(lambda: receive([opening], now=NOW)):
        [outcome] = receive([make_message("error", at=NOW, project_id=project.id, run=1)], now=NOW)
        with pytest.raises(IntegrityError, match="monitor_slug_unique_in_project"), transaction.atomic():
            MonitorFactory(project=project, slug="job")  # waits for the transaction that has the slug
    assert outcome.parked
    assert settle_parked(now=NOW + timedelta(seconds=20)) == 1
    assert runs() == [(run_id(1), "error", NOW, NOW)]
    assert (waiting(), told()) == ([], [])
