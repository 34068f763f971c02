"""Marking environments as failed or ok, in PostgreSQL: incidents, issues, occurrences, outbox (reference 8 to 10)."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkins.editing import update_monitor
from checkins.models import CheckIn
from checkins.processing.apply import receive
from clocktasks.kinds.missed import mark_missed
from clocktasks.kinds.timeout import mark_timeouts
from incidents.handling import archive_issues, resolve_issues, unarchive_issues
from incidents.models import Incident, Issue, Notification, Occurrence
from monitors.models import MonitorEnvironment
from monitors.services import mute_until_recovery, set_environments_muted
from tests.factories import NOW, CheckInFactory, IssueFactory, MonitorEnvironmentFactory, MonitorFactory
from tests.messages import make_message, run_id

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


class Job:
    """A job of a test's story. It speaks in minutes after NOW; every message is a run of its own unless told."""

    def __init__(self, **monitor):
        self.monitor = MonitorFactory(**monitor)
        self.runs = 100

    def says(self, *statuses, minute, run=None):
        for number, status in enumerate(statuses):
            self.runs += 1
            at = NOW + (minute + number) * MINUTE
            receive([make_message(status, monitor=self.monitor, at=at, run=run or self.runs)], now=at)

    @property
    def row(self):
        return MonitorEnvironment.objects.select_related("monitor").get(monitor=self.monitor)

    @property
    def issue(self):
        return Issue.objects.get(monitor_environment=self.row)

    def incidents(self):
        return list(Incident.objects.filter(monitor_environment=self.row).order_by("opened_at"))

    def clock(self, minute):
        """Apply one tick to this job's shard: misses, then timeouts."""
        mark_missed(self.row.shard, NOW + minute * MINUTE)
        mark_timeouts(self.row.shard, NOW + minute * MINUTE)


def occurrences(incident=None):
    rows = Occurrence.objects.order_by("id")
    return list(rows if incident is None else rows.filter(incident=incident))


# --- The life of an incident and its issue ----------------------------------------------------------------------------


def test_a_failure_opens_an_incident_and_an_issue():
    job = Job(name="Nightly backup")
    job.says("ok", "error", minute=0)
    [incident] = job.incidents()
    checkin = CheckIn.objects.get(status="error")
    assert (incident.starting_checkin, incident.started_at, incident.opened_at) == (checkin, NOW + MINUTE, NOW + MINUTE)
    assert (incident.resolved_at, incident.resolving_checkin, incident.issue) == (None, None, job.issue)
    issue = job.issue
    assert (issue.fingerprint, issue.project) == (f"crons:{job.row.id}", job.monitor.project)
    assert (issue.title, issue.status, issue.occurrence_count) == ("Job failing: Nightly backup", "unresolved", 1)
    assert issue.first_seen_at == issue.last_seen_at == NOW + MINUTE
    assert job.row.status == "error"


def test_further_failures_continue_the_incident():
    job = Job()
    job.says("error", "error", "error", minute=0)
    [incident] = job.incidents()
    assert len(occurrences(incident)) == 3
    assert (job.issue.occurrence_count, job.issue.last_seen_at) == (3, NOW + 2 * MINUTE)
    assert (job.row.failure_streak, job.row.failure_streak_started_at) == (3, NOW)


def test_an_ok_resolves_incident_and_issue():
    job = Job()
    job.says("error", "ok", minute=0)
    [incident] = job.incidents()
    assert (incident.resolved_at, incident.resolving_checkin.status) == (NOW + MINUTE, "ok")
    assert (job.issue.status, job.issue.resolved_by, job.issue.resolved_at) == ("resolved", "recovery", NOW + MINUTE)
    assert (job.row.status, job.row.failure_streak, job.row.failure_streak_started_at) == ("ok", 0, None)


def test_the_next_failure_opens_a_new_incident_and_the_same_issue_regresses():
    job = Job()
    job.says("error", "ok", "error", minute=0)
    first, second = job.incidents()
    assert (first.resolved_at, second.resolved_at) == (NOW + MINUTE, None)
    assert first.issue == second.issue == job.issue
    issue = job.issue
    assert (issue.status, issue.regression_count, issue.occurrence_count) == ("unresolved", 1, 2)
    assert (issue.resolved_at, issue.resolved_by, issue.first_seen_at) == (None, None, NOW)


