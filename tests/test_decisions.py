"""One story for each decision of this part, told through the services: what docs/explanation/differences-from-sentry.md
promises, from the message of a job and the ticks of the clock to the rows that people see.
"""

import re
from datetime import UTC, datetime

import pytest

from checkins.editing import delete_environments, delete_monitors, set_monitors_status, update_monitor
from checkins.messages import LossReport, Source
from checkins.models import CheckIn, ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.batch import take
from checkins.processing.retry import retry_failed, settle_parked
from checkins.processing.transitions import decide_checkin
from checkins.protocols.fields import parse_checkin
from checkins.protocols.request import IngestRequest
from clocktasks.ledger import write_ticks
from clocktasks.shards import apply_ticks
from dashboard.losses import losses_beside
from incidents.models import Incident, Issue, Notification, Occurrence
from monitors.models import MonitorEnvironment
from monitors.state import MonitorStatus
from tests.factories import MonitorFactory, ProjectFactory
from tests.messages import make_config, make_message, run_id

pytestmark = pytest.mark.django_db

DECISIONS = [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 23, 31, 32, 40]


def at(text):
    """An instant: "10:05", "10:05:30" or with a date "2026-03-28 10:05"."""
    day, _, time = text.rpartition(" ")
    return datetime.fromisoformat(f"{day or '2026-01-05'}T{time}").replace(tzinfo=UTC)


class Story:
    """A job, the messages that it sends and the clock that runs beside it."""

    def __init__(self, *, since="10:00", **monitor):
        self.monitor = MonitorFactory(**monitor)
        self.runs = 1_000
        write_ticks(at(since), now=at(since))

    def hears(self, status, when, *, run=None, environment="production", **fields):
        """Receive one message; without `run` it is a whole run of its own."""
        self.runs += 1
        message = make_message(
            status, monitor=self.monitor, at=at(when), run=run or self.runs, environment=environment, **fields
        )
        [outcome] = receive([message], now=at(when))
        return [problem.kind.value for problem in outcome.problems]

    def clock(self, until):
        """Apply every tick up to this one; returns what was marked as (kind, slot or start, tick)."""
        write_ticks(at(until), now=at(until))
        return [
            (effect.kind.value, f"{marked.at:%H:%M}", f"{effect.tick:%H:%M}")
            for effect in apply_ticks(self.row().shard, until=at(until))
            for marked in effect.marked
        ]

    def row(self, environment="production"):
        return MonitorEnvironment.objects.get(monitor=self.monitor, environment__name=environment)

    def run(self, number):
        return CheckIn.objects.get(project=self.monitor.project, guid=run_id(number))

    def open_incidents(self):
        return Incident.objects.filter(monitor_environment__monitor=self.monitor, resolved_at=None).count()


def test_d1_every_slot_is_accounted_for():
    """Every quarter of an hour with a margin of 20 minutes: each silent slot is missed by itself, at its own tick."""
    story = Story(interval=15, interval_unit="minute", checkin_margin=20)
    story.hears("ok", "10:00:40")
    assert story.clock("11:10") == [
        ("missed", "10:15", "10:35"),
        ("missed", "10:30", "10:50"),
        ("missed", "10:45", "11:05"),
    ]
    story.hears("ok", "11:10:30")
    assert story.clock("11:40") == []


def test_d5_the_failure_threshold_counts_failures(settings):
    """Threshold 3. An error, a run that hangs and a miss open it; a running check-in among them does not count."""
    settings.ALERT_EMAIL_TO = ["night@example.com"]
    story = Story(crontab="*/20 * * * *", failure_threshold=3, max_runtime=10)
    story.hears("ok", "10:00:10")
    story.hears("in_progress", "10:01", run=1)
    story.hears("error", "10:00:50", run=2)
    story.hears("in_progress", "10:15", run=3)
    story.clock("10:20")
    assert (story.open_incidents(), story.row().failure_streak) == (0, 2)
    assert story.clock("10:21") == [("missed", "10:20", "10:21")]
    assert story.open_incidents() == 1
    kinds = Occurrence.objects.order_by("id").values_list("explanation__kind", flat=True)
    assert list(kinds) == ["error", "timeout", "missed"]
    assert Notification.objects.count() == 1


