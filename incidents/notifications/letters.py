"""The text of an alert, from what was stored when it happened (pure).

The reason comes only from the explanation of an occurrence (`incidents.explanation`); a value that an older explanation
lacks is left out. Names and logs are untrusted: none of their characters may end a header or move a cursor.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from incidents.notifications.words import ENGLISH, LANGUAGES, length, minutes, number, say
from lib.durations import after_preposition
from monitors.describing import describe_briefly
from monitors.schedule import ScheduleType, read_schedule

NAME_LENGTH_MAX = 100
LOG_LINES_MAX = 20
LOG_LINE_LENGTH_MAX = 300
SCHEDULE_LENGTH_MAX = 80
"""Most schedules take fewer letters. A list of minutes and hours would hide the rest of the sentence."""
YEARS = 1900, 3000
"""Every zone can convert every instant in these years."""
NUMBER_LIMIT = 1 << 40
_WHAT = {
    "missed": "Missed",
    "timeout": "Timed out",
    "error": "Error",
    "slow": "Too slow",
    "fast": "Too fast",
    "overlap": "Overlapping",
}
_BIDI = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


class Flaps(NamedTuple):
    """How an environment flapped when people were notified: changes in its last runs, incidents within a day."""

    changes: int
    runs: int
    openings: int


class Patience(StrEnum):
    """What people are notified of about a job that has been failing for weeks."""

    WARNED = "warned"
    MUTED = "muted"


class Held(NamedTuple):
    """Monitors whose messages are held because of an incident: the first by name, and how many there are."""

    names: tuple[str, ...] = ()
    total: int = 0


NOTHING_HELD = Held()


@dataclass(frozen=True, slots=True)
class Story:
    """The facts of an alert. `explanation` is empty if no occurrence is stored; the links if PUBLIC_URL is not set.

    `told_at` is when it is to be sent, and `number` counts reminders. `flaps`: this incident
    also reports that the job flaps; `patience`: that it has been failing for weeks. `held`: what is held because of it.
    """

    monitor: str
    environment: str
    timezone: str
    started_at: datetime
    explanation: Mapping[str, Any]
    link: str = ""
    recovered_at: datetime | None = None
    told_at: datetime | None = None
    number: int = 0
    flaps: Flaps | None = None
    patience: Patience | None = None
    acknowledge_link: str = ""
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    language: str = "en"
    held: Held = NOTHING_HELD


def reason(story: Story) -> str:
    """Return the sentences that every channel shows: why this is a failure, how often, and when the last ok was."""
    moment = _moment(story.started_at, story)
    return why(story.explanation, story.language) or say(
        story.language, "It has been failing since {moment}.", moment=moment
    )


def recovery(story: Story) -> str:
    """Return the sentences about the end of an incident: since when the job works again, and how long it failed."""
    assert story.recovered_at is not None, story
    lasted = after_preposition(length(story.language, _whole(story.recovered_at - story.started_at)))
    moment = _moment(story.recovered_at, story)
    ended = say(story.language, "It recovered at {moment}, after {length}.", moment=moment, length=lasted)
    return f"{ended} {_failed_since(story)}"


def passing(story: Story) -> str:
    """Return the sentence about an incident that is over already: when it was found, and when it recovered."""
    return _short(_kind(story), story)


def headline(story: Story, *, is_over: bool) -> str:
    """Return what has happened in one line: which job, and whether it fails or has recovered."""
    if is_over:
        text = "{job} has settled and recovered" if story.flaps else "{job} has recovered"
    else:
        text = "{job} is flapping" if story.flaps else "{job} is failing"
    return say(story.language, text, job=_job(story))


def flapping(story: Story, *, is_over: bool) -> str:
    """Return the sentence about a job that flaps, or that has settled; with a space before it, empty if it did not."""
    if story.flaps is None:
        return ""
    if is_over:
        return " " + say(story.language, "It flapped meanwhile, and has settled.")
    text = _FLAPS_ONCE if story.flaps.openings == 1 else _FLAPS
    return " " + say(story.language, text, **story.flaps._asdict())


_FLAPS_ONCE = (
    "It is flapping: it changed {changes} times between ok and failing in its last {runs} runs, with {openings} "
    "incident within 24 hours. You will be notified when it has settled, and of nothing before."
)
_FLAPS = _FLAPS_ONCE.replace("incident within", "incidents within")


def reminder_headline(story: Story) -> str:
    """Return the headline of a reminder."""
    is_muted = story.patience is Patience.MUTED
    text = "{job} is still failing, and muted now" if is_muted else "{job} is still failing"
    return say(story.language, text, job=_job(story))


def patience(story: Story) -> str:
    """Return the sentence about a job that has been failing for weeks, with a space before it; empty if it has not."""
    match story.patience:
        case Patience.WARNED:
            text = "If it fails for another 14 days, it is muted. Disable it if nobody needs it."
        case Patience.MUTED:
            text = "It is muted from now on: the next notification comes when it recovers."
        case _:
            return ""
    return " " + say(story.language, text)


def held(story: Story, most: int | None = None) -> str:
    """Return the sentence about what is held because of an incident, with a space before it; empty if nothing is.

    It names at most so many, and counts the others.

    >>> since = datetime(2026, 11, 30, tzinfo=UTC)
    >>> held(Story("db", "production", "UTC", since, {}, held=Held(("import", "mails"), 14)))
    ' Messages about 14 jobs are held because of it: import, mails and 12 more.'
    """
    names, total = story.held.names[:most], story.held.total
    if not total:
        return ""
    named = ", ".join(_name(name) for name in names)
    if total > len(names):
        named = f"{named} {say(story.language, 'and {count} more', count=number(story.language, total - len(names)))}"
    text = "Messages about {count} job are held because of it: {names}."
    if total > 1:
        text = "Messages about {count} jobs are held because of it: {names}."
    return " " + say(story.language, text, count=number(story.language, total), names=named)


def escalation_headline(story: Story) -> str:
    """Return the headline of a step of an escalation."""
    return say(story.language, "{job} is failing, not acknowledged", job=_job(story))


def acknowledgement_headline(story: Story) -> str:
    """Return the headline of an acknowledgement."""
    return say(story.language, "{job} is acknowledged", job=_job(story))


def waiting(story: Story) -> str:
    """Return the sentence of reminders and escalations: how long it has failed without anybody looking after it."""
    told_at = story.told_at or story.started_at
    lasted = after_preposition(length(story.language, _whole(told_at - story.started_at)))
    text = say(story.language, "It has been failing for {length}, and nobody has acknowledged it.", length=lasted)
    return f"{text} {say(story.language, 'This is reminder {number}.', number=story.number)}" if story.number else text


def acknowledgement(story: Story) -> str:
    """Return the sentence about who looks after an incident since when."""
    who = _name(story.acknowledged_by) or say(story.language, "Somebody")
    if story.acknowledged_at is None:
        return say(story.language, "{who} acknowledged it.", who=who)
    moment = _moment(story.acknowledged_at, story)
    return say(story.language, "{who} acknowledged it at {moment}.", who=who, moment=moment)


def why(explanation: Mapping[str, Any], language: str = "en") -> str:
    """Return why this was a failure, how often it failed, and when the last ok was; empty if that is not known.

    Every message and page shows these sentences.

    >>> why({"kind": "missed", "crontab": "30 1 * * *", "timezone": "UTC", "margin_minutes": 10,
    ...      "expected_at": "2026-01-05T01:30:00Z", "deadline_at": "2026-01-05T01:40:00Z",
    ...      "last_ok_at": "2026-01-04T01:31:02Z"})
    'Expected at 01:30 UTC (every day at 01:30), ten minutes of margin, no check-in by 01:40. Last ok 2026-01-04 01:31.'
    """
    zone = _zone(explanation.get("timezone"))
    at = {name: _instant(explanation.get(f"{name}_at")) for name in ("expected", "deadline", "started", "received")}
    tick = _instant(explanation.get("tick"))
    found_at = tick or at["received"]
    sentence = ""
    match explanation.get("kind"):
        case "missed" if at["expected"]:
            until = at["deadline"] or tick
            clock = _clock(at["expected"], zone, found_at, named=True)
            parts = [f"{say(language, 'Expected at {at}', at=clock)}{_schedule(explanation, language)}"]
            if (margin := _number(explanation, "margin_minutes")) is not None:
                parts.append(say(language, "{minutes} of margin", minutes=minutes(language, margin)))
            if until:
                parts.append(say(language, "no check-in by {until}", until=_clock(until, zone, found_at)))
            sentence = f"{', '.join(parts)}.{_judged_later(explanation, language)}"
        case "timeout" if at["started"]:
            until = at["deadline"] or tick
            parts = [say(language, "Started at {at}", at=_clock(at["started"], zone, found_at, named=True))]
            if (runtime := _number(explanation, "max_runtime_minutes")) is not None:
                parts.append(say(language, "{minutes} of maximum runtime", minutes=minutes(language, runtime)))
            if until:
                parts.append(say(language, "not finished by {until}", until=_clock(until, zone, found_at)))
            sentence = f"{', '.join(parts)}.{_judged_later(explanation, language)}"
        case "error" if at["received"]:
            clock = _clock(at["received"], zone, found_at, named=True)
            started = at["started"]
            ran = _whole(at["received"] - started) if started else timedelta(0)
            text = "Reported an error at {at}, {length} after its start." if ran else "Reported an error at {at}."
            sentence = say(language, text, at=clock, length=length(language, ran))
        case "slow" | "fast" if at["received"]:
            took = _milliseconds(explanation, "duration_ms", language)
            text = "Ended ok at {at} after {length}, {limit}." if took else "Ended ok at {at}, {limit}."
            clock = _clock(at["received"], zone, found_at, named=True)
            sentence = say(language, text, at=clock, length=took, limit=_limit(explanation, language))
        case "overlap" if at["started"]:
            began = _clock(at["started"], zone, found_at, named=True)
            sentence = say(language, "Started at {at}, before an earlier run had ended.", at=began)
        case _:
            return ""
    often = _how_often(explanation, zone, found_at, language)
    return f"{sentence}{often} {_last_ok(explanation, zone, found_at, language)}".rstrip()


def _schedule(explanation: Mapping[str, Any], language: str) -> str:
    """Return the schedule in words, in brackets, with a space before it; empty if it is not known, or a long list."""
    crontab, interval = explanation.get("crontab"), _number(explanation, "interval")
    if not isinstance(crontab, str) and interval is None:
        return ""
    schedule = read_schedule(
        ScheduleType.CRONTAB if isinstance(crontab, str) else ScheduleType.INTERVAL,
        str(crontab),
        interval,
        str(explanation.get("interval_unit")),
        str(explanation.get("timezone") or "UTC"),
    )
    words = describe_briefly(schedule, language if language in LANGUAGES else ENGLISH)
    return f" ({words})" if words and len(words) <= SCHEDULE_LENGTH_MAX else ""


def _limit(explanation: Mapping[str, Any], language: str) -> str:
    """Return what a run that ended ok was compared with (D44)."""
    is_slow = explanation["kind"] == "slow"
    bound = _milliseconds(explanation, "limit_ms", language)
    if bound is None:
        return say(language, "which is too long" if is_slow else "which is too short")
    text = say(language, "longer than {bound}" if is_slow else "less than {bound}", bound=bound)
    median = _milliseconds(explanation, "median_ms", language)
    if not median:
        return text
    times = _name(str(explanation.get("limit") or ""))
    return f"{text} {say(language, '({times} the median of {median})', times=times, median=median)}"


def _milliseconds(explanation: Mapping[str, Any], key: str, language: str) -> str | None:
    number = _number(explanation, key)
    return None if number is None else length(language, timedelta(milliseconds=number))


def _judged_later(explanation: Mapping[str, Any], language: str) -> str:
    decision = _name(str(explanation.get("clock_decision") or "normal"))
    if decision == "normal":
        return ""
    return " " + say(language, "(Judged later than usual: {decision}.)", decision=decision)


def log_tail(text: str) -> str:
    """Return the last lines of a log, safe to show: few lines, none too long, plain text."""
    # Cut first: a log may be one line of a megabyte.
    kept = text[-LOG_LINES_MAX * LOG_LINE_LENGTH_MAX * 2 :].replace("\r\n", "\n").replace("\r", "\n").rstrip()
    lines = kept.split("\n")[-LOG_LINES_MAX:]
    return "\n".join(_cut(plain(line), LOG_LINE_LENGTH_MAX) for line in lines)


def plain(text: str) -> str:
    """Return a text in one line, without characters that end a line, move a cursor or change the text direction."""
    return "".join(
        " " if unicodedata.category(character) in _UNPRINTABLE else character
        for character in text
        if character not in _BIDI
    ).rstrip()


def _job(story: Story) -> str:
    return f"{_name(story.monitor)} ({_name(story.environment)})"


def _kind(story: Story) -> str:
    return say(story.language, _WHAT.get(str(story.explanation.get("kind")), "Failing"))


def _how_often(explanation: Mapping[str, Any], zone: ZoneInfo, found_at: datetime | None, language: str) -> str:
    """Return how often it failed in a row, with a space before it; empty where one failure is enough."""
    threshold = _number(explanation, "failure_threshold")
    streak = _number(explanation, "failure_streak")
    if streak is None or streak < 2 or threshold in (None, 1):
        return ""
    since = _instant(explanation.get("failure_streak_started_at"))
    if since is None:
        text = "It failed {count} times in a row; the threshold is {threshold}."
        return " " + say(language, text, count=streak, threshold=threshold)
    text = "It failed {count} times in a row, since {moment}; the threshold is {threshold}."
    moment = _day(since, zone, found_at, language)
    return " " + say(language, text, count=streak, moment=moment, threshold=threshold)


def _failed_since(story: Story) -> str:
    return say(story.language, "It had been failing since {moment}.", moment=_moment(story.started_at, story))


def _short(kind: str, story: Story) -> str:
    """Return when the failure was found, and when it was over: `Missed at 13:04, recovered at 13:05`."""
    assert story.recovered_at is not None, story
    explanation = story.explanation
    found_at = _instant(explanation.get("tick")) or _instant(explanation.get("received_at")) or story.started_at
    zone = _zone(story.timezone)
    return say(
        story.language,
        "{kind} at {found}, recovered at {recovered} after {length}.",
        kind=kind,
        found=_clock(found_at, zone, story.recovered_at),
        recovered=_clock(story.recovered_at, zone, story.recovered_at, named=True),
        length=after_preposition(length(story.language, _whole(story.recovered_at - story.started_at))),
    )


def _last_ok(explanation: Mapping[str, Any], zone: ZoneInfo, found_at: datetime | None, language: str) -> str:
    last_ok_at = _instant(explanation.get("last_ok_at"))
    if last_ok_at is None:
        return say(language, "No ok check-in so far.") if "last_ok_at" in explanation else ""
    took = _number(explanation, "last_ok_duration_ms")
    text = "Last ok {at}." if took is None else "Last ok {at}, took {length}."
    ran = length(language, timedelta(milliseconds=took or 0))
    return say(language, text, at=_day(last_ok_at, zone, found_at, language), length=ran)


def _clock(at: datetime, zone: ZoneInfo, found_at: datetime | None, *, named: bool = False) -> str:
    """Return the time of day, with the date if the failure was found a day later or more."""
    local = at.astimezone(zone)
    # Converted to UTC first: the difference of two local times is not a duration.
    is_old = found_at is not None and abs(found_at - at.astimezone(UTC)) >= timedelta(days=1)
    text = f"{local:%Y-%m-%d %H:%M}" if is_old else f"{local:%H:%M}"
    return f"{text} {zone.key}" if named else text


def _day(at: datetime, zone: ZoneInfo, found_at: datetime | None, language: str) -> str:
    """Return the time of day, after `today`, `yesterday` or the date."""
    time = f"{at.astimezone(zone):%H:%M}"
    day: date = at.astimezone(zone).date()
    today = day if found_at is None else found_at.astimezone(zone).date()
    if found_at is not None and day == today:
        return say(language, "today {time}", time=time)
    if day == today - timedelta(days=1):
        return say(language, "yesterday {time}", time=time)
    return f"{day.isoformat()} {time}"


def _moment(at: datetime, story: Story) -> str:
    return f"{at.astimezone(_zone(story.timezone)):%Y-%m-%d %H:%M} {_zone(story.timezone).key}"


def _whole(length: timedelta) -> timedelta:
    return timedelta(seconds=max(int(length.total_seconds()), 0))


def _zone(name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name or "UTC"))
    except (ValueError, OSError, KeyError):  # not in this tzdata, or not the name of a zone
        return ZoneInfo("UTC")


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo and YEARS[0] <= at.year < YEARS[1] else None


def _number(explanation: Mapping[str, Any], key: str) -> int | None:
    """Return a count; None if the value is not one."""
    value = explanation.get(key)
    return value if isinstance(value, int) and 0 <= value < NUMBER_LIMIT else None


def _name(text: str) -> str:
    return _cut(" ".join(plain(text).split()), NAME_LENGTH_MAX)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
