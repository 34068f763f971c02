"""What happens next about an open incident that nobody has acknowledged: reminders and escalation (pure).

A plan is a copy of what a route said when the incident was routed, so an edit of the route changes nothing about an
incident that is under way. `done` counts the reminders or steps of a plan so far.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from incidents.exceptions import IncidentsError
from lib.texts import Text

REMINDER_HOURS_MAX = 168
REMINDER_HOURS_SLOWEST = 24
"""Each wait for a reminder is twice as long as the one before, up to a day."""
STEPS_MAX = 10
STEP_MINUTES_MAX = 10_080
STEP_CHANNELS_MAX = 10
LOOPS_MAX = 5
QUIET_CHECK = timedelta(hours=1)
"""How often to look whether an incident that is muted or archived is still so."""


class Step(msgspec.Struct, frozen=True):
    """A step of an escalation: the channels notified `minutes` after the opening or the step before."""

    minutes: int
    channels: tuple[int, ...]


class Escalation(msgspec.Struct, frozen=True):
    """Steps in order, done `loops` times again after the last one."""

    steps: tuple[Step, ...]
    loops: int = 0


class Reminders(msgspec.Struct, frozen=True):
    """Whom to remind, as names of recipients with the ids of their channels, and the hours until the first time."""

    hours: int
    recipients: tuple[tuple[str, int | None], ...]


class Standing(msgspec.Struct, frozen=True):
    """What holds of an incident at an instant. `is_quiet`: its environment is muted, or its issue archived."""

    is_open: bool
    is_acknowledged: bool = False
    is_quiet: bool = False
    snoozed_until: datetime | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What to do with something that is due: send it now, or check again at `again_at`; with neither, nothing more."""

    is_to_send: bool = False
    again_at: datetime | None = None


class StepError(IncidentsError):
    """A step that cannot be used. The text names it and what is allowed."""


def judge(standing: Standing, *, now: datetime) -> Verdict:
    """Return what to do with a reminder or a step that is due.

    Acknowledging ends both; whoever takes the acknowledgement back begins them anew. Snoozing and muting put them off.
    """
    if not standing.is_open or standing.is_acknowledged:
        return Verdict()
    if standing.snoozed_until is not None and standing.snoozed_until > now:
        return Verdict(again_at=standing.snoozed_until)
    if standing.is_quiet:
        return Verdict(again_at=now + QUIET_CHECK)
    return Verdict(is_to_send=True)


def reminder_wait(hours: int, done: int) -> timedelta:
    """Return how long to wait for the next reminder after so many.

    >>> [reminder_wait(4, done) // timedelta(hours=1) for done in range(5)], reminder_wait(48, 3) // timedelta(hours=1)
    ([4, 8, 16, 24, 24], 48)
    """
    doubled = hours << min(done, 10)
    return timedelta(hours=min(doubled, max(hours, REMINDER_HOURS_SLOWEST)))


def step_after(plan: Escalation, done: int) -> Step | None:
    """Return the next step after so many; None if all have been done, as often as they are to be.

    >>> plan = Escalation((Step(5, (1,)), Step(10, (2,))), loops=1)
    >>> [step.minutes if (step := step_after(plan, done)) else None for done in range(5)]
    [5, 10, 5, 10, None]
    """
    if done >= len(plan.steps) * (plan.loops + 1):
        return None
    return plan.steps[done % len(plan.steps)]


def usable_step(plan: Escalation, done: int, usable: Collection[int]) -> tuple[tuple[int, ...], int] | None:
    """Return the channels to notify now and the number of steps done with that; None if no step is left.

    A step without a usable channel is passed over at once: a pager that was removed must not cost half an hour.
    """
    while (step := step_after(plan, done)) is not None:
        done += 1
        if channels := tuple(channel for channel in step.channels if channel in usable):
            return channels, done
    return None


def parse_steps(raw: object) -> tuple[Step, ...]:
    """Return the steps of a route from JSON: a list of {"minutes", "channels"}, the latter ids. Raises StepError."""
    if not isinstance(raw, list) or len(raw) > STEPS_MAX:
        raise StepError(Text("steps must be a list of at most %(most)s.", most=STEPS_MAX))
    return tuple(_parse_step(number, item) for number, item in enumerate(raw, 1))


def _parse_step(number: int, raw: object) -> Step:
    if not isinstance(raw, Mapping) or raw.keys() != {"minutes", "channels"}:
        raise StepError(Text("step %(number)s must be an object with minutes and channels.", number=number))
    minutes, channels = raw["minutes"], raw["channels"]
    if not isinstance(minutes, int) or not 1 <= minutes <= STEP_MINUTES_MAX:
        text = Text(
            "minutes of step %(number)s: %(minutes)s must be from 1 to %(most)s.",
            number=number,
            minutes=str(minutes)[:20],
            most=STEP_MINUTES_MAX,
        )
        raise StepError(text)
    if not isinstance(channels, list) or not 1 <= len(channels) <= STEP_CHANNELS_MAX:
        raise StepError(
            Text("step %(number)s must name 1 to %(most)s channels.", number=number, most=STEP_CHANNELS_MAX)
        )
    return Step(minutes, tuple(channels))


def read_step_lines(text: str, channels: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return steps as they are stored, from lines as people write them. `channels` are the project's, by name.

    Raises StepError, which names the line.

    >>> read_step_lines("30 minutes: pager, leads", {"pager": 7, "leads": 9})
    [{'minutes': 30, 'channels': [7, 9]}]
    """
    found: list[dict[str, Any]] = []
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        when, colon, whom = line.partition(":")
        words = when.split()
        if not colon or len(words) != 2 or not words[0].isdecimal() or words[1] not in ("minutes", "minute"):
            wrong = Text(
                "step %(number)s, %(line)s, must be: 30 minutes: channel, channel ...",
                number=number,
                line=repr(line[:100]),
            )
            raise StepError(wrong)
        names = [name for part in whom.split(",") if (name := part.strip())]
        if unknown := [name for name in names if name not in channels]:
            wrong = Text(
                "step %(number)s: the project has no channel %(name)s. It has: %(known)s.",
                number=number,
                name=repr(unknown[0][:100]),
                known=", ".join(sorted(channels)) or Text("none yet"),
            )
            raise StepError(wrong)
        found.append({"minutes": int(words[0][:9]), "channels": [channels[name] for name in dict.fromkeys(names)]})
    parse_steps(found)
    return found


def write_step_lines(stored: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> str:
    """Return stored steps as lines; a channel that is gone is left out.

    >>> write_step_lines([{"minutes": 30, "channels": [7, 9]}], {7: "pager"})
    '30 minutes: pager'
    """
    return "\n".join(
        f"{step['minutes']} minutes: {', '.join(names[id_] for id_ in step['channels'] if id_ in names)}"
        for step in stored
    )
