"""What people read in an alert: one line that says what, a sentence that says why, and nothing that a stranger made."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.mail import EmailMessage
from hypothesis import given
from hypothesis import strategies as st

from incidents.explanation import explain
from incidents.notifications.alert import Alert, Event, IncidentFacts
from incidents.notifications.channels.mail_text import content, subject, text
from incidents.notifications.letters import (
    LOG_LINE_LENGTH_MAX,
    LOG_LINES_MAX,
    NAME_LENGTH_MAX,
    Story,
    headline,
    log_tail,
    passing,
    plain,
    reason,
    recovery,
    why,
)
from incidents.thresholds import FailureKind, Reason
from monitors.limits import broken, parse_limits
from monitors.schedule import Schedule
from monitors.state import EnvironmentState, MonitorRules

VIENNA = "Europe/Vienna"
HALF_PAST_TWO = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
"""02:30 in Vienna."""
MINUTE = timedelta(minutes=1)
LINK = "https://clock.example.com/admin/incidents/incident/7/change/"
RULES = MonitorRules(Schedule.from_crontab("30 2 * * *", VIENNA), 10, 30, 1, 1)


def explained(kind="missed", *, rules=RULES, streak=1, last_ok_at=None, **fields):
    """The stored explanation of a failure of the run, or slot, of 02:30."""
    state = EnvironmentState(
        failure_streak=streak,
        failure_streak_started_at=HALF_PAST_TWO - (streak - 1) * timedelta(days=1),
        last_ok_at=last_ok_at,
    )
    by_clock = kind in ("missed", "timeout")
    found_at = HALF_PAST_TWO + (rules.max_runtime_minutes if kind == "timeout" else rules.margin_minutes) * MINUTE
    values: dict[str, Any] = {
        "started_at": HALF_PAST_TWO,
        "expected_time": HALF_PAST_TWO,
        "deadline": found_at if by_clock else None,
        "tick": found_at if by_clock else None,
        "received_at": None if by_clock else found_at,
    }
    return explain(
        kind=FailureKind(kind), reason=Reason.THRESHOLD_REACHED, rules=rules, state=state, **(values | fields)
    )


def story(explanation=None, **fields):
    values = {
        "monitor": "Nightly backup",
        "environment": "production",
        "timezone": VIENNA,
        "started_at": HALF_PAST_TWO,
        "explanation": explained() if explanation is None else explanation,
        "link": LINK,
        "recovered_at": HALF_PAST_TWO + 100 * MINUTE,
    }
    return Story(**(values | fields))


@dataclass
class Letter:
    subject: str
    body: str


def letter_about(told, event, words):
    is_open = event is Event.OPENED
    tail = str(told.explanation.get("log_tail") or "")
    facts = IncidentFacts(
        guid=UUID(int=1), project="ops", slug="job", monitor=told.monitor, environment=told.environment,
        kind="error", is_open=is_open, started_at=told.started_at, opened_at=told.started_at,
        reason=words, log_tail=log_tail(tail), explanation=told.explanation, url=told.link,
    )  # fmt: skip
    alert = Alert(
        key=UUID(int=2), event=event, at=told.started_at, title=headline(told, is_over=not is_open), reason=words,
        incidents=(facts,), group=UUID(int=1), url=told.link, timezone=told.timezone,
    )  # fmt: skip
    return Letter(subject(alert), text(content(alert)))


def write_opened(told):
    return letter_about(told, Event.OPENED, reason(told))


def write_resolved(told):
    return letter_about(told, Event.RESOLVED, recovery(told))


def write_passed(told):
    return letter_about(told, Event.PASSED, f"{passing(told)} {reason(told)}")


# --- the subject


def test_the_subject_says_which_monitor_which_environment_and_that_it_fails():
    letter = write_opened(story())

    assert letter.subject == "[Watchclock] Nightly backup (production) is failing"
    assert letter.body.startswith("Nightly backup (production) is failing\n\nExpected at 02:30 ")


def test_the_end_keeps_the_subject_as_a_reply_and_says_so_in_its_first_line():
    letter = write_resolved(story())

    assert letter.subject == "Re: [Watchclock] Nightly backup (production) is failing"
    assert letter.body.startswith("Nightly backup (production) has recovered\n\n")


def test_the_subject_of_both_says_both():
    assert write_passed(story()).subject == "[Watchclock] Nightly backup (production) failed and recovered"


# --- why, in a sentence


def test_a_miss():
    last_ok_at = HALF_PAST_TWO - timedelta(days=1) + MINUTE
    assert why(explained(last_ok_at=last_ok_at, last_ok_duration_ms=41_000)) == (
        "Expected at 02:30 Europe/Vienna (every day at 02:30), ten minutes of margin, no check-in by 02:40. "
        "Last ok yesterday 02:31, took 41 seconds."
    )


def test_a_timeout():
    assert why(explained("timeout")) == (
        "Started at 02:30 Europe/Vienna, 30 minutes of maximum runtime, not finished by 03:00. No ok check-in so far."
    )


def test_an_error():
    assert why(explained("error", last_ok_at=HALF_PAST_TWO - 90 * MINUTE)) == (
        "Reported an error at 02:40 Europe/Vienna, 10 minutes after its start. Last ok today 01:00."
    )


def test_an_error_that_was_told_alone_ran_for_an_unknown_time():
    assert why(explained("error", started_at=HALF_PAST_TWO + 10 * MINUTE)).startswith(
        "Reported an error at 02:40 Europe/Vienna. "
    )


@pytest.mark.parametrize(
    ("text", "duration_ms", "expected"),
    [
        (
            "longer than 5m: failure",
            600_000,
            "after 10 minutes, longer than 5 minutes.",
        ),
        (
            "longer than 3x: failure",
            600_000,
            "after 10 minutes, longer than 3 minutes (3x the median of 1 minute).",
        ),
        (
            "shorter than 5s: failure",
            400,
            "after 400 milliseconds, less than 5 seconds.",
        ),
    ],
)
def test_d44_a_run_that_was_too_slow_or_too_fast_says_what_it_was_compared_with(text, duration_ms, expected):
    limit = broken(parse_limits(text), duration_ms=duration_ms, before_ms=[60_000] * 20)
    assert limit is not None
    told = explained(limit.limit.value, duration_ms=duration_ms, broken=limit)
    assert why(told) == f"Ended ok at 02:40 Europe/Vienna {expected} No ok check-in so far."


def test_d44_an_overlap_says_when_it_began():
    limit = broken(parse_limits("overlap: failure"), duration_ms=1, overlaps=True)
    told = explained("overlap", duration_ms=1, broken=limit)
    assert why(told) == "Started at 02:30 Europe/Vienna, before an earlier run had ended. No ok check-in so far."


def test_d44_an_explanation_without_the_limit_says_less():
    assert why(explained("slow", duration_ms=600_000)).startswith(
        "Ended ok at 02:40 Europe/Vienna after 10 minutes, which is too long."
    )


def test_a_failure_that_opens_by_its_number_says_how_many_since_when_and_the_threshold():
    rules = MonitorRules(RULES.schedule, 10, 30, 3, 1)
    assert why(explained(rules=rules, streak=3)) == (
        "Expected at 02:30 Europe/Vienna (every day at 02:30), ten minutes of margin, no check-in by 02:40. "
        "It failed 3 times in a row, since 2026-01-03 02:30; the threshold is 3. No ok check-in so far."
    )


@pytest.mark.parametrize(("threshold", "streak"), [(1, 5), (2, 1)])
def test_where_one_failure_is_enough_or_is_all_there_is_nothing_is_counted(threshold, streak):
    rules = MonitorRules(RULES.schedule, 10, 30, threshold, 1)
    assert "threshold" not in why(explained(rules=rules, streak=streak))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule.from_crontab("*/5 * * * *", VIENNA), " (every 5 minutes),"),
        (Schedule.from_interval(2, "hour", VIENNA), " (every 2 hours),"),
        # Too many words for a sentence.
        (Schedule.from_crontab("1,4,9,16,25,36,49 1,4,9,16 * * *", VIENNA), ","),
    ],
)
def test_a_miss_says_its_schedule_if_that_is_short(schedule, words):
    rules = MonitorRules(schedule, 10, 30, 1, 1)
    assert why(explained(rules=rules)).startswith(f"Expected at 02:30 Europe/Vienna{words} ten minutes")


def test_an_ok_of_long_ago_has_its_date():
    assert why(explained(last_ok_at=HALF_PAST_TWO - timedelta(days=40))).endswith("Last ok 2025-11-26 02:30.")


@pytest.mark.parametrize("value", [None, -1, 1.5, "ten", True, 10**30])
@pytest.mark.parametrize("key", ["margin_minutes", "last_ok_duration_ms", "failure_streak", "failure_threshold"])
def test_what_is_no_number_where_one_is_meant_stops_no_letter(key, value):
    assert "Expected at 02:30" in write_opened(story(explained() | {key: value})).body


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59Z", "2026-01-05T10:00:00", 7])
@pytest.mark.parametrize("key", ["expected_at", "deadline_at", "tick", "last_ok_at", "failure_streak_started_at"])
def test_what_is_no_instant_where_one_is_meant_stops_no_letter(key, value):
    assert "Nightly backup (production) is failing\n" in write_opened(story(explained() | {key: value})).body


def test_a_slot_that_is_judged_days_later_has_its_date():
    tick = HALF_PAST_TWO + timedelta(days=3)
    assert why(explained(tick=tick, deadline=tick)).startswith("Expected at 2026-01-05 02:30 Europe/Vienna (every")


def test_never_an_expected_time_of_tomorrow_for_an_error_of_today():
    tomorrow = HALF_PAST_TWO + timedelta(days=1)
    body = write_opened(story(explained("error", expected_time=tomorrow))).body

    assert "2026-01-06" not in body
    assert "xpected" not in body


def test_an_older_occurrence_gets_the_shorter_sentence():
    older = explained()
    for key in ("last_ok_at", "margin_minutes", "deadline_at", "failure_threshold", "clock_decision", "crontab"):
        del older[key]

    assert why(older) == "Expected at 02:30 Europe/Vienna, no check-in by 02:40."


def test_without_an_occurrence_it_says_since_when():
    assert "It has been failing since 2026-01-05 02:30 Europe/Vienna." in write_opened(story({})).body


# --- its end


def test_an_end_says_after_how_long():
    assert (
        "It recovered at 2026-01-05 04:10 Europe/Vienna, after 1 hour and 40 minutes." in write_resolved(story()).body
    )


def test_what_is_over_already_is_told_in_one_sentence_and_why():
    body = write_passed(story(recovered_at=HALF_PAST_TWO + 11 * MINUTE)).body

    assert "Missed at 02:40, recovered at 02:41 Europe/Vienna after 11 minutes." in body
    assert "no check-in by 02:40." in body


# --- what the run left


def test_exit_status_and_the_end_of_the_log_are_shown():
    body = write_opened(story(explained("error", exit_status=137, log_tail="copying\nkilled"))).body

    assert "Exit status: 137\n" in body
    assert "The end of its log:\n\n  copying\n  killed\n" in body


def test_an_exit_status_of_zero_is_one():
    assert "Exit status: 0\n" in write_opened(story(explained("error", exit_status=0))).body


def test_a_miss_has_neither():
    body = write_opened(story()).body
    assert "Exit status" not in body
    assert "log" not in body.replace("Watchclock", "")


def test_of_a_log_the_last_twenty_lines_are_shown():
    lines = log_tail("\n".join(f"line {number}" for number in range(1_000)) + "\n\n").split("\n")
    assert lines == [f"line {number}" for number in range(1_000 - LOG_LINES_MAX, 1_000)]


def test_a_line_of_a_megabyte_is_cut():
    assert len(log_tail("x" * 1_000_000)) == LOG_LINE_LENGTH_MAX


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\x00b", "a\x07b", "a\x7fb", "a\x85b"])
def test_a_log_moves_no_cursor(text):
    assert log_tail(text).isprintable()


def test_windows_lines_and_bars_of_progress_are_lines():
    assert log_tail("one\r\ntwo\r 50 %\r100 %\n") == "one\ntwo\n 50 %\n100 %"


# --- the link


def test_there_is_one_link():
    assert write_opened(story()).body.count("https://") == 1
    assert write_opened(story()).body.endswith(f"\nOpen incident: {LINK}\n")


def test_without_an_address_it_says_where_to_look():
    body = write_opened(story(link="")).body
    assert "http" not in body
    assert body.endswith("\nSee Incidents in the admin.\n")


# --- nothing raw


@pytest.mark.parametrize("tell", [write_opened, write_resolved, write_passed])
@pytest.mark.parametrize("kind", ["missed", "timeout", "error"])
def test_no_raw_key_no_microsecond_and_no_nothing_is_shown(tell, kind):
    at = HALF_PAST_TWO + timedelta(microseconds=123_456)
    body = tell(
        story(explained(kind, started_at=at), started_at=at, recovered_at=at + 100 * MINUTE + timedelta(microseconds=7))
    ).body

    for raw in ("_at", "_minutes", "threshold_reached", "123456", "000007", "None", "null", "+00:00", "{", "T01:"):
        assert raw not in body


# --- what strangers wrote


@pytest.mark.parametrize(
    "name",
    ["job\r\nBcc: all@example.com", "job\nSubject: hello", "job\x0b\x0cX", "job\u2028X", "job\u2029X", "job\x85X"],
)
@pytest.mark.parametrize("where", ["monitor", "environment"])
def test_a_name_ends_no_header(name, where):
    letter = write_opened(story(**{where: name}))
    mail = EmailMessage(subject=letter.subject, body=letter.body, to=["ops@example.com"]).message()

    assert len(letter.subject.splitlines()) == 1
    assert set(mail.keys()) <= {
        "Content-Type", "MIME-Version", "Content-Transfer-Encoding", "Subject", "From", "To", "Date", "Message-ID",
    }  # fmt: skip
    assert letter.body.splitlines()[0].endswith(" is failing")


def test_a_name_that_turns_what_follows_around_does_not():
    assert plain("gnp.\u202eexe\u2066") == "gnp.exe"


def test_a_long_name_is_cut():
    name = write_opened(story(monitor="x" * 10_000)).subject.removeprefix("[Watchclock] ")
    assert len(name.removesuffix(" (production) is failing")) == NAME_LENGTH_MAX


any_text = st.text(st.characters(exclude_categories=[]), max_size=300)
instants = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1))  # noqa: DTZ001
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    any_text,
    instants.map(lambda at: at.isoformat()),
    st.sampled_from(["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "2026-01-05T10:00:00", "missed"]),
)
explanations = st.one_of(
    st.sampled_from(["missed", "timeout", "error"]).map(explained),
    st.dictionaries(
        st.sampled_from(sorted(explained("error", exit_status=1, log_tail="x", last_ok_duration_ms=1))), anything
    ),
    st.tuples(
        st.sampled_from(["missed", "timeout", "error"]).map(explained),
        st.dictionaries(st.sampled_from(sorted(explained())), anything, max_size=3),
    ).map(lambda pair: pair[0] | pair[1]),
)


@given(
    tell=st.sampled_from([write_opened, write_resolved, write_passed]),
    monitor=any_text,
    environment=any_text,
    timezone=st.one_of(any_text, st.sampled_from(["UTC", VIENNA, "Asia/Kathmandu", "No/Where", "../etc/passwd", ""])),
    explanation=explanations,
    started_at=instants,
    length=st.timedeltas(min_value=timedelta(-3), max_value=timedelta(days=400)),
)
def test_whatever_is_stored_a_letter_is_written_that_can_be_sent(
    tell, monitor, environment, timezone, explanation, started_at, length
):
    letter = tell(
        Story(
            monitor=monitor, environment=environment, timezone=timezone, started_at=started_at,
            explanation=explanation, recovered_at=started_at + length,
        )
    )  # fmt: skip

    assert len(letter.subject.splitlines()) == 1
    assert len(letter.subject) < 300
    raw = EmailMessage(subject=letter.subject, body=letter.body, to=["ops@example.com"]).message().as_bytes()
    headers, _, _ = raw.partition(b"\n\n")
    assert headers.isascii()


@given(any_text.map(lambda text: text * 40))
def test_whatever_was_printed_its_end_is_a_few_plain_lines(text):
    lines = log_tail(text).split("\n")

    assert len(lines) <= LOG_LINES_MAX
    assert all(len(line) <= LOG_LINE_LENGTH_MAX and len(line.splitlines()) <= 1 for line in lines)