def test_d6_recovery_takes_m_consecutive_oks_and_status_and_incident_change_together():
    story = Story(crontab="0 * * * *", recovery_threshold=2)
    story.hears("error", "10:00:10")
    told = []
    for status, when in [
        ("ok", "10:01"),
        ("error", "10:02"),
        ("ok", "10:03"),
        ("in_progress", "10:04"),
        ("ok", "10:05"),
    ]:
        story.hears(status, when)
        told.append((story.row().status, story.open_incidents()))
    assert told == [("error", 1)] * 4 + [("ok", 0)]


def test_d7_only_a_check_in_that_is_still_in_progress_times_out_and_nothing_counts_twice():
    story = Story(crontab="0 * * * *", max_runtime=10)
    story.hears("in_progress", "10:00:10", run=1)
    story.hears("in_progress", "10:00:20", run=2)
    story.hears("ok", "10:09:59", run=1)
    assert story.clock("10:11") == [("timeout", "10:00", "10:11")]
    assert [story.run(number).status for number in (1, 2)] == ["ok", "timeout"]
    for _ in range(2):
        assert story.clock("10:11") == []
        story.hears("error", "10:11:00", run=3)
    story.hears("in_progress", "10:11:01", run=3)
    assert Occurrence.objects.filter(checkin=story.run(3)).count() == 1


def test_d8_a_late_finish_is_visible():
    story = Story(crontab="0 * * * *", max_runtime=10)
    story.hears("in_progress", "10:00:10", run=1)
    story.hears("in_progress", "10:05:10", run=1)
    story.clock("10:16")
    story.hears("ok", "10:20:10", run=1)
    run = story.run(1)
    assert (run.status, run.finished_status, run.finished_at, run.duration_ms) == (
        "timeout",
        "ok",
        at("10:20:10"),
        20 * 60_000,
    )
    assert (story.row().status, story.open_incidents()) == ("error", 1)


def test_d9_ids_are_the_projects_own():
    story, stranger = Story(), Story()
    story.hears("in_progress", "10:00:10", run=1)
    assert story.hears("ok", "10:00:20", run=1, environment="staging") == ["CHECKIN_ENVIRONMENT_MISMATCH"]
    assert stranger.hears("ok", "10:00:30", run=1) == []
    assert (story.run(1).status, stranger.run(1).status) == ("in_progress", "ok")


def test_d10_changing_what_is_expected_recomputes_it_everywhere():
    story = Story(crontab="*/5 * * * *", checkin_margin=1)
    for name in ("production", "staging"):
        story.hears("ok", "10:00:10", environment=name)
    update_monitor(story.monitor.id, {"crontab": "30 * * * *", "checkin_margin": 3}, now=at("10:04"))
    assert [story.row(name).next_checkin_latest for name in ("production", "staging")] == [at("10:33")] * 2
    assert story.clock("10:32") == []


def test_d10_enabling_a_monitor_again_never_misses_at_once():
    story = Story(crontab="*/5 * * * *")
    story.hears("ok", "10:00:10")
    set_monitors_status([story.monitor.id], MonitorStatus.DISABLED, now=at("10:03"))
    assert (story.clock("12:02"), story.row().next_checkin) == ([], None)
    set_monitors_status([story.monitor.id], MonitorStatus.ACTIVE, now=at("12:02"))
    assert story.clock("12:06") == [("missed", "12:05", "12:06")]