def test_environments_of_a_monitor_have_incidents_and_issues_of_their_own():
    job = Job()
    for number, name in enumerate(["production", "staging"]):
        receive([make_message("error", monitor=job.monitor, environment=name, run=number)], now=NOW)
    assert Incident.objects.count() == Issue.objects.count() == 2
    receive([make_message("ok", monitor=job.monitor, environment="staging", at=NOW + MINUTE, run=9)], now=NOW)
    assert sorted(Issue.objects.values_list("status", "monitor_environment__environment__name")) == [
        ("resolved", "staging"),
        ("unresolved", "production"),
    ]


def test_d6_recovery_takes_consecutive_oks_and_a_running_check_in_does_not_block_it():
    job = Job(recovery_threshold=2)
    job.says("error", "ok", minute=0)
    assert job.row.status == "error"
    job.says("in_progress", "ok", minute=2)
    assert (job.row.status, job.incidents()[0].resolved_at) == ("ok", NOW + 3 * MINUTE)


def test_an_ok_for_an_earlier_run_resolves_the_miss_that_was_found_while_it_ran():
    job = Job(max_runtime=60)
    job.says("in_progress", minute=0, run=1)
    job.clock(6)
    assert job.row.status == "error"
    job.says("ok", minute=7, run=1)
    [incident] = job.incidents()
    assert (job.row.status, incident.resolved_at, incident.resolving_checkin.guid) == ("ok", NOW, run_id(1))
    assert job.issue.resolved_at == NOW + 7 * MINUTE


@pytest.mark.parametrize("word", ["in_progress", "heartbeat", "late end of a timeout"])
def test_what_is_neither_failure_nor_ok_leaves_an_incident_alone(word):
    job = Job(crontab="0 * * * *", max_runtime=10)
    job.says("in_progress", minute=0, run=1)
    job.says("error", minute=1)
    if word == "late end of a timeout":
        job.clock(10)
    incidents, count, streak = job.incidents(), len(occurrences()), job.row.failure_streak
    status = {"in_progress": "in_progress", "heartbeat": "in_progress"}.get(word, "ok")
    job.says(status, minute=12 if status == "ok" else 2, run=2 if word == "in_progress" else 1)
    assert (job.incidents(), len(occurrences()), job.row.failure_streak) == (incidents, count, streak)
    assert job.row.status == "error"


def test_d29_a_timeout_counts_at_its_tick_though_a_newer_run_was_ok():
    job = Job(crontab="0 * * * *", max_runtime=10)
    job.says("in_progress", minute=0, run=1)
    job.says("ok", minute=5)
    job.clock(10)
    timeout = CheckIn.objects.get(guid=run_id(1))
    assert (timeout.status, timeout.failed_at, timeout.timeout_at) == ("timeout", NOW + timedelta(minutes=10), None)
    assert (job.row.status, Incident.objects.count()) == ("error", 1)


def test_d7_a_retried_run_is_one_failure_with_one_occurrence():
    job = Job()
    at = NOW
    for number, status in enumerate(["in_progress", "error", "error", "in_progress"]):
        receive([make_message(status, monitor=job.monitor, at=at, run=1, duration_ms=number)], now=at)
        at += timedelta(seconds=1)
    assert (len(occurrences()), job.row.failure_streak) == (1, 1)


def test_d16_the_ok_of_a_retried_run_resolves_the_incident_that_its_error_opened():
    job = Job()
    job.says("error", minute=0, run=1)
    job.says("ok", minute=1, run=1)
    [incident] = job.incidents()
    assert incident.starting_checkin == incident.resolving_checkin == CheckIn.objects.get()
    assert (job.row.status, job.issue.status) == ("ok", "resolved")


# --- What people do with issues ---------------------------------------------------------------------------------------


def test_an_issue_resolved_by_hand_regresses_with_the_next_failure_of_the_open_incident():
    job = Job()
    job.says("error", minute=0)
    assert resolve_issues([job.issue.id], now=NOW + MINUTE) == 1
    issue = job.issue
    assert (issue.status, issue.resolved_by, issue.resolved_at) == ("resolved", "hand", NOW + MINUTE)
    assert job.row.status == "error"
    job.says("error", minute=2)
    assert (job.issue.status, job.issue.regression_count, len(job.incidents())) == ("unresolved", 1, 1)


