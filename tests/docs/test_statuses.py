import re
import uuid
from datetime import timedelta

import pytest

from checkins.messages import CheckInStatus, Source
from checkins.processing.transitions import CheckInState, decide_checkin
from incidents.models import Issue
from incidents.thresholds import Decision, Reason, decide_failure, decide_ok
from monitors.expectation import decide_due_slots
from monitors.schedule import IntervalUnit, Schedule, ScheduleType, anchor_for
from monitors.state import EnvironmentState, EnvironmentStatus, MonitorRules, MonitorStatus
from tests.docs.pages import DOCS, blocks, code, section, tables
from tests.factories import NOW
from tests.messages import make_message, run_id

PAGE = DOCS / "reference" / "statuses.md"
RULES = MonitorRules(
    schedule=Schedule(ScheduleType.CRONTAB, crontab="*/5 * * * *", interval=None, interval_unit=None, timezone="UTC"),
    margin_minutes=1,
    max_runtime_minutes=30,
    failure_threshold=1,
    recovery_threshold=1,
)


def first_column(heading: str) -> set[str]:
    return {code(row[0]) for row in tables(section(PAGE, heading))[0]}


def arrows(diagram: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^ +([\w\[*\]]+) --> ([\w\[*\]]+)", diagram, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("## Check-in", {status.value for status in CheckInStatus}),
        ("## Monitor", {status.value for status in MonitorStatus}),
        ("## Monitor environment", {status.value for status in EnvironmentStatus}),
        ("## Issue", set(Issue.Status.values)),
    ],
)
def test_every_status_is_documented_and_no_other(heading, words):
    assert first_column(heading) == words


# --- check-ins --------------------------------------------------------------------------------------------------------


def status_after(old: str, message_status: str) -> str:
    """What the code makes of a message for a run that began a minute ago: the run's status, or `refused`."""
    run = None
    if old:
        status = CheckInStatus(old)
        run = CheckInState(
            id=1,
            guid=run_id(1),
            environment_id=1,
            status=status,
            date_added=NOW,
            date_updated=NOW,
            received_at=NOW,
            source=Source.SENTRY_ENVELOPE,
            timeout_at=NOW + timedelta(minutes=30) if status is CheckInStatus.IN_PROGRESS else None,
        )
    effect = decide_checkin(
        make_message(message_status, at=NOW + timedelta(minutes=1), run=1),
        existing=run,
        new_guid=uuid.uuid4(),
        environment_id=1,
        environment=EnvironmentState(last_checkin=NOW),
        rules=RULES,
        early_tolerance=timedelta(seconds=5),
    )
    if effect.problem is not None:
        return "refused"
    return old if effect.checkin is None else effect.checkin.status.value


def message_table() -> dict[tuple[str, str], str]:
    table = tables(section(PAGE, "## Check-in"))[1]
    words = ("in_progress", "ok", "error")
    return {
        (code(row[0]), word): code(cell) or cell for row in table for word, cell in zip(words, row[1:], strict=True)
    }


def test_the_table_of_messages_has_every_case():
    assert set(message_table()) == {
        (old, new) for old in ("", *CheckInStatus) for new in ("in_progress", "ok", "error")
    }


@pytest.mark.parametrize(("case", "documented"), message_table().items(), ids=str)
def test_a_message_does_to_a_run_what_is_documented(case, documented):
    assert status_after(*case) == documented


def test_the_diagram_of_check_ins_shows_the_same():
    by_message = {(old or "[*]", new) for (old, _), new in message_table().items() if new not in ("refused", old)}
    heartbeat = {("in_progress", "in_progress")}
    by_clock = {("[*]", "missed"), ("[*]", "unknown"), ("in_progress", "timeout"), ("in_progress", "unknown")}
    (diagram,) = [body for page, body in blocks("mermaid") if page == PAGE and "in_progress" in body]

    assert arrows(diagram) == by_message | heartbeat | by_clock