def test_d11_intervals_are_exact():
    """An hour is an hour on the day the clocks go back, and a month from the 31st keeps the 31st."""
    autumn = Story(since="2026-10-24 23:30", interval=1, interval_unit="hour", timezone="Europe/London")
    autumn.hears("ok", "2026-10-25 00:30")
    assert autumn.row().next_checkin == at("2026-10-25 01:30")
    monthly = Story(since="2026-10-24 23:30", interval=1, interval_unit="month")
    monthly.hears("ok", "2027-01-31 08:00")
    assert monthly.row().next_checkin == at("2027-02-28 08:00")
    monthly.hears("ok", "2027-02-28 08:00:30")
    assert monthly.row().next_checkin == at("2027-03-31 08:00")


def test_d12_a_second_early_is_not_a_miss():
    story = Story(crontab="0 * * * *")
    story.hears("in_progress", "10:59:58", run=1)
    story.hears("ok", "10:59:59", run=1)
    assert (story.clock("11:30"), story.row().next_checkin) == ([], at("12:00"))
    story.hears("ok", "11:59:54.900")
    assert story.clock("12:01") == [("missed", "12:00", "12:01")]


def test_d13_limits_are_per_monitor_environment_and_refusals_are_counted():
    story = Story()
    for second in range(9):
        refused = story.hears("ok", f"10:00:{second:02}")
        assert refused == (["MONITOR_ENVIRONMENT_RATELIMITED"] if second >= 6 else [])
    assert story.hears("ok", "10:00:30", environment="staging") == []
    assert story.hears("ok", "10:01:00") == []
    error = ProcessingError.objects.get()
    assert (error.kind, error.count, error.monitor) == ("MONITOR_ENVIRONMENT_RATELIMITED", 3, story.monitor)


@pytest.mark.parametrize("absent", [{}, {"environment": None}, {"environment": ""}], ids=["no key", "null", "empty"])
def test_d13_an_absent_environment_is_production(absent):
    story = Story()
    payload = {"monitor_slug": story.monitor.slug, "status": "ok", **absent}
    project_id = story.monitor.project_id
    message = parse_checkin(payload, project_id=project_id, received_at=at("10:00"), source=Source.SENTRY_ENVELOPE)
    for second in range(6):
        story.hears("ok", f"10:00:{second:02}")
    [outcome] = receive([message], now=at("10:00:10"))
    assert [problem.kind.value for problem in outcome.problems] == ["MONITOR_ENVIRONMENT_RATELIMITED"]
    assert MonitorEnvironment.objects.count() == 1


def test_d14_an_error_of_ours_fails_one_check_in_alone_and_it_can_be_processed_again(monkeypatch):
    story, neighbour = Story(), Story()

    def decide(message, **facts):
        if message.slug == story.monitor.slug:
            raise ZeroDivisionError("a mistake of ours")
        return decide_checkin(message, **facts)

    monkeypatch.setattr("checkins.processing.apply.decide_checkin", decide)
    answers = take([ping_of(story.monitor), ping_of(neighbour.monitor)], now=at("10:00:10"))
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"OK"), (200, b"OK")]
    assert [run.monitor_environment.monitor for run in CheckIn.objects.all()] == [neighbour.monitor]
    kept = WaitingCheckIn.objects.get()
    assert (kept.slug, "a mistake of ours" in kept.error) == (story.monitor.slug, True)
    monkeypatch.undo()
    assert retry_failed([kept.id], now=at("11:30")) == (1, 0)
    assert (story.row().last_checkin, story.row().ok_streak) == (at("10:00:10"), 1)
    assert not WaitingCheckIn.objects.exists()


def ping_of(monitor):
    return IngestRequest(
        method="GET",
        path=f"/ping/{monitor.guid}",
        query="",
        headers={},
        body=b"",
        body_bytes=0,
        received_at=at("10:00:10"),
    )