def test_recovery_leaves_an_issue_that_was_resolved_by_hand_as_it_is():
    job = Job()
    job.says("error", minute=0)
    resolve_issues([job.issue.id], now=NOW + MINUTE)
    job.says("ok", minute=2)
    assert (job.issue.resolved_by, job.issue.resolved_at) == ("hand", NOW + MINUTE)


def test_resolving_twice_changes_nothing():
    job = Job()
    job.says("error", minute=0)
    resolve_issues([job.issue.id], now=NOW + MINUTE)
    assert resolve_issues([job.issue.id], now=NOW + 2 * MINUTE) == 0
    assert job.issue.resolved_at == NOW + MINUTE


def test_an_archived_issue_stays_archived_while_failures_and_recoveries_are_recorded():
    job = Job()
    job.says("error", minute=0)
    assert archive_issues([job.issue.id]) == 1
    job.says("error", "ok", "error", minute=1)
    issue = job.issue
    assert (issue.status, issue.regression_count, issue.occurrence_count) == ("archived", 0, 3)
    assert (issue.resolved_at, issue.resolved_by) == (None, None)
    assert len(job.incidents()) == 2
    assert archive_issues([issue.id]) == 0


def test_a_resolved_issue_can_be_archived():
    job = Job()
    job.says("error", "ok", minute=0)
    archive_issues([job.issue.id])
    assert (job.issue.status, job.issue.resolved_at, job.issue.resolved_by) == ("archived", None, None)


@pytest.mark.parametrize(("words", "status"), [(["error"], "unresolved"), (["error", "ok"], "resolved")])
def test_an_issue_taken_out_of_the_archive_is_unresolved_while_its_environment_fails(words, status):
    job = Job()
    job.says(*words, minute=0)
    archive_issues([job.issue.id])
    assert unarchive_issues([job.issue.id], now=NOW + 9 * MINUTE) == 1
    assert job.issue.status == status
    assert job.issue.resolved_at == (NOW + 9 * MINUTE if status == "resolved" else None)
    assert unarchive_issues([job.issue.id], now=NOW + 9 * MINUTE) == 0


def test_an_issue_whose_incidents_are_gone_is_resolved_when_it_leaves_the_archive():
    issue = IssueFactory(status="archived", monitor_environment__status="ok")
    unarchive_issues([issue.id], now=NOW)
    issue.refresh_from_db()
    assert issue.status == "resolved"


# --- Muting (10) ------------------------------------------------------------------------------------------------------


def test_a_muted_environment_records_its_incident_and_tells_nobody(settings):
    settings.ALERT_EMAIL_TO = ["night@example.com"]
    job = Job(is_muted=True)
    job.says("error", "error", minute=0)
    [incident] = job.incidents()
    assert (job.row.status, incident.issue, incident.resolved_at) == ("error", None, None)
    assert (Issue.objects.count(), Occurrence.objects.count(), Notification.objects.count()) == (0, 0, 0)
    job.says("ok", minute=2)
    assert (job.row.status, job.incidents()[0].resolved_at) == ("ok", NOW + 2 * MINUTE)
    assert Notification.objects.count() == 0


@pytest.mark.parametrize("quiet", ["muted", "archived"])
def test_p5_whoever_was_told_of_an_opening_is_told_of_its_end_even_if_it_was_muted_or_archived_meanwhile(quiet):
    job = Job()
    job.says("error", minute=0)
    if quiet == "muted":
        set_environments_muted([job.row.id], True)
    else:
        archive_issues([job.issue.id])
    job.says("ok", minute=1)
    assert list(Notification.objects.order_by("id").values_list("transition", flat=True)) == ["opened", "resolved"]


def test_a_recovery_unmutes_what_was_muted_until_then_and_the_next_failure_of_the_same_batch_is_told():
    job = Job()
    job.says("error", minute=0)
    mute_until_recovery([job.row.id])
    job.says("ok", "error", minute=1)
    assert not job.row.is_muted
    assert [incident.notifications.count() for incident in job.incidents()] == [2, 1]


