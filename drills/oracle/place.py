"""An environment, followed message by message and tick by tick."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from drills.oracle.rules import (
    INSTANT,
    MINUTE,
    Monitor,
    Rules,
    Windows,
    end_of_maintenance,
    end_of_margin,
    is_maintained,
    tick_at_or_after,
)
from drills.oracle.verdicts import Verdicts

LIFE = timedelta(days=7)
"""After that a run is forgotten."""
FAR = datetime.max.replace(tzinfo=UTC) - MINUTE
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass
class Run:
    """One run: what was said of it so far. `heard` is when it was last said to be running."""

    id: Hashable
    start: datetime
    status: str
    heard: datetime
    rules: Rules
    deadline: datetime | None = None
    finished: str | None = None
    finished_at: datetime | None = None
    finished_first_at: datetime | None = None  # a later end may have replaced that one
    is_begun: bool = False  # its start was told
    ended_at: datetime | None = None  # the first time
    duration: timedelta | None = None
    given_up_at: datetime | None = None
    limit: str | None = None
    has_failed: bool = False

    @property
    def running_until(self) -> datetime | None:
        """Its deadline, while it has one to miss."""
        return self.deadline if self.status == "in_progress" else None


@dataclass
class Stretch:
    """What is expected from one edit to the next. A slot belongs to the rules that held when it came (D32)."""

    since: datetime
    rules: Rules
    deaf: frozenset[datetime]
    windows: Windows = ()
    until: datetime = FAR  # the instant of the edit; a slot that comes with it belongs here
    off_since: datetime = FAR  # when the monitor was disabled, then or later: what was not due by then is not judged
    served_until: datetime | None = None  # all slots up to here are served, judged or overdue
    anchor: Any = None
    judged: set[datetime] = field(default_factory=set)
    overdue: list[datetime] = field(default_factory=list)  # lost to a message that came too late; the clock is behind

    def serves(self, at: datetime) -> None:
        """A run that begins serves every slot up to it that is not due yet; the others are lost."""
        self.overdue += [slot for slot in self.due(at) if slot not in self.overdue]
        waiting = None
        if self.served_until is not None:
            lost = [slot for slot in (*self.overdue, *self.judged) if slot <= at]
            waiting = self.rules.slots.after(max([self.served_until, *lost]), self.anchor)
        served = self.rules.slots.early(at, waiting, self.anchor) or at
        if self.served_until is None or served > self.served_until:
            self.serves_until(served)

    def serves_until(self, at: datetime) -> None:
        """Slots are expected from here on."""
        self.served_until, self.anchor = at, self.rules.slots.anchor(at, self.anchor)

    def due(self, at: datetime) -> list[datetime]:
        """Slots that nothing has served and whose deadline has come. One that has to wait keeps later ones back."""
        due: list[datetime] = []
        turn = self.since
        for slot in sorted({*self.overdue, *self.coming(at)}):
            turn = max(turn, self.deadline_of(slot))
            if turn > at:
                break
            due.append(slot)
        return due

    def coming(self, until: datetime) -> Iterator[datetime]:
        """Slots up to that time that nothing has served or judged."""
        slot = None if self.served_until is None else self.rules.slots.after(self.served_until, self.anchor)
        while slot is not None and slot <= min(until, self.until):
            if slot not in self.judged:
                yield slot
            slot = self.rules.slots.after(slot, self.anchor)

    def next_deadlines(self, ticked: datetime) -> list[datetime]:
        """When the clock has to look at overdue slots and at the next one; up to `ticked` it has looked."""
        coming = next(self.coming(FAR), None)
        slots = [*self.overdue, *([] if coming is None else [coming])]
        deadlines = [(slot, slot + self.rules.margin * MINUTE) for slot in slots]
        return [deadline if deadline > ticked else self.deadline_of(slot) for slot, deadline in deadlines]

    def deadline_of(self, slot: datetime) -> datetime:
        """The tick that judges it."""
        return end_of_margin(slot, self.rules.margin, self.deaf)[0]

    def is_unknown(self, slot: datetime) -> bool:
        """Whether nobody listened through the margin (D2), or it was not over before the monitor was disabled (D23).

        Or the slot, or the last moment of its margin, is in maintenance.
        """
        deadline, is_deaf = end_of_margin(slot, self.rules.margin, self.deaf)
        in_maintenance = is_maintained(self.windows, slot) or is_maintained(self.windows, deadline - INSTANT)
        return is_deaf or deadline > self.off_since or in_maintenance


@dataclass
class Place:
    """A monitor environment, and everything that ever happened in it from `since` on."""

    monitor: Monitor
    since: datetime
    deaf: frozenset[datetime] = frozenset()
    """The ticks whose minute nobody listened to."""
    stretches: list[Stretch] = field(default_factory=list)
    is_heard: bool = False
    runs: dict[Hashable, Run] = field(default_factory=dict)
    judged: dict[datetime, tuple[str, Rules]] = field(default_factory=dict)  # slots: "missed" or "unknown", by which
    verdicts: Verdicts = field(default_factory=Verdicts)
    waiting: list[tuple[datetime, str, Run, Rules, timedelta | None]] = field(default_factory=list)
    """Ends that do not count yet (D29): when they came, what they were, of what, by what, and how long it took."""
    recent: list[timedelta] = field(default_factory=list)  # how long runs took that ended ok
    ok_starts: list[datetime] = field(default_factory=list)  # of the runs whose ok has counted
    is_in_order: bool = True  # every message and every edit came after those before it
    is_edited_late: bool = False  # an edit of a message was stored after messages that were received after it
    newest: datetime = LONG_AGO
    ticked: datetime = LONG_AGO  # up to here the clock has looked for slots
    given_up_unheard: set[Hashable] = field(default_factory=set)  # runs whose deadline passed while nobody listened

    def __post_init__(self) -> None:
        self._expects(self.since)

    # --- edits

    def _expects(self, since: datetime) -> None:
        """From here on slots are those of the rules of now, counted anew (D10)."""
        stretch = Stretch(since, self.monitor.rules, self.deaf, self.monitor.windows)
        if self.is_heard:
            stretch.serves_until(since)
            stretch.serves(max(run.start for run in self.runs.values()))
        self.stretches.append(stretch)

    def is_edited(self, at: datetime, before: Rules, *, was_active: bool) -> None:
        """Its monitor was edited: what came until then is judged by the rules of then, when the clock gets there."""
        monitor = self.monitor
        self.is_in_order = self.is_in_order and at >= self.newest
        self.is_edited_late = self.is_edited_late or at < self.newest
        counts_anew = before.expected != monitor.rules.expected or was_active != monitor.is_active
        if counts_anew and was_active:
            self.stretches[-1].until = at
        if was_active and not monitor.is_active:
            for stretch in self.stretches:
                stretch.off_since = min(stretch.off_since, at)
        if counts_anew and monitor.is_active:
            self._expects(at)
        for run in self.runs.values():
            deadline = run.running_until
            if deadline is None:
                continue
            due_at = self._judged_at(deadline)
            if not was_active and monitor.is_active and due_at <= at and monitor.was_off(due_at):
                self._gives_up_disabled(run)
            elif deadline > at:  # A longer runtime extends it; a shorter one leaves it alone (D31).
                run.deadline = max(deadline, min(run.heard + monitor.rules.runtime * MINUTE, run.start + LIFE))

    # --- messages

    def hears(self, run_id: Hashable, status: str, at: datetime, *, counts: bool = True) -> bool:
        """A message was received. Returns whether it says something, or nothing new; False is for a contradiction.

        `counts`: its monitor was not disabled when it was stored.
        """
        self.is_in_order = self.is_in_order and at >= self.newest
        self.newest = max(self.newest, at)
        run = self.runs.get(run_id)
        if run is None:
            assert counts, "only ends of known runs are not counted"
            run = self.runs[run_id] = Run(run_id, at, status, at, self.monitor.rules_at(at))
            run.is_begun = status == "in_progress"
            run.ended_at = None if run.is_begun else at
            run.deadline = self._deadline(run, at) if status == "in_progress" else None
            self._concludes(run, at, opens=True)
            return True
        due_at = None if run.deadline is None else self._judged_at(run.deadline)
        if due_at is not None and due_at <= at and self.monitor.was_off(due_at):
            self._gives_up_disabled(run)
        if run.status == "timeout" or (run.deadline is not None and self._judged_at(run.deadline) <= at):
            if status == "in_progress" or run.finished in ("ok", status):
                return run.finished == status
            run.finished_first_at = at if run.finished is None else run.finished_first_at
            run.finished, run.finished_at = status, at
            run.duration = abs(at - run.start)
        elif run.status in ("in_progress", "unknown"):
            run.status, run.heard = status, at
            run.is_begun = run.is_begun or status == "in_progress"
            run.deadline = self._deadline(run, at) if status == "in_progress" else None
            late = run.finished_at if status == "in_progress" else None
            if late is not None and run.deadline is not None and late < self._judged_at(run.deadline):
                # It moved the deadline beyond an end that was too late until now.
                assert run.finished is not None, "it was said at that time"
                run.status, run.deadline, at = run.finished, None, late
            if run.status != "in_progress":
                run.finished, run.finished_at = None, None
                run.ended_at, run.duration = at, abs(at - run.start)
            self._concludes(run, at, counts=counts)
        elif run.status == "error" and status == "ok":
            run.status, run.duration = status, abs(at - run.start)
            self._concludes(run, at, counts=counts)
        else:
            if status == "in_progress" and run.status == "ok" and run.duration is None:
                run.duration = abs(at - run.start)
                self.recent.append(run.duration)
            return status in ("in_progress", run.status)
        return True

    def was_due_unheard(self, run_id: Hashable, at: datetime) -> bool:
        """Whether a run that the clock has not judged yet fell due by that time, in a minute without a listener."""
        until = self._running_until(self.runs[run_id])
        return until is not None and until <= at and tick_at_or_after(until) in self.deaf

    def newest_running(self, at: datetime) -> Run | None:
        """The run that a message without an id is about, if there is one."""
        running = [run for run in self.runs.values() if (until := self._running_until(run)) is not None and until > at]
        return max(running, key=lambda run: run.start, default=None)

    def begins_anew(self, run: Run, at: datetime, tolerance: timedelta) -> bool:
        """Whether a start without id is no heartbeat of this run: a slot came since, which it does not serve (D22)."""
        since = run.start
        for ended in self.monitor.former:
            if ended.before.expected == ended.after.expected or ended.at <= run.start:
                continue
            slots, served = ended.before.slots, since
            if since == run.start:
                served = slots.early(since, None, None) or since
            slot = slots.after(served, slots.anchor(since, None))
            if slot is not None and slot <= min(ended.at, at):
                return True
            since = ended.at
        current = self.stretches[-1]
        slots = current.rules.slots
        served = max(since, slots.early(run.start, None, current.anchor) or since)
        if current.anchor is not None:  # The newest run that began counts the interval anew.
            served = max(served, current.served_until or served)
        slot = slots.after(served, current.anchor)
        return slot is not None and slot <= at + tolerance

    def _judged_at(self, deadline: datetime) -> datetime:
        return end_of_maintenance(self.monitor.windows, deadline)

    def _running_until(self, run: Run) -> datetime | None:
        """When the run is judged, while it can be; its deadline may be in maintenance."""
        return None if run.running_until is None else self._judged_at(run.running_until)

    def _deadline(self, run: Run, at: datetime) -> datetime:
        deadline = at + self.monitor.rules_at(at).runtime * MINUTE
        for ended in self.monitor.former:
            if at < ended.at < deadline:  # D31
                deadline = max(deadline, at + ended.after.runtime * MINUTE)
        deadline = min(deadline, run.start + LIFE)
        return deadline if run.deadline is None else max(deadline, run.deadline)

    def _concludes(self, run: Run, at: datetime, *, opens: bool = False, counts: bool = True) -> None:
        is_too_soon = bool(self.waiting) or self._next_tick() <= at
        if opens:  # What follows a beginning serves nothing (D21).
            self._serves(at)
        if run.status == "in_progress" or not counts or self._is_spared(run.status, at):
            return
        rules = self.monitor.rules_at(at)
        if is_too_soon:
            self.waiting.append((at, run.status, run, rules, run.duration))
            self.count_what_waits()
        else:
            self._count(at, run.status, run, rules, run.duration)

    def _is_spared(self, status: str, at: datetime) -> bool:
        """Whether an error was received in maintenance."""
        return status == "error" and is_maintained(self.monitor.windows, at)

    def _serves(self, at: datetime) -> None:
        for stretch in self.stretches:
            if stretch.served_until is None:
                stretch.serves(max(stretch.since, at))
            elif at > stretch.since:
                stretch.serves(at)
        self.is_heard = True

    def _next_tick(self) -> datetime:
        """The next tick at which something is due that the clock has not looked at (D20)."""
        deadlines = [until for run in self.runs.values() if (until := self._running_until(run)) is not None]
        for stretch in self.stretches:
            deadlines += stretch.next_deadlines(self.ticked)
        return tick_at_or_after(min(deadlines, default=FAR))

    def count_what_waits(self) -> None:
        """Count, in the order of time, what came before the next tick at which something is due."""
        if not self.waiting:
            return
        until = self._next_tick()
        for ending in sorted(self.waiting, key=lambda ending: ending[0]):
            if ending[0] < until:
                self.waiting.remove(ending)
                self._count(*ending)

    # --- the clock

    def tick(self, tick: datetime) -> None:
        """The clock comes to a tick: slots first, then runs."""
        self.slots(tick)
        self.timeouts(tick)

    def slots(self, tick: datetime, *, first: datetime | None = None) -> None:
        """The clock looks for slots that nobody served; at once for all ticks from `first` on, if it is given."""
        found = []
        for stretch in self.stretches:
            due = stretch.due(tick)
            stretch.overdue = [slot for slot in stretch.overdue if slot not in due]
            stretch.judged |= set(due)
            for slot in due:
                own = min(tick, max(first or tick, tick_at_or_after(stretch.deadline_of(slot))))
                rules = self.monitor.rules_until(min(own, stretch.until))
                found.append((slot, stretch.is_unknown(slot), rules))
        for slot, is_unknown, rules in sorted(found, key=lambda one: one[0]):
            self.judged[slot] = "unknown" if is_unknown else "missed", rules
            if not is_unknown:
                self.verdicts.failed(slot, self.monitor.rules_until(tick).failures_to_open)
        self.ticked = tick
        self.count_what_waits()

    def timeouts(self, tick: datetime, *, first: datetime | None = None) -> None:
        """The clock looks for runs that take too long. After a deaf minute it gives them up and blames nobody.

        At once for all ticks from `first` on, if it is given: each run is given up at the tick of its own.
        """
        for run in sorted(self.runs.values(), key=lambda run: run.start):
            until = self._running_until(run)
            if until is None or until > tick:
                continue
            if self.monitor.was_off(until):
                self._gives_up_disabled(run)
                continue
            run.deadline, run.given_up_at = None, min(tick, max(first or tick, tick_at_or_after(until)))
            if tick not in self.deaf:
                run.status = "timeout"
                self.verdicts.failed(run.id, self.monitor.rules_until(tick).failures_to_open)
                continue
            self.given_up_unheard.add(run.id)
            if run.finished is None:
                run.status = "unknown"
            else:  # Its end was heard after all, before the clock came to this tick.
                assert run.finished_at is not None, "it was heard at some time"
                if not self._is_spared(run.finished, run.finished_at):
                    rules = self.monitor.rules_at(run.finished_at)
                    self.waiting.append((run.finished_at, run.finished, run, rules, run.duration))
                run.ended_at = run.finished_first_at
                run.status, run.finished = run.finished, None
        self.count_what_waits()

    def _gives_up_disabled(self, run: Run) -> None:
        """Its deadline came while the monitor was disabled: it is unknown, or has ended, and counts nothing (D23)."""
        run.status, run.deadline, run.finished = run.finished or "unknown", None, None

    def _count(self, at: datetime, status: str, run: Run, rules: Rules, took: timedelta | None) -> None:
        if status == "ok":
            counts = self._breaks(run, at, took)
            if took is not None:
                self.recent.append(took)
            if not counts:
                self.ok_starts.append(run.start)
                self.verdicts.ok(run.id, rules.oks_to_recover)
                return
            if run.has_failed:
                return
        run.has_failed = True
        if not any(start > run.start for start in self.ok_starts):  # D26
            self.verdicts.failed(run.id, rules.failures_to_open)

    def _breaks(self, run: Run, at: datetime, took: timedelta | None) -> bool:
        """Note which limit a run broke that ended ok, and say whether that counts (D44)."""
        limits = self.monitor.limits
        found: list[tuple[str, bool]] = []
        if limits.overlap_counts is not None and run.is_begun and self._overlaps(run, at):
            found.append(("overlap", limits.overlap_counts))
        if took is not None and limits.slow_seconds is not None and took.total_seconds() > limits.slow_seconds[0]:
            found.append(("slow", limits.slow_seconds[1]))
        recent = sorted(self.recent[-100:])
        if took is not None and limits.slow_times is not None and len(recent) >= self.monitor.runs_least:
            median = recent[(len(recent) + 1) // 2 - 1]
            if took > median * limits.slow_times[0]:
                found.append(("slow", limits.slow_times[1]))
        if not found:
            return False
        limit, counts = next((one for one in found if one[1]), found[0])
        counts = counts and not is_maintained(self.monitor.windows, at)
        run.limit = f"{limit}_counted" if counts else limit
        return counts

    def _overlaps(self, run: Run, at: datetime) -> bool:
        """Whether an earlier run had not ended when this one began, as far as that was known when it ended."""
        own = list(self.runs).index(run.id)
        for number, other in enumerate(self.runs.values()):
            if other is run or (other.start, number) > (run.start, own):
                continue
            late = other.finished_first_at if other.status in ("in_progress", "timeout") and other.finished else None
            if late is not None and late <= at:
                until = late
            elif other.ended_at is not None:
                until = other.ended_at
            elif other.given_up_at is not None:
                until = other.given_up_at
            else:
                until = FAR if other.deadline is None else tick_at_or_after(other.deadline)
            if until > run.start:
                return True
        return False