def test_d15_deleting_what_does_not_exist_deletes_nothing():
    story = Story()
    story.hears("ok", "10:00:10")
    assert delete_environments(story.monitor.id, ["staging", "no such"]) == 0
    assert delete_environments(story.monitor.id, []) == 0
    assert delete_environments(story.monitor.id + 1, ["production"]) == 0
    assert delete_monitors([story.monitor.id + 1], now=at("10:01")) == 0
    assert delete_monitors([], now=at("10:01")) == 0
    story.monitor.refresh_from_db()
    assert (story.monitor.status, story.row().status) == ("active", "ok")
    assert delete_environments(story.monitor.id, ["production", "no such"]) == 1
    story.monitor.refresh_from_db()
    assert story.monitor.status == "active"


def test_d16_a_runs_last_word_counts_and_ok_is_final():
    story = Story(crontab="0 * * * *")
    for status, when, duration_ms in [
        ("in_progress", "10:00:00", None),
        ("error", "10:00:10", 10_000),
        ("error", "10:00:20", 9_000),
        ("ok", "10:00:30", 8_000),
    ]:
        assert story.hears(status, when, run=1, duration_ms=duration_ms) == []
    run = story.run(1)
    assert (run.status, run.duration_ms) == ("ok", 8_000)
    assert list(run.attempts.values_list("status", "duration_ms")) == [("error", 10_000), ("error", 9_000)]
    assert (story.row().status, story.open_incidents(), Issue.objects.get().status) == ("ok", 0, "resolved")
    assert story.hears("error", "10:00:40", run=1) == ["CHECKIN_FINISHED"]
    assert (story.run(1).status, story.row().status) == ("ok", "ok")


def test_d17_the_end_may_come_before_the_beginning_and_before_its_monitor():
    """A job that fails at once, told over two connections; only its beginning brings the configuration."""
    project = ProjectFactory()
    write_ticks(at("10:00"), now=at("10:00"))
    end = make_message("error", project_id=project.id, at=at("10:00:10.000"), run=1)
    beginning = make_message(
        "in_progress", project_id=project.id, at=at("10:00:10.400"), run=1, config=make_config("0 * * * *")
    )
    [parked] = receive([end], now=end.received_at)
    assert (parked.parked, parked.problems, CheckIn.objects.count()) == (True, [], 0)
    [outcome] = receive([beginning], now=beginning.received_at)
    assert outcome.created
    run = CheckIn.objects.get()
    assert (run.status, run.date_added, run.date_in_progress) == ("error", end.received_at, beginning.received_at)
    assert Incident.objects.get().starting_checkin_id == run.id
    assert not ProcessingError.objects.exists()


def test_d17_what_waited_in_vain_for_its_monitor_is_told():
    project = ProjectFactory()
    receive([make_message("ok", project_id=project.id, at=at("10:00:10"), run=1)], now=at("10:00:10"))
    assert [settle_parked(now=at(time)) for time in ("10:02:09", "10:02:10", "10:02:11")] == [0, 1, 0]
    assert ProcessingError.objects.get().kind == "MONITOR_NOT_FOUND"


def test_d18_a_bad_part_is_dropped_not_the_signal():
    """Every optional part of the payload is unusable; the job was heard all the same, and nothing is missed."""
    story = Story(crontab="*/5 * * * *")
    story.hears("ok", "10:00:10")
    payload = {
        "monitor_slug": story.monitor.slug,
        "status": "ok",
        "duration": -3,
        "contexts": {"trace": {"trace_id": 17}},
        "monitor_config": {"schedule": {"type": "crontab", "value": "61 * * * *"}},
    }
    message = parse_checkin(
        payload, project_id=story.monitor.project_id, received_at=at("10:05:20"), source=Source.SENTRY_ENVELOPE
    )
    [outcome] = receive([message], now=at("10:05:20"))
    assert outcome.accepted
    assert ProcessingError.objects.filter(monitor=story.monitor).count() == 3
    assert story.clock("10:10") == []