def test_the_next_failure_after_unmuting_has_one_occurrence_and_gives_the_incident_its_issue():
    job = Job(is_muted=True)
    job.says("error", "error", minute=0)
    set_environments_muted([job.row.id], False)
    assert Issue.objects.count() == 0
    job.says("error", minute=2)
    [incident] = job.incidents()
    [occurrence] = occurrences()
    assert (incident.issue, occurrence.incident, occurrence.occurred_at) == (job.issue, incident, NOW + 2 * MINUTE)
    assert job.issue.occurrence_count == 1


def test_muting_during_an_incident_stops_occurrences_and_leaves_the_issue():
    job = Job()
    job.says("error", minute=0)
    set_environments_muted([job.row.id], True)
    job.says("error", minute=1)
    assert (len(occurrences()), job.issue.status, job.row.failure_streak) == (1, "unresolved", 2)
    job.says("ok", minute=2)
    assert job.issue.status == "resolved"


# --- A run of several failures (D5) -----------------------------------------------------------------------------------


def test_d5_opening_records_one_occurrence_for_each_failed_check_in_in_order():
    """An error, a timeout and a miss, found in the order 10:05, 10:10, 10:16 and begun 10:05, 10:00, 10:15."""
    job = Job(crontab="*/15 * * * *", failure_threshold=3, max_runtime=10, name="Import")
    job.says("ok", minute=-10)
    job.says("in_progress", minute=0, run=1)
    job.says("error", minute=5, run=2)
    CheckIn.objects.filter(guid=run_id(1)).update(date_added=NOW + 5.5 * MINUTE)  # begun after the error
    job.clock(10)
    assert (job.row.failure_streak, Incident.objects.count(), Occurrence.objects.count()) == (2, 0, 0)
    job.clock(16)
    [incident] = job.incidents()
    error, timeout = CheckIn.objects.get(guid=run_id(2)), CheckIn.objects.get(guid=run_id(1))
    missed = CheckIn.objects.get(status="missed")
    assert (incident.starting_checkin, incident.started_at) == (error, NOW + 5 * MINUTE)
    assert incident.opened_at == NOW + 16 * MINUTE
    told = occurrences(incident)
    assert [o.checkin for o in told] == [error, timeout, missed]
    reason = "1 error, 1 timeout and 1 missed check-in in a row"
    assert {o.failure_reason for o in told} == {reason}
    assert {o.title for o in told} == {"Job failing: Import"}
    assert {o.subtitle for o in told} == {f"{reason}."}
    assert {o.environment for o in told} == {"production"}
    assert {o.last_ok_at for o in told} == {NOW - 10 * MINUTE}
    assert [o.run_checkin_guids for o in told] == [[error.guid, timeout.guid, missed.guid]] * 3
    assert [o.explanation["kind"] for o in told] == ["error", "timeout", "missed"]
    assert {o.explanation["failure_streak"] for o in told} == {3}
    assert [o.explanation["deadline_at"] for o in told] == [None, "2026-01-05T10:10:00Z", "2026-01-05T10:16:00Z"]
    assert job.issue.occurrence_count == 3


def test_d5_fewer_failures_than_the_threshold_never_open():
    job = Job(failure_threshold=3)
    job.says("error", "error", minute=0)
    assert (job.row.status, job.row.failure_streak, Incident.objects.count()) == ("active", 2, 0)
    job.says("ok", "error", "error", minute=2)
    assert (job.row.status, Incident.objects.count()) == ("ok", 0)


def test_d5_failures_before_the_last_ok_do_not_belong_to_the_run():
    job = Job(failure_threshold=2)
    job.says("error", "ok", "error", "error", minute=0)
    [incident] = job.incidents()
    assert [o.occurred_at for o in occurrences(incident)] == [NOW + 2 * MINUTE, NOW + 3 * MINUTE]


def test_d5_running_check_ins_neither_count_nor_break_the_run():
    job = Job(crontab="0 * * * *", failure_threshold=2)
    job.says("error", "in_progress", "in_progress", "error", minute=0)
    [incident] = job.incidents()
    assert [o.occurred_at for o in occurrences(incident)] == [NOW, NOW + 3 * MINUTE]