# --- thresholds -------------------------------------------------------------------------------------------------------

THRESHOLD = 3
EVENTS = {
    "the Nth failure in a row": ("failure", THRESHOLD - 1),
    "an earlier failure": ("failure", 0),
    "a failure": ("failure", 0),
    "an error of an older run than one that was ok": ("overtaken", 0),
    "the Mth ok in a row": ("ok", THRESHOLD - 1),
    "an earlier ok": ("ok", 0),
    "an ok": ("ok", 0),
}


def decide(status: str, event: str) -> Decision:
    kind, streak = EVENTS[event]
    if kind == "overtaken":
        state = EnvironmentState(status=EnvironmentStatus(status), last_ok_at=NOW, ok_streak=1)
        return decide_failure(state, failed_at=NOW, threshold=THRESHOLD, error_of=NOW - timedelta(minutes=1))
    if kind == "failure":
        state = EnvironmentState(
            status=EnvironmentStatus(status), failure_streak=streak, failure_streak_started_at=NOW if streak else None
        )
        return decide_failure(state, failed_at=NOW, threshold=THRESHOLD)
    state = EnvironmentState(status=EnvironmentStatus(status), ok_streak=streak)
    return decide_ok(state, started_at=NOW, received_at=NOW, threshold=THRESHOLD)


def outcome_table() -> list[tuple[str, str, str, str]]:
    return [
        (code(row[0]), row[1], code(row[2]), code(row[3])) for row in tables(section(PAGE, "## Monitor environment"))[1]
    ]


def test_every_reason_is_documented_and_no_other():
    assert {reason for *_, reason in outcome_table()} == {reason.value for reason in Reason}


def test_every_status_meets_failures_and_oks():
    met = {(status, EVENTS[event][0]) for status, event, *_ in outcome_table()} - {("ok", "overtaken")}

    assert met == {(status.value, kind) for status in EnvironmentStatus for kind in ("failure", "ok")}


@pytest.mark.parametrize(("status", "event", "becomes", "reason"), outcome_table())
def test_a_failure_or_an_ok_does_to_an_environment_what_is_documented(status, event, becomes, reason):
    decision = decide(status, event)

    assert (decision.state.status.value, decision.reason.value) == (becomes, reason)


def test_the_diagram_of_issues_uses_its_statuses():
    (diagram,) = [body for page, body in blocks("mermaid") if page == PAGE and "archived" in body]

    assert {word for arrow in arrows(diagram) for word in arrow} == {"[*]", *Issue.Status.values}


# --- the worked example of the slot pointer ---------------------------------------------------------------------------


def test_the_slot_pointer_moves_as_the_architecture_page_shows():
    (table,) = tables(section(DOCS / "explanation" / "architecture.md", "### The slot pointer"))
    rules = MonitorRules(
        schedule=Schedule(
            ScheduleType.INTERVAL, crontab=None, interval=15, interval_unit=IntervalUnit.MINUTE, timezone="UTC"
        ),
        margin_minutes=20,
        max_runtime_minutes=30,
        failure_threshold=1,
        recovery_threshold=1,
    )
    heard_at = NOW.replace(second=40)
    message = make_message("ok", at=heard_at, run=1)
    state = decide_checkin(
        message,
        existing=None,
        new_guid=uuid.uuid4(),
        environment_id=1,
        environment=EnvironmentState(),
        rules=rules,
        early_tolerance=timedelta(seconds=5),
    ).environment
    assert state.anchor == anchor_for(rules.schedule, heard_at)

    shown = []
    for tick in (None, NOW + timedelta(minutes=35), NOW + timedelta(minutes=50)):
        if tick is not None:
            _, state = decide_due_slots(state, rules, tick=tick)
        shown.append([f"{at:%H:%M}" for at in (state.pending_slot, state.next_checkin_latest, state.next_checkin)])

    assert shown == [row[1:] for row in table]