def test_d18_the_usable_parts_of_a_configuration_are_taken():
    story = Story(crontab="*/5 * * * *", checkin_margin=4)
    payload = {
        "monitor_slug": story.monitor.slug,
        "status": "ok",
        "monitor_config": {"schedule": {"type": "crontab", "value": "*/10 * * * *"}, "checkin_margin": "soon"},
    }
    message = parse_checkin(
        payload, project_id=story.monitor.project_id, received_at=at("10:00:10"), source=Source.SENTRY_ENVELOPE
    )
    [outcome] = receive([message], now=at("10:00:10"))
    assert (outcome.accepted, len(outcome.problems)) == (True, 1)
    assert (story.row().next_checkin, story.row().next_checkin_latest) == (at("10:10"), at("10:14"))


def test_d19_clients_own_loss_reports_are_evidence_and_nothing_more():
    """The 11:00 run reports that its messages were lost; its slot is missed all the same, and the miss says so."""
    story = Story(crontab="0 * * * *")
    story.hears("ok", "10:00:10")
    assert story.clock("11:01") == [("missed", "11:00", "11:01")]
    loss = LossReport(
        project_id=story.monitor.project_id,
        reason="network_error",
        quantity=2,
        reported_at=at("11:40"),
        received_at=at("11:40:01"),
        source=Source.SENTRY_ENVELOPE,
    )
    receive([loss], now=at("11:40:01"))
    assert (story.row().status, story.open_incidents()) == ("error", 1)
    miss = CheckIn.objects.get(status="missed")
    assert [(report.reason, report.quantity) for report in losses_beside([miss], story.monitor.project_id)] == [
        ("network_error", 2)
    ]


@pytest.mark.parametrize(
    ("received", "marked"),
    [
        pytest.param("11:09:59.999", [], id="just before the deadline"),
        pytest.param("11:10:00", [("missed", "11:00", "11:10")], id="at the deadline"),
        pytest.param("11:10:00.001", [("missed", "11:00", "11:10")], id="just after the deadline"),
    ],
)
@pytest.mark.parametrize("clock", ["in time", "late"])
def test_d20_what_is_received_at_the_tick_is_not_seen_by_it(received, marked, clock):
    """The same whether the clock applies its ticks at once or hours later (P3)."""
    story = Story(crontab="0 * * * *", checkin_margin=10)
    story.hears("ok", "10:00:10")
    found = story.clock("11:10") if clock == "in time" and marked else []
    story.hears("ok", received)
    found += story.clock("11:30")
    assert (found, story.row().status, story.row().next_checkin) == (marked, "ok", at("12:00"))


@pytest.mark.parametrize(
    ("received", "status"), [("10:30:09.999", "ok"), ("10:30:10", "timeout"), ("10:30:10.001", "timeout")]
)
@pytest.mark.parametrize("clock", ["in time", "late"])
def test_d20_an_end_received_at_the_deadline_is_late(received, status, clock):
    story = Story(crontab="0 * * * *", max_runtime=30)
    story.hears("in_progress", "10:00:10", run=1)
    if clock == "in time":
        story.clock("10:30")
    story.hears("ok", received, run=1)
    story.clock("10:40")
    assert (story.run(1).status, story.run(1).finished_status) == (status, "ok" if status == "timeout" else None)


def test_d32_a_slot_that_waits_for_its_deadline_when_the_schedule_changes_is_missed_by_the_rules_of_then():
    story = Story(crontab="30 10 * * *", checkin_margin=10)
    story.hears("ok", "10:00:40")
    assert story.clock("10:35") == []
    update_monitor(story.monitor.id, {"crontab": "0 12 * * *", "checkin_margin": 1}, now=at("10:35"))
    assert (story.row().next_checkin, story.row().next_checkin_latest) == (at("12:00"), at("10:40"))
    assert story.clock("10:39") == []
    assert story.clock("11:59") == [("missed", "10:30", "10:40")]
    assert story.clock("12:02") == [("missed", "12:00", "12:01")]