def test_d5_slots_found_at_one_late_tick_are_a_run_from_the_oldest_on():
    """The clock was away for half an hour: 10:05 to 10:25 are found together, and the second one opens."""
    job = Job(failure_threshold=2)
    job.says("ok", minute=0)
    job.clock(29)
    [incident] = job.incidents()
    slots = [NOW + n * MINUTE for n in (5, 10, 15, 20, 25)]
    assert incident.started_at == slots[0]
    assert [o.occurred_at for o in occurrences(incident)] == slots
    assert [len(o.run_checkin_guids) for o in occurrences(incident)] == [2, 2, 1, 1, 1]
    assert [o.explanation["deadline_at"] for o in occurrences(incident)] == [
        f"2026-01-05T10:{minute:02}:00Z" for minute in (6, 11, 16, 21, 26)
    ]
    assert job.issue.occurrence_count == 5


def test_d5_a_run_of_errors_in_one_batch_received_in_one_moment():
    job = Job(failure_threshold=3)
    receive([make_message("error", monitor=job.monitor, run=n) for n in range(5)], now=NOW)
    [incident] = job.incidents()
    assert [o.checkin.guid for o in occurrences(incident)] == [run_id(n) for n in range(5)]
    assert incident.starting_checkin.guid == run_id(0)


def test_d5_a_run_over_several_batches_and_ticks_of_many_environments():
    jobs = [Job(failure_threshold=4) for _ in range(6)]
    for minute in range(2):
        for job in jobs:
            job.says("error", minute=minute)
    for shard in {job.row.shard for job in jobs}:
        mark_missed(shard, NOW + 6 * MINUTE)
        mark_missed(shard, NOW + 11 * MINUTE)
    for job in jobs:
        [incident] = job.incidents()
        assert [o.checkin.status for o in occurrences(incident)] == ["error", "error", "missed", "missed"]


def test_a_threshold_lowered_below_the_streak_opens_with_the_newest_failures():
    job = Job(failure_threshold=9)
    job.says("error", "error", "error", minute=0)
    update_monitor(job.monitor.id, {"failure_threshold": 2}, now=NOW + 3 * MINUTE)
    assert job.row.status == "active"
    job.says("error", minute=4)
    [incident] = job.incidents()
    assert [o.occurred_at for o in occurrences(incident)] == [NOW + 2 * MINUTE, NOW + 4 * MINUTE]


# --- Evidence (P8) ----------------------------------------------------------------------------------------------------


def test_p8_a_miss_is_explained_completely():
    job = Job(crontab="*/30 * * * *", timezone="Asia/Kathmandu", checkin_margin=7)
    job.says("ok", minute=0)
    job.clock(22)
    [occurrence] = occurrences()
    assert (occurrence.detected_at, occurrence.occurred_at) == (NOW + 22 * MINUTE, NOW + 15 * MINUTE)
    assert occurrence.subtitle == "No check-in came in time."
    assert occurrence.explanation == {
        "kind": "missed",
        "reason": "threshold_reached",
        "schedule": "Every 30 minutes (Asia/Kathmandu)",
        "crontab": "*/30 * * * *",
        "interval": None,
        "interval_unit": None,
        "timezone": "Asia/Kathmandu",
        "expected_at": "2026-01-05T10:15:00Z",
        "expected_at_local": "2026-01-05T16:00:00+05:45",
        "margin_minutes": 7,
        "max_runtime_minutes": 30,
        "deadline_at": "2026-01-05T10:22:00Z",
        "tick": "2026-01-05T10:22:00Z",
        "clock_decision": "normal",
        "started_at": "2026-01-05T10:15:00Z",
        "received_at": None,
        "failure_threshold": 1,
        "recovery_threshold": 1,
        "failure_streak": 1,
        "failure_streak_started_at": "2026-01-05T10:22:00Z",
        "last_ok_at": "2026-01-05T10:00:00Z",
    }


def test_p8_a_timeout_names_the_deadline_that_passed():
    job = Job(crontab="0 * * * *", max_runtime=10)
    job.says("in_progress", minute=0)
    job.clock(10)
    [occurrence] = occurrences()
    facts = occurrence.explanation
    assert (facts["kind"], facts["started_at"], facts["deadline_at"], facts["tick"]) == (
        "timeout",
        "2026-01-05T10:00:00Z",
        "2026-01-05T10:10:00Z",
        "2026-01-05T10:10:00Z",
    )
    assert occurrence.last_ok_at is None


