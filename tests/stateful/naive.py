"""What should be true, kept with lists and loops: the model that the clock machine compares the real rows with.

It shares no code with what it judges but the lists of slots (`monitors.schedule`, which has tests of its own), and it
stores no counter: streaks, results and slots are counted out anew from the whole history whenever somebody asks.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from monitors.schedule import Anchor, Schedule, anchor_for, serves_early, slots_between
from tests.slots import next_slot

MINUTE = timedelta(minutes=1)
LIFE = timedelta(days=7)
TOLERANCE = timedelta(seconds=5)
LIMIT = 6


def minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


@dataclass
class Run:
    """One run: what was said of it so far."""

    name: object
    place: "Place"
    start: datetime
    status: str
    heard: datetime  # when its newest message came that it took as a running one
    waited_for: datetime | None = None  # the slot that was waited for when it began
    deadline: datetime | None = None
    finished: str | None = None


@dataclass(frozen=True)
class Ending:
    """An ok or error, with the thresholds that held when it was received."""

    received_at: datetime
    status: str
    started_at: datetime
    failures_to_open: int
    oks_to_recover: int


@dataclass(frozen=True)
class Lost:
    """A slot that the clock has still to judge by itself: its deadline, and since when its monitor was off, if it was.

    It was lost to a message that came too late, or it came before an edit or before its monitor was disabled (D32).
    """

    slot: datetime
    deadline: datetime
    off: datetime | None = None


@dataclass(frozen=True)
class Former:
    """What a monitor expected until an edit; `counts`: the edit changed what is expected, not only thresholds."""

    until: datetime
    schedule: Schedule
    failures_to_open: int
    counts: bool


@dataclass
class Job:
    """What a monitor expects."""

    schedule: Schedule
    margin: timedelta
    runtime: timedelta
    failures_to_open: int = 1
    oks_to_recover: int = 1
    disabled_at: datetime | None = None
    places: list["Place"] = field(default_factory=list)
    former: list[Former] = field(default_factory=list)

    def is_edited(self, now: datetime, *, counts: bool) -> None:
        """Remember the rules until now."""
        self.former.append(Former(now, self.schedule, self.failures_to_open, counts))

    def failures_to_open_at(self, tick: datetime) -> int:
        """The threshold that held at a tick, however late the clock comes to it."""
        return next((one.failures_to_open for one in self.former if one.until >= tick), self.failures_to_open)


@dataclass
class Place:
    """A monitor environment and everything that ever happened in it."""

    job: Job
    name: str
    muted: bool = False
    heard: bool = False
    runs: list[Run] = field(default_factory=list)
    receptions: list[datetime] = field(default_factory=list)
    words: list[str] = field(default_factory=list)  # "failed" and "ok", in the order in which they counted
    waiting: list["Ending"] = field(default_factory=list)  # what is not counted before the clock was there (D29)
    ok_starts: list[datetime] = field(default_factory=list)  # of the runs whose ok has counted
    slots: dict[str, list[datetime]] = field(default_factory=lambda: {"served": [], "missed": [], "unknown": []})
    overdue: list[Lost] = field(default_factory=list)
    reference: datetime | None = None  # all slots up to here are accounted for, or overdue
    anchor: Anchor | None = None
    failing: bool = False
    concluded: bool = False
    incidents: int = 0
    occurrences: int = 0

    # --- messages

    def hears(self, status: str, now: datetime, run: Run | None, name: object) -> bool:
        """A message about `run`, or one that begins the run `name`. Returns whether it was taken."""
        spared = status != "in_progress" and (run is not None or status == "error")  # D25
        if sum(minute_of(at) == minute_of(now) for at in self.receptions) >= LIMIT * (10 if spared else 1):
            return False
        if self.job.disabled_at is not None and (run is None or status == "in_progress"):
            return False
        self.receptions.append(now)
        if self.job.disabled_at is not None:
            return self._hears_the_end_of_a_disabled_run(status, now, run, self.job.disabled_at)
        if run is None:
            run = Run(name, self, start=now, status=status, heard=now)
            self.runs.append(run)
            if status == "in_progress":
                run.deadline = self._deadline(run, now)
            self._concludes(run, now, opens=True)
            return True
        if run.place is not self or now >= run.start + LIFE:
            return False
        too_late = run.status == "timeout" or (run.deadline is not None and run.deadline <= now)
        if too_late:
            if run.finished == status == "ok":
                return True  # Says nothing new.
            if status == "in_progress" or run.finished == "ok":
                return False
            run.finished = status
            return True
        if run.status in ("in_progress", "unknown"):
            run.status, run.heard = status, now
            # Being heard of never brings a deadline nearer (D31).
            later = max(run.deadline or now, self._deadline(run, now))
            run.deadline = later if status == "in_progress" else None
            self._concludes(run, now, opens=False)
            return True
        if run.status in ("ok", "error") and status in ("in_progress", run.status):
            return True  # Says nothing new.
        if run.status == "error":
            run.status = "ok"
            self._concludes(run, now, opens=False)
            return True
        return False

    def _hears_the_end_of_a_disabled_run(self, status: str, now: datetime, run: Run | None, since: datetime) -> bool:
        """It is stored, and nothing is counted (D23)."""
        if run is None or run.place is not self or now >= run.start + LIFE:
            return False
        if run.deadline is not None and since < run.deadline <= now:
            run.status, run.deadline = "unknown", None
        if run.status == "timeout" or (run.deadline is not None and run.deadline <= now):
            if run.finished in (None, status) or run.finished == "error":
                run.finished = status
                return True
            return False
        if run.status == "ok":
            return status == "ok"
        if run.status in ("in_progress", "unknown", "error"):
            run.status, run.deadline = status, None
            return True
        return False

    def newest_running(self, now: datetime) -> Run | None:
        running = [r for r in self.runs if r.status == "in_progress" and r.deadline is not None and r.deadline > now]
        return max(running, key=lambda r: r.start, default=None)

    def begins_anew(self, run: Run, now: datetime) -> bool:
        """Whether a start without id is no heartbeat of this run: a slot came since, which it does not serve (D22)."""
        since = run.start
        for former in self.job.former:
            if not former.counts or former.until <= run.start:
                continue
            schedule, served = former.schedule, since
            if since == run.start and schedule.crontab is not None:
                served = serves_early(schedule, run.start, run.waited_for, None, TOLERANCE) or run.start
            if slots_between(schedule, served, min(former.until, now), anchor_for(schedule, since)):
                return True
            since = former.until
        schedule = self.job.schedule
        served = serves_early(schedule, run.start, run.waited_for, self.anchor, TOLERANCE) or run.start
        if self.anchor is not None:  # The newest run that began counts the interval anew.
            served = max(served, self.anchor.at)
        if since > run.start:
            served = max(served, since)
        return bool(slots_between(schedule, served, now + TOLERANCE, self.anchor))

    def _deadline(self, run: Run, now: datetime) -> datetime:
        return min(now + self.job.runtime, run.start + LIFE)

    def _concludes(self, run: Run, now: datetime, *, opens: bool) -> None:
        too_soon = bool(self.waiting) or self.next_tick() <= now
        if opens:  # What follows a beginning serves nothing (D21).
            run.waited_for = self._serves(now)
        self._ends(run.status, run, now, too_soon=too_soon)

    def _ends(self, status: str, run: Run, now: datetime, *, too_soon: bool) -> None:
        if status == "in_progress":
            return
        ending = Ending(now, status, run.start, self.job.failures_to_open, self.job.oks_to_recover)
        if too_soon:
            self.waiting.append(ending)
            self.count_what_waits()
        else:
            self._count(ending)

    def next_tick(self) -> datetime:
        """The tick at which the next thing is due: a slot that nothing served, or a deadline (D20)."""
        coming = self.next_slot()
        slots = [lost.deadline for lost in self.overdue]
        slots += [] if coming is None else [coming + self.job.margin]
        deadlines = [run.deadline for run in self.runs if run.status == "in_progress" and run.deadline is not None]
        due = min([*slots, *deadlines], default=None)
        if due is None:
            return datetime.max.replace(tzinfo=UTC)
        return minute_of(due) if minute_of(due) == due else minute_of(due) + MINUTE

    def count_what_waits(self) -> None:
        """Count what was received before the next tick at which something is due, in the order of time."""
        until = self.next_tick()
        for ending in sorted(self.waiting, key=lambda ending: ending.received_at):
            if ending.received_at < until:
                self.waiting.remove(ending)
                self._count(ending)

    def _count(self, ending: "Ending") -> None:
        if ending.status == "ok":
            self._ok(ending)
        elif not any(start > ending.started_at for start in self.ok_starts):  # D26
            self._failed(ending.failures_to_open)

    # --- failures and oks

    def streak(self, word: str) -> int:
        count = 0
        for said in reversed(self.words):
            if said != word:
                break
            count += 1
        return count

    def _failed(self, failures_to_open: int) -> None:
        self.words.append("failed")
        if self.failing:
            self.occurrences += not self.muted
        elif self.streak("failed") >= failures_to_open:
            self.failing = self.concluded = True
            self.incidents += 1
            self.occurrences += 0 if self.muted else failures_to_open

    def _ok(self, ending: "Ending") -> None:
        self.words.append("ok")
        self.ok_starts.append(ending.started_at)
        self.concluded = True
        if self.failing and self.streak("ok") >= ending.oks_to_recover:
            self.failing = False

    @property
    def status(self) -> str:
        if self.failing:
            return "error"
        return "ok" if self.concluded and "ok" in self.words else "active"

    # --- slots

    def _serves(self, now: datetime) -> datetime | None:
        """A run that begins serves every slot up to it, or the one just after it, whose margin was still running.

        Returns the slot that was waited for.
        """
        self.heard = True
        of_before = [lost for lost in self.overdue if lost.deadline > now]
        self.slots["served"] += [lost.slot for lost in of_before]
        self.overdue = [lost for lost in self.overdue if lost not in of_before]
        waited_for = self._serves_by_the_rules_of_now(now)
        return of_before[0].slot if of_before else waited_for

    def _serves_by_the_rules_of_now(self, now: datetime) -> datetime | None:
        schedule, margin = self.job.schedule, self.job.margin
        if self.reference is None:
            self.reference = serves_early(schedule, now, None, None, TOLERANCE) or now
            self.anchor = anchor_for(schedule, self.reference)
            return None
        passed = slots_between(schedule, self.reference, now, self.anchor)
        lost = [slot for slot in passed if slot + margin <= now and slot not in self.slots["missed"]]
        already_missed = [slot for slot in passed if slot in self.slots["missed"]]
        last_lost = max([*lost, *already_missed], default=self.reference)
        waiting = next_slot(schedule, last_lost, self.anchor)
        served_until = serves_early(schedule, now, waiting, self.anchor, TOLERANCE) or now
        anchor = anchor_for(schedule, served_until, self.anchor)
        if next_slot(schedule, served_until, anchor) <= next_slot(schedule, last_lost, self.anchor):
            return waiting  # One more run for a slot that was served a moment early.
        in_time = slots_between(schedule, last_lost, served_until, self.anchor)
        self.slots["served"] += in_time
        self.overdue += [Lost(slot, slot + margin) for slot in lost]
        self.reference, self.anchor = served_until, anchor
        return waiting

    def starts_anew(self, now: datetime) -> None:
        """After an edit, or when the monitor was switched on, what follows is counted from now (D10)."""
        self.reference = self.anchor = None
        if self.job.disabled_at is not None or not self.heard:
            return
        schedule = self.job.schedule
        self.reference, self.anchor = now, anchor_for(schedule, now)
        newest, coming = max(run.start for run in self.runs), self.next_slot()
        early = serves_early(schedule, newest, coming, self.anchor, TOLERANCE)
        if early is not None and early > now:  # The newest run began a moment before a slot of the new rules (D12).
            self.reference, self.anchor = early, anchor_for(schedule, early, self.anchor)

    def keeps_what_came(self, now: datetime) -> None:
        """Slots that have come still wait for their deadlines, by the rules of then (D23, D32)."""
        if self.reference is not None:
            come = slots_between(self.job.schedule, self.reference, now, self.anchor)
            judged = self.slots["missed"]
            self.overdue += [Lost(slot, slot + self.job.margin) for slot in come if slot not in judged]
        self.reference = self.anchor = None

    def is_enabled(self, since: datetime, now: datetime) -> None:
        """What fell due meanwhile, and the clock did not come to, is unknown."""
        for run in self.runs:
            if run.status == "in_progress" and run.deadline is not None and since < run.deadline <= now:
                self._gives_up_unjudged(run)
        self.overdue = [replace(lost, off=lost.off or since) for lost in self.overdue]
        self.starts_anew(now)

    def _gives_up_unjudged(self, run: Run) -> None:
        run.status, run.deadline, run.finished = run.finished or "unknown", None, None

    def next_slot(self) -> datetime | None:
        if self.reference is None:
            return None
        missed = [slot for slot in self.slots["missed"] if slot > self.reference]
        return next_slot(self.job.schedule, max(missed, default=self.reference), self.anchor)

    # --- the clock

    def tick(self, tick: datetime) -> None:
        """One minute of the clock: misses, then timeouts, each oldest first."""
        margin = self.job.margin
        due = [lost for lost in self.overdue if lost.deadline <= tick]
        self.overdue = [lost for lost in self.overdue if lost not in due]
        if self.reference is not None:
            coming = slots_between(self.job.schedule, self.reference, tick - margin, self.anchor)
            due += [Lost(slot, slot + margin) for slot in coming if slot not in self.slots["missed"]]
        failures_to_open = self.job.failures_to_open_at(tick)
        for lost in due:
            since = lost.off or self.job.disabled_at
            if since is not None and lost.deadline > since:
                self.slots["unknown"].append(lost.slot)
                continue
            self.slots["missed"].append(lost.slot)
            self._failed(failures_to_open)
        off = self.job.disabled_at
        for run in sorted(self.runs, key=lambda r: r.start):
            if run.status == "in_progress" and run.deadline is not None and run.deadline <= tick:
                if off is not None and run.deadline > off:
                    self._gives_up_unjudged(run)
                    continue
                run.status, run.deadline = "timeout", None
                self._failed(failures_to_open)
        self.count_what_waits()