def test_d32_a_clock_that_stood_still_over_an_edit_judges_each_slot_by_the_rules_of_its_time():
    story = Story(crontab="* * * * *", checkin_margin=1)
    story.hears("ok", "10:00:10")
    update_monitor(story.monitor.id, {"crontab": "0 * * * *"}, now=at("10:20"))
    missed = [("missed", f"10:{minute:02}", f"10:{minute + 1:02}") for minute in range(1, 21)]
    assert story.clock("10:59") == missed
    assert story.clock("11:01") == [("missed", "11:00", "11:01")]
    assert CheckIn.objects.filter(status="missed").count() == 21


def test_d32_a_shorter_margin_hurries_no_slot_that_came_before_it():
    story = Story(crontab="0 * * * *", checkin_margin=30)
    story.hears("ok", "10:00:10")
    story.clock("11:05")
    update_monitor(story.monitor.id, {"checkin_margin": 1}, now=at("11:05:20"))
    assert story.clock("11:29") == []
    story.hears("ok", "11:29:30")
    assert story.clock("12:01") == [("missed", "12:00", "12:01")]


def test_d32_a_job_that_comes_late_serves_the_slot_of_before_the_edit_and_no_later_one():
    story = Story(crontab="0 * * * *", checkin_margin=20)
    story.hears("ok", "10:00:10")
    update_monitor(story.monitor.id, {"crontab": "*/15 * * * *", "checkin_margin": 5}, now=at("11:10"))
    story.hears("ok", "11:12", run=7)
    assert story.run(7).expected_time == at("11:00")
    assert story.clock("11:21") == [("missed", "11:15", "11:20")]


def test_d32_every_edit_keeps_the_rules_of_before_it():
    """The clock stands still while somebody edits three times: nothing is lost, nothing doubled."""
    story = Story(crontab="*/10 * * * *", checkin_margin=3)
    story.hears("ok", "10:00:10")
    update_monitor(story.monitor.id, {"crontab": "*/4 * * * *"}, now=at("10:15"))
    update_monitor(story.monitor.id, {"checkin_margin": 1}, now=at("10:21"))
    update_monitor(story.monitor.id, {"crontab": "0 0 * * *"}, now=at("10:25"))
    assert story.clock("11:00") == [
        ("missed", "10:10", "10:13"),
        ("missed", "10:16", "10:19"),
        ("missed", "10:20", "10:23"),
        ("missed", "10:24", "10:25"),
    ]
    assert story.row().spans is None


def test_d32_a_miss_is_shown_with_the_configuration_that_it_was_judged_by():
    story = Story(crontab="0 * * * *", checkin_margin=20)
    story.hears("ok", "10:00:10", run=1)
    update_monitor(story.monitor.id, {"crontab": "30 * * * *", "checkin_margin": 2}, now=at("11:10"))
    story.clock("11:20")
    missed = CheckIn.objects.get(status="missed")
    assert missed.config_id == story.run(1).config_id
    assert Occurrence.objects.get().explanation["margin_minutes"] == 20


def test_d32_an_edit_before_the_slot_expects_it_no_more():
    """D10: what has not come yet is expected by the new rules alone."""
    story = Story(crontab="30 10 * * *", checkin_margin=10)
    story.hears("ok", "10:00:10")
    update_monitor(story.monitor.id, {"crontab": "0 12 * * *"}, now=at("10:29:59"))
    assert (story.row().spans, story.row().next_checkin_latest) == (None, at("12:10"))
    assert story.clock("11:59") == []