def test_p8_an_error_names_its_reception_and_no_tick():
    job = Job()
    job.says("error", minute=3)
    facts = occurrences()[0].explanation
    assert (facts["kind"], facts["received_at"], facts["tick"]) == ("error", "2026-01-05T10:03:00Z", None)


def test_p8_an_occurrence_explains_what_was_true_when_it_happened():
    job = Job(checkin_margin=2)
    job.says("ok", minute=0)
    job.clock(7)
    update_monitor(job.monitor.id, {"checkin_margin": 30, "name": "Renamed"}, now=NOW + 8 * MINUTE)
    occurrence = occurrences()[0]
    assert (occurrence.explanation["margin_minutes"], occurrence.title.endswith("Renamed")) == (2, False)


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_the_last_successful_check_in_is_the_one_before_the_failure(at_once):
    job = Job()
    words = ["ok", "error", "ok", "error"]
    messages = [make_message(s, monitor=job.monitor, at=NOW + n * MINUTE, run=n) for n, s in enumerate(words)]
    for batch in [messages] if at_once else [[message] for message in messages]:
        receive(batch, now=NOW)
    assert [o.last_ok_at for o in occurrences()] == [NOW, NOW + 2 * MINUTE]


# --- The outbox -------------------------------------------------------------------------------------------------------


def test_p5_people_are_told_once_for_each_transition(settings):
    settings.ALERT_EMAIL_TO = ["night@example.com"]
    job = Job(failure_threshold=2)
    job.says("error", "error", "error", "ok", "ok", "error", "error", minute=0)
    first, second = job.incidents()
    told = Notification.objects.order_by("id").values_list("incident", "transition", "channel", "created_at", "sent_at")
    assert list(told) == [
        (first.id, "opened", "email", NOW + MINUTE, None),
        (first.id, "resolved", "email", NOW + 3 * MINUTE, None),
        (second.id, "opened", "email", NOW + 6 * MINUTE, None),
    ]


def test_what_is_to_be_told_is_written_down_also_while_there_is_nobody_to_tell():
    Job().says("error", "ok", minute=0)
    assert list(Notification.objects.order_by("id").values_list("transition", flat=True)) == ["opened", "resolved"]


def test_a_batch_that_fails_recovers_and_fails_tells_each(settings):
    settings.ALERT_EMAIL_TO = ["night@example.com"]
    job = Job()
    words = ["error", "ok", "error"]
    receive([make_message(s, monitor=job.monitor, at=NOW + n * MINUTE, run=n) for n, s in enumerate(words)], now=NOW)
    told = Notification.objects.order_by("created_at").values_list("transition", flat=True)
    assert list(told) == ["opened", "resolved", "opened"]


# --- Cost -------------------------------------------------------------------------------------------------------------


def statements(step):
    with CaptureQueriesContext(connection) as queries:
        step()
    return len(queries)


def sets_of(count, **monitor):
    """That many environments of shard 0, each heard at NOW."""
    rows: list[MonitorEnvironment] = []
    while len(rows) < count:
        row = MonitorEnvironmentFactory(monitor__crontab="*/5 * * * *", shard=0, **monitor)
        CheckInFactory(monitor_environment=row)
        rows.append(row)
    return rows


@pytest.mark.parametrize("threshold", [1, 2], ids=["first failure opens", "second failure opens"])
def test_marking_failed_and_ok_costs_the_same_for_few_and_for_many(settings, threshold):
    settings.ALERT_EMAIL_TO = ["night@example.com"]
    costs = []
    for count in (3, 60):
        rows = sets_of(count, monitor__failure_threshold=threshold)
        ticks = [NOW + 6 * MINUTE, NOW + 11 * MINUTE, NOW + 16 * MINUTE]
        failing = [statements(lambda tick=tick: mark_missed(0, tick)) for tick in ticks]
        oks = [make_message("ok", monitor=row.monitor, at=NOW + 17 * MINUTE) for row in rows]
        recovering = statements(lambda oks=oks: receive(oks, now=NOW + 17 * MINUTE))
        assert Incident.objects.filter(monitor_environment__in=rows, resolved_at__isnull=False).count() == count
        costs.append((failing, recovering))
        MonitorEnvironment.objects.update(next_checkin_latest=NOW + timedelta(days=9))
    assert costs[0] == costs[1]
