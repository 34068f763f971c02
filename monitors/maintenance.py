"""Maintenance windows: times in which nobody expects a job to keep its schedule (pure).

A window lasts from `starts_at` to before `ends_at`. A recurring one has *occurrences* in that time, which begin by a
crontab. They are computed for the instant in question, never in advance, so a question costs a bounded number of steps.

What is inside: a slot or a message whose instant is inside, the first instant included and the last one not; and a
deadline, if the moment before it is inside. So a deadline at a window's first instant is judged as usual: all the time
that the job had was before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from monitors.schedule import Schedule, ScheduleType, next_slot, previous_slot, why_unreadable

MAINTAINED = "maintained"
"""Why a slot is not judged, or an error does not count, in the row of its check-in."""
NAME_CHARACTERS_MAX = 100
MINUTES_MAX = 10_080  # 7 days
"""The longest occurrence of a recurring window."""
STEPS_MAX = 500
"""The most occurrences in a row that count as one. A rule whose occurrences never have an end is refused."""
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When the occurrences of a window begin and end: after so many elapsed minutes, or by the wall clock of the zone.

    The end by the wall clock is the first time at `until` after the beginning, found as a slot of a crontab is: a time
    that the clocks skip comes when the gap ends, one that they repeat is the first of the two.
    """

    crontab: str
    timezone: str
    minutes: int | None = None
    until: time | None = None

    @property
    def schedule(self) -> Schedule:
        """The beginnings."""
        return Schedule(ScheduleType.CRONTAB, self.crontab, None, None, self.timezone)

    def end_of(self, start: datetime) -> datetime:
        """Return when the occurrence ends that begins at `start`, which is in UTC."""
        if self.until is None:
            assert self.minutes is not None, "an occurrence has a length or an end"
            # Elapsed time is added in UTC: added to a local time it would follow the wall clock.
            return start + timedelta(minutes=self.minutes)
        crontab = f"{self.until.minute} {self.until.hour} * * *"
        end = next_slot(Schedule(ScheduleType.CRONTAB, crontab, None, None, self.timezone), start, None)
        assert end is not None, "every day has this time"
        return end


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window as it applies to one environment. Only a recurring one may have no `ends_at`."""

    name: str
    starts_at: datetime
    ends_at: datetime | None = None
    recurrence: Recurrence | None = None

    def end_at(self, at: datetime) -> datetime | None:
        """Return the end of the window, or of its occurrence, that this instant is in; None if it is in none.

        A rule that this machine cannot read has no occurrences (D37).
        """
        if at < self.starts_at or (self.ends_at is not None and at >= self.ends_at):
            return None
        if self.recurrence is None:
            return self.ends_at
        schedule = self.recurrence.schedule
        if why_unreadable(schedule):
            return None
        # Of occurrences that overlap, the one that began last ends last.
        start = previous_slot(schedule, at + _MOMENT, None)
        end = None if start is None else self.recurrence.end_of(start)
        if end is None or end <= at:
            return None
        return end if self.ends_at is None else min(end, self.ends_at)

    def clipped(self, since: datetime | None, until: datetime | None) -> "Window | None":
        """Return the part of the window from `since` to before `until`; None if nothing is left."""
        starts_at = self.starts_at if since is None else max(self.starts_at, since)
        ends_at = self.ends_at if until is None else min(self.ends_at or until, until)
        return (
            None
            if ends_at is not None and ends_at <= starts_at
            else replace(self, starts_at=starts_at, ends_at=ends_at)
        )


def window_at(windows: Sequence[Window], at: datetime) -> Window | None:
    """Return the first of these windows that an instant is in, if any."""
    return next((window for window in windows if window.end_at(at) is not None), None)


def end_of(windows: Sequence[Window], at: datetime) -> datetime:
    """Return the end of the windows that an instant is in, or the instant itself if it is in none.

    Windows that overlap, or follow one another without a gap, count as one. At most `STEPS_MAX` steps.
    """
    for _ in range(STEPS_MAX):
        ends = [end for window in windows if (end := window.end_at(at)) is not None]
        if not ends:
            break
        at = max(ends)
    return at


def window_of_deadline(windows: Sequence[Window], deadline: datetime) -> Window | None:
    """Return the window that a deadline is in, if any."""
    return window_at(windows, deadline - _MOMENT) if windows else None


def deadline_after(windows: Sequence[Window], deadline: datetime) -> datetime:
    """Return when a run with this deadline is judged: then, or at the end of the windows that the deadline is in."""
    return max(deadline, end_of(windows, deadline - _MOMENT)) if windows else deadline


def window_of_slot(windows: Sequence[Window], slot: datetime, deadline: datetime) -> Window | None:
    """Return the window because of which a slot is not judged, if any: the slot or the end of its margin is inside.

    A slot from before a window whose margin ends after it is judged: the job had time outside.
    """
    return (window_at(windows, slot) or window_of_deadline(windows, deadline)) if windows else None


def occurrences(window: Window, after: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the occurrences of a window that end after an instant, oldest first, with their beginnings and ends."""
    if window.recurrence is None:
        if window.ends_at is not None and window.ends_at > after:
            yield window.starts_at, window.ends_at
        return
    schedule = window.recurrence.schedule
    if why_unreadable(schedule):
        return
    after = max(after, window.starts_at)
    start = previous_slot(schedule, after + _MOMENT, None)
    if start is None or window.recurrence.end_of(start) <= after:
        start = next_slot(schedule, after, None)
    while start is not None and (window.ends_at is None or start < window.ends_at):
        end = window.recurrence.end_of(start)
        yield max(start, window.starts_at), end if window.ends_at is None else min(end, window.ends_at)
        start = next_slot(schedule, start, None)


def never_ends(recurrence: Recurrence, now: datetime) -> bool:
    """Return whether occurrences follow one another without a gap for so long that nothing would ever be judged."""
    start = next_slot(recurrence.schedule, now, None)
    for _ in range(STEPS_MAX):
        if start is None:
            return False
        end = recurrence.end_of(start)
        start = next_slot(recurrence.schedule, start, None)
        if start is not None and start > end:
            return False
    return True


FormerTags = Sequence[tuple[datetime, Sequence[str]]]
"""Tags that a monitor had, with the instant until which, oldest first."""


def times_with(tag: str, tags: Sequence[str], former: FormerTags) -> Iterator[tuple[datetime | None, datetime | None]]:
    """Yield the times in which a monitor had a tag: since when and until when, None where there is no bound."""
    since = None
    for until, had in former:
        if tag in had:
            yield since, until
        since = until
    if tag in tags:
        yield since, None