def test_d32_what_was_due_before_a_monitor_was_disabled_is_judged_though_it_is_enabled_again():
    """D23: what fell due while it was disabled is unknown, and the clock finds both later."""
    story = Story(crontab="*/10 * * * *", checkin_margin=5)
    story.hears("ok", "10:00:10")
    set_monitors_status([story.monitor.id], MonitorStatus.DISABLED, now=at("10:22"))
    set_monitors_status([story.monitor.id], MonitorStatus.ACTIVE, now=at("10:34"))
    story.clock("10:44")
    judged = CheckIn.objects.exclude(status="ok").order_by("date_added")
    assert list(judged.values_list("date_added", "status", "unknown_because")) == [
        (at("10:10"), "missed", None),
        (at("10:20"), "unknown", "disabled"),
    ]
    assert story.clock("10:45") == [("missed", "10:40", "10:45")]


def test_d32_the_threshold_is_that_of_the_tick_which_finds_the_failure():
    story = Story(crontab="*/10 * * * *", checkin_margin=5)
    story.hears("ok", "10:00:10")
    update_monitor(story.monitor.id, {"failure_threshold": 2}, now=at("10:12"))
    story.clock("10:15")
    assert (story.open_incidents(), story.row().failure_streak) == (0, 1)


def test_d31_start_and_end_with_other_runtimes_give_the_same_in_one_batch_as_in_two():
    seen = []
    for sizes in ([2], [1, 1]):
        story = Story(crontab="0 * * * *", max_runtime=30)
        story.hears("ok", "10:00:10")
        words = [
            make_message(
                "in_progress",
                monitor=story.monitor,
                at=at("11:00"),
                run=1,
                config=make_config("0 * * * *", max_runtime_minutes=10),
            ),
            make_message(
                "ok",
                monitor=story.monitor,
                at=at("11:12"),
                run=1,
                config=make_config("0 * * * *", max_runtime_minutes=60),
            ),
        ]
        for size in sizes:
            receive(words[:size], now=at("11:13"))
            words = words[size:]
        seen.append((story.run(1).status, story.run(1).finished_status, story.clock("11:30")))
    assert seen[0] == seen[1]
    assert seen[0] == ("in_progress", "ok", [("timeout", "11:00", "11:10")])


def test_d23_the_end_of_a_run_in_a_deleted_environment_is_stored_and_not_counted():
    for makes_a_new_one in (False, True):
        story = Story(crontab="0 * * * *", max_runtime=30)
        story.hears("in_progress", "10:00", run=1)
        deleted = story.row()
        delete_environments(story.monitor.id, ["production"])
        if makes_a_new_one:
            story.hears("ok", "10:01")
        assert story.hears("error", "10:02", run=1) == []
        run = story.run(1)
        assert (run.status, run.monitor_environment_id, run.failed_at) == ("error", deleted.id, None)
        deleted.refresh_from_db()
        assert (deleted.status, deleted.failure_streak) == ("pending_deletion", 0)
        others = MonitorEnvironment.objects.filter(monitor=story.monitor).exclude(id=deleted.id)
        assert others.count() == makes_a_new_one


def test_d40_what_people_set_can_be_locked():
    """A job that wants another schedule at each run: told once while it is locked, shown once when it is taken."""
    story = Story(crontab="0 * * * *", is_config_locked=True)
    wanted = make_config("30 * * * *")
    assert story.hears("ok", "10:00", config=wanted) == ["MONITOR_CONFIG_LOCKED"]
    assert story.hears("ok", "11:00", config=wanted) == []
    assert f"{story.row().next_checkin:%H:%M}" == "12:00"
    assert not story.monitor.config_changes.exists()

    update_monitor(story.monitor.pk, {"is_config_locked": False}, now=at("11:10"))
    assert story.hears("ok", "12:00", config=wanted) == []
    assert f"{story.row().next_checkin:%H:%M}" == "12:30"
    assert story.monitor.config_changes.get().difference == {"crontab": ["0 * * * *", "30 * * * *"]}


def test_every_decision_of_this_part_has_a_story_here():
    told = {int(match[1]) for name in globals() if (match := re.match(r"test_d(\d+)_", name))}
    assert told == set(DECISIONS)
