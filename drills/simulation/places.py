"""What should become of monitors and their environments, kept with lists and loops; shares no code with what it judges.

Slots are plain arithmetic: all schedules are "every so many minutes of the hour". A slot belongs to the rules that held
when it came (D32): from one edit to the next there is a `Stretch`, and each is judged by rules of its own.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from drills.simulation.rules import MINUTE, START, Job, Rules

FAR = datetime.max.replace(tzinfo=UTC) - MINUTE
INSTANT = timedelta(microseconds=1)


@dataclass
class Run:
    """One run: what was said of it so far. `heard` is when it was last said to be running."""

    id: str
    start: datetime
    status: str
    heard: datetime
    rules: Rules
    deadline: datetime | None = None
    finished: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class RulesEnded:
    """An edit at `at` replaced these rules by others."""

    at: datetime
    before: Rules
    after: Rules


@dataclass
class Monitor:
    """The rules of a monitor, those that it had before, and when it was disabled."""

    rules: Rules
    former: list[RulesEnded] = field(default_factory=list)
    is_active: bool = True
    off: list[tuple[datetime, datetime | None]] = field(default_factory=list)

    def rules_at(self, at: datetime) -> Rules:
        """The rules for what is received at that time: an edit holds from its instant on."""
        return next((ended.before for ended in self.former if ended.at > at), self.rules)

    def rules_until(self, tick: datetime) -> Rules:
        """The rules for what a tick finds: it does not see an edit that came with it (D20)."""
        return self.rules_at(tick - INSTANT)

    def was_off(self, at: datetime) -> bool:
        """Whether what falls due at that time falls due while the monitor is disabled (D23)."""
        return any(since < at and (until is None or at <= until) for since, until in self.off)


@dataclass
class Stretch:
    """What is expected from one edit to the next: a run every so many minutes of the hour."""

    since: datetime
    every: int
    margin: int
    deaf: frozenset[datetime]  # the minutes, by their beginnings, in which nobody listened (D2)
    until: datetime = FAR  # the instant of the edit; a slot that comes with it belongs here
    off_since: datetime = FAR  # when the monitor was disabled, then or later: what was not due by then is not judged
    served_until: datetime | None = None  # all slots up to here are served, judged or overdue
    judged: set[datetime] = field(default_factory=set)
    overdue: list[datetime] = field(default_factory=list)  # lost to a message that came too late; the clock is behind

    def serves(self, at: datetime) -> None:
        """A run that begins serves every slot up to it that is not due yet; the others are lost."""
        self.overdue += [slot for slot in self.due(at) if slot not in self.overdue]
        self.served_until = max(self.served_until or at, at)

    def due(self, at: datetime) -> list[datetime]:
        """Slots that nothing has served and whose deadline has come. One that has to wait keeps later ones back."""
        due, turn = [], START
        for slot in sorted([*self.overdue, *self.coming(at)]):
            turn = max(turn, self.deadline_of(slot))
            if turn > at:
                break
            due.append(slot)
        return due

    def coming(self, until: datetime) -> list[datetime]:
        """Slots up to that time that nothing has served or judged."""
        slots, slot = [], START
        while self.served_until is not None and slot <= min(until, self.until):
            if slot > self.served_until and slot not in self.judged:
                slots.append(slot)
            slot += self.every * MINUTE
        return slots

    def next_deadlines(self, ticked: datetime) -> list[datetime]:
        """When the clock has to look at overdue slots and at the next one; up to `ticked` it has looked."""
        later = max(self.served_until or self.since, ticked) + 60 * MINUTE
        slots = [*self.overdue, *self.coming(later)[:1]]
        deadlines = [(slot, slot + self.margin * MINUTE) for slot in slots]
        return [deadline if deadline > ticked else self.deadline_of(slot) for slot, deadline in deadlines]

    def deadline_of(self, slot: datetime) -> datetime:
        """The end of the margin, or when a whole margin of minutes was listened to if a part of it was deaf."""
        deadline = slot + self.margin * MINUTE
        if 0 < self._deaf_count(slot, deadline) < self.margin:
            while (deadline - slot) // MINUTE - self._deaf_count(slot, deadline) < self.margin:
                deadline += MINUTE
        return deadline

    def is_unknown(self, slot: datetime) -> bool:
        """Whether nobody listened through the margin (D2), or it was not over before the monitor was disabled (D23)."""
        is_deaf = self._deaf_count(slot, slot + self.margin * MINUTE) == self.margin
        return is_deaf or self.deadline_of(slot) > self.off_since

    def _deaf_count(self, since: datetime, until: datetime) -> int:
        return sum(since <= minute < until for minute in self.deaf)


@dataclass
class Place:
    """A monitor environment, and everything that ever happened in it."""

    job: Job
    monitor: Monitor
    deaf: frozenset[datetime]
    stretches: list[Stretch] = field(default_factory=list)
    is_heard: bool = False
    runs: dict[str, Run] = field(default_factory=dict)
    judged: dict[datetime, tuple[str, Rules]] = field(default_factory=dict)  # slots: "missed" or "unknown", by which
    verdicts: list[str] = field(default_factory=list)  # "failed" and "ok", in the order in which they counted
    waiting: list[tuple[datetime, str, Run, Rules]] = field(default_factory=list)  # ends that do not count yet (D29)
    ok_starts: list[datetime] = field(default_factory=list)  # of the runs whose ok has counted
    is_in_order: bool = True  # every message and every edit came after those before it
    is_edited_late: bool = False  # an edit of a message was stored after messages that were received after it
    newest: datetime = START
    is_unsure: bool = False  # a batch with a configuration may have seen the monitor before another edit or after it
    is_told_late: bool = False  # a message waited while the monitor was disabled, and was stored when it was enabled
    ticked: datetime = START  # up to here the clock has looked for slots
    given_up_unheard: set[str] = field(default_factory=set)  # runs whose deadline passed while nobody listened
    is_failing: bool = False
    incidents: int = 0
    occurrences: int = 0

    def __post_init__(self) -> None:
        self._expects(START - MINUTE)

    @property
    def is_comparable(self) -> bool:
        """Whether it is known what should become of it, and no earlier time of being disabled matters than the last."""
        return not self.is_unsure and not (self.is_told_late and len(self.monitor.off) > 1)

    # --- edits

    def _expects(self, since: datetime) -> None:
        """From here on slots are those of the rules of now, counted anew (D10)."""
        stretch = Stretch(since, self.monitor.rules.every, self.monitor.rules.margin, self.deaf)
        if self.is_heard:
            stretch.served_until = since
            newest = max(run.start for run in self.runs.values())
            if newest > since:
                stretch.serves(newest)
        self.stretches.append(stretch)

    def is_edited(self, at: datetime, before: Rules, *, was_active: bool) -> None:
        """Its monitor was edited: what came until then is judged by the rules of then, when the clock gets there."""
        monitor = self.monitor
        self.is_in_order = self.is_in_order and at >= self.newest
        self.is_edited_late = self.is_edited_late or at < self.newest
        counts_anew = before[:3] != monitor.rules[:3] or was_active != monitor.is_active
        if counts_anew and was_active:
            self.stretches[-1].until = at
        if was_active and not monitor.is_active:
            for stretch in self.stretches:
                stretch.off_since = min(stretch.off_since, at)
        if counts_anew and monitor.is_active:
            self._expects(at)
        for run in self.runs.values():
            if run.status != "in_progress" or run.deadline is None:
                continue
            if not was_active and monitor.is_active and run.deadline <= at and monitor.was_off(run.deadline):
                self._gives_up_disabled(run)
            elif run.deadline > at:  # A longer runtime extends it; a shorter one leaves it alone (D31).
                run.deadline = max(run.deadline, run.heard + monitor.rules.runtime * MINUTE)

    # --- messages

    def takes(self, run_id: str, status: str, *, was_refused: bool) -> str:
        """What becomes of a message that is stored now: of a disabled monitor's only the ends of known runs (D23).

        `was_refused`: it was, by a batch that saw the monitor as it was a moment ago.
        """
        if was_refused:
            return "refused"
        if self.monitor.is_active:
            return "counted"
        return "refused" if status == "in_progress" or run_id not in self.runs else "uncounted"

    def hears(self, run_id: str, status: str, at: datetime, fate: str) -> None:
        """A message was received."""
        self.is_in_order = self.is_in_order and at >= self.newest
        if fate == "refused":
            return
        self.newest = max(self.newest, at)
        run = self.runs.get(run_id)
        counts = fate == "counted"
        if run is None:
            assert counts, "only ends of known runs are not counted"
            run = self.runs[run_id] = Run(run_id, at, status, at, self.monitor.rules_at(at))
            run.deadline = self._deadline(run, at) if status == "in_progress" else None
            self._concludes(run, at, opens=True)
            return
        if run.deadline is not None and run.deadline <= at and self.monitor.was_off(run.deadline):
            run.status, run.deadline = "unknown", None
        if run.status == "timeout" or (run.deadline is not None and run.deadline <= at):
            if status != "in_progress" and run.finished not in ("ok", status):
                run.finished, run.finished_at = status, at
        elif run.status in ("in_progress", "unknown"):
            run.status, run.heard = status, at
            run.deadline = self._deadline(run, at) if status == "in_progress" else None
            self._concludes(run, at, counts=counts)
        elif run.status == "error" and status == "ok":
            run.status = status
            self._concludes(run, at, counts=counts)

    def _deadline(self, run: Run, at: datetime) -> datetime:
        deadline = at + self.monitor.rules_at(at).runtime * MINUTE
        for ended in self.monitor.former:
            if at < ended.at < deadline:  # D31
                deadline = max(deadline, at + ended.after.runtime * MINUTE)
        return deadline if run.deadline is None else max(deadline, run.deadline)

    def _concludes(self, run: Run, at: datetime, *, opens: bool = False, counts: bool = True) -> None:
        is_too_soon = bool(self.waiting) or self._next_tick() <= at
        if opens:
            self._serves(at)
        if run.status == "in_progress" or not counts:
            return
        rules = self.monitor.rules_at(at)
        if is_too_soon:
            self.waiting.append((at, run.status, run, rules))
            self.count_what_waits()
        else:
            self._count(run.status, run, rules)

    def _serves(self, at: datetime) -> None:
        for stretch in self.stretches:
            if not self.is_heard:
                stretch.served_until = max(stretch.since, at)
            elif at > stretch.since:
                stretch.serves(at)
        self.is_heard = True

    def _next_tick(self) -> datetime:
        """The next tick at which something is due that the clock has not looked at."""
        deadlines = [run.deadline for run in self.runs.values() if run.status == "in_progress" and run.deadline]
        for stretch in self.stretches:
            deadlines += stretch.next_deadlines(self.ticked)
        due = min(deadlines, default=FAR)
        cut = due.replace(second=0, microsecond=0)
        return cut if cut == due else cut + MINUTE

    def count_what_waits(self) -> None:
        """Count, in the order of time, what came before the next tick at which something is due."""
        until = self._next_tick()
        for ending in sorted(self.waiting, key=lambda ending: ending[0]):
            at, status, run, rules = ending
            if at < until:
                self.waiting.remove(ending)
                self._count(status, run, rules)

    # --- the clock

    def slots(self, tick: datetime) -> None:
        """The clock looks for slots that nobody served."""
        found = []
        for stretch in self.stretches:
            due = stretch.due(tick)
            stretch.overdue = [slot for slot in stretch.overdue if slot not in due]
            stretch.judged |= set(due)
            rules = self.monitor.rules_until(min(tick, stretch.until))
            found += [(slot, stretch.is_unknown(slot), rules) for slot in due]
        for slot, is_unknown, rules in sorted(found):
            self.judged[slot] = "unknown" if is_unknown else "missed", rules
            if not is_unknown:
                self._failed(self.monitor.rules_until(tick))
        self.ticked = tick
        self.count_what_waits()

    def timeouts(self, tick: datetime) -> None:
        """The clock looks for runs that take too long. After a deaf minute it gives them up and blames nobody."""
        is_deaf = tick - MINUTE in self.deaf
        for run in sorted(self.runs.values(), key=lambda run: run.start):
            if run.status != "in_progress" or run.deadline is None or run.deadline > tick:
                continue
            if self.monitor.was_off(run.deadline):
                self._gives_up_disabled(run)
                continue
            run.deadline = None
            if not is_deaf:
                run.status = "timeout"
                self._failed(self.monitor.rules_until(tick))
                continue
            self.given_up_unheard.add(run.id)
            if run.finished is None:
                run.status = "unknown"
            else:  # Its end was heard after all, before the clock came to this tick.
                assert run.finished_at is not None, "it was heard at some time"
                self.waiting.append((run.finished_at, run.finished, run, self.monitor.rules_at(run.finished_at)))
                run.status, run.finished = run.finished, None
        self.count_what_waits()

    def _gives_up_disabled(self, run: Run) -> None:
        """Its deadline came while the monitor was disabled: it is unknown, or has ended, and counts nothing (D23)."""
        run.status, run.deadline, run.finished = run.finished or "unknown", None, None

    # --- failures and oks

    def _count(self, status: str, run: Run, rules: Rules) -> None:
        if status == "ok":
            self._was_ok(run, rules)
        elif not any(start > run.start for start in self.ok_starts):  # D26
            self._failed(rules)

    def _failed(self, rules: Rules) -> None:
        self.verdicts.append("failed")
        if self.is_failing:
            self.occurrences += 1
        elif self.streak("failed") >= rules.failures_to_open:
            self.is_failing = True
            self.incidents += 1
            self.occurrences += rules.failures_to_open

    def _was_ok(self, run: Run, rules: Rules) -> None:
        self.verdicts.append("ok")
        self.ok_starts.append(run.start)
        if self.is_failing and self.streak("ok") >= rules.oks_to_recover:
            self.is_failing = False

    def streak(self, verdict: str) -> int:
        """How many of the newest verdicts are this one."""
        count = 0
        for said in reversed(self.verdicts):
            if said != verdict:
                break
            count += 1
        return count

    @property
    def status(self) -> str:
        """The status of the environment's row."""
        if self.is_failing:
            return "error"
        return "ok" if "ok" in self.verdicts else "active"
