"""What should be true after a simulation: an account kept with lists and loops, and the comparison with the rows.

It knows the messages that were received and stored, and when each was received; it shares no code with what it judges.
Slots are plain arithmetic: all schedules are "every so many minutes of the hour".
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from django.db import connection

from clocktasks.clock import TaskKind
from drills.simulation.world import MINUTE, SHARDS, START, BatchStored, Copy, Job, TickApplied, World

UNHEARD_MAX = timedelta(seconds=10)


@dataclass
class Run:
    """One run: what was said of it so far."""

    id: str
    start: datetime
    status: str
    deadline: datetime | None = None
    finished: str | None = None
    finished_at: datetime | None = None


@dataclass
class Place:
    """A monitor environment, and everything that ever happened in it."""

    job: Job
    deaf: frozenset[datetime]  # the minutes, by their beginnings, in which nobody listened (D2)
    runs: dict[str, Run] = field(default_factory=dict)
    judged: dict[datetime, str] = field(default_factory=dict)  # slots, and "missed" or "unknown"
    overdue: list[datetime] = field(default_factory=list)  # lost to a message that came too late; the clock is behind
    served_until: datetime | None = None  # all slots up to here are served, judged or overdue
    verdicts: list[str] = field(default_factory=list)  # "failed" and "ok", in the order in which they counted
    waiting: list[tuple[datetime, str, Run]] = field(default_factory=list)  # ends that are not counted yet (D29)
    ok_starts: list[datetime] = field(default_factory=list)  # of the runs whose ok has counted
    is_in_order: bool = True  # every message came after those before it
    newest: datetime = START
    ticked: datetime = START  # up to here the clock has looked for slots
    given_up_unheard: set[str] = field(default_factory=set)  # runs whose deadline passed while nobody listened
    is_failing: bool = False
    incidents: int = 0
    occurrences: int = 0

    def hears(self, run_id: str, status: str, at: datetime) -> None:
        """A message was received."""
        self.is_in_order = self.is_in_order and at >= self.newest
        self.newest = max(self.newest, at)
        run = self.runs.get(run_id)
        if run is None:
            run = self.runs[run_id] = Run(run_id, at, status)
            run.deadline = self._deadline(at) if status == "in_progress" else None
            self._concludes(run, at, opens=True)
        elif run.status == "timeout" or (run.deadline is not None and run.deadline <= at):
            if status != "in_progress" and run.finished not in ("ok", status):
                run.finished, run.finished_at = status, at
        elif run.status in ("in_progress", "unknown"):
            run.status = status
            run.deadline = self._deadline(at) if status == "in_progress" else None
            self._concludes(run, at)
        elif run.status == "error" and status == "ok":
            run.status = status
            self._concludes(run, at)

    def _deadline(self, at: datetime) -> datetime:
        return at + self.job.runtime * MINUTE

    def _concludes(self, run: Run, at: datetime, *, opens: bool = False) -> None:
        is_too_soon = bool(self.waiting) or self._next_tick() <= at
        if opens:
            self._serves(at)
        if run.status == "in_progress":
            return
        if is_too_soon:
            self.waiting.append((at, run.status, run))
            self._count_what_waits()
        else:
            self._count(run.status, run)

    def _next_tick(self) -> datetime:
        """The next tick at which something is due that the clock has not looked at."""
        slots, slot = list(self.overdue), START
        while self.served_until is not None and (slot <= self.served_until or slot in self.judged):
            slot += self.job.every * MINUTE
        slots += [slot] if self.served_until is not None else []
        deadlines = [run.deadline for run in self.runs.values() if run.status == "in_progress" and run.deadline]
        for slot in slots:
            deadline = slot + self.job.margin * MINUTE
            deadlines.append(deadline if deadline > self.ticked else self._deadline_of(slot))
        due = min(deadlines, default=datetime.max.replace(tzinfo=UTC) - MINUTE)
        cut = due.replace(second=0, microsecond=0)
        return cut if cut == due else cut + MINUTE

    def _count_what_waits(self) -> None:
        """Count, in the order of time, what came before the next tick at which something is due."""
        until = self._next_tick()
        for at, status, run in sorted(self.waiting, key=lambda ending: ending[0]):
            if at < until:
                self.waiting.remove((at, status, run))
                self._count(status, run)

    def _count(self, status: str, run: Run) -> None:
        if status == "ok":
            self._was_ok(run)
        elif not any(start > run.start for start in self.ok_starts):  # D26
            self._failed()

    def _serves(self, at: datetime) -> None:
        """A run that begins serves every slot up to it that is not due yet; the others are lost."""
        if self.served_until is not None:
            lost = [slot for slot in self._due(at) if slot not in self.overdue]
            self.overdue += lost
        self.served_until = at

    def _due(self, at: datetime) -> list[datetime]:
        """Slots that nothing has served and whose deadline has come. One that has to wait keeps later ones back."""
        slots, slot = list(self.overdue), START
        while self.served_until is not None and slot <= at:
            if slot > self.served_until and slot not in self.judged:
                slots.append(slot)
            slot += self.job.every * MINUTE
        due, turn = [], START
        for slot in sorted(slots):
            turn = max(turn, self._deadline_of(slot))
            if turn > at:
                break
            due.append(slot)
        return due

    def _deadline_of(self, slot: datetime) -> datetime:
        """The end of the margin, or when a whole margin of minutes was listened to if a part of it was deaf."""
        deadline = slot + self.job.margin * MINUTE
        if 0 < self._deaf_count(slot, deadline) < self.job.margin:
            while (deadline - slot) // MINUTE - self._deaf_count(slot, deadline) < self.job.margin:
                deadline += MINUTE
        return deadline

    def _deaf_count(self, since: datetime, until: datetime) -> int:
        return sum(since <= minute < until for minute in self.deaf)

    def slots(self, tick: datetime) -> None:
        """The clock looks for slots that nobody served."""
        due = self._due(tick)
        self.overdue = [slot for slot in self.overdue if slot not in due]
        for slot in due:
            if self._deaf_count(slot, slot + self.job.margin * MINUTE) == self.job.margin:
                self.judged[slot] = "unknown"
                continue
            self.judged[slot] = "missed"
            self._failed()
        self.ticked = tick
        self._count_what_waits()

    def timeouts(self, tick: datetime) -> None:
        """The clock looks for runs that take too long. After a deaf minute it gives them up and blames nobody."""
        is_deaf = tick - MINUTE in self.deaf
        for run in sorted(self.runs.values(), key=lambda run: run.start):
            if run.status != "in_progress" or run.deadline is None or run.deadline > tick:
                continue
            run.deadline = None
            if not is_deaf:
                run.status = "timeout"
                self._failed()
                continue
            self.given_up_unheard.add(run.id)
            if run.finished is None:
                run.status = "unknown"
            else:  # Its end was heard after all, before the clock came to this tick.
                assert run.finished_at is not None, "it was heard at some time"
                self.waiting.append((run.finished_at, run.finished, run))
                run.status, run.finished = run.finished, None
        self._count_what_waits()

    def _failed(self) -> None:
        self.verdicts.append("failed")
        if self.is_failing:
            self.occurrences += 1
        elif self.streak("failed") >= self.job.failures_to_open:
            self.is_failing = True
            self.incidents += 1
            self.occurrences += self.job.failures_to_open

    def _was_ok(self, run: Run) -> None:
        self.verdicts.append("ok")
        self.ok_starts.append(run.start)
        if self.is_failing and self.streak("ok") >= self.job.oks_to_recover:
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


def account_in_order_of_commits(world: World, deaf: frozenset[datetime]) -> dict[Job, Place]:
    """What the transactions, one after the other, should have led to."""
    places = {job: Place(job, deaf) for job in world.jobs}
    for entry in world.history:
        match entry:
            case BatchStored(copies):
                _hear(places, copies)
            case TickApplied(kind, shard):
                own = [place for job, place in places.items() if job.monitor_id % SHARDS == shard]
                for place, tick in product(own, entry.ticks()):
                    if kind is not TaskKind.TIMEOUT:
                        place.slots(tick)
                    if kind is not TaskKind.MISSED:
                        place.timeouts(tick)
    return places


def account_in_order_of_time(world: World, deaf: frozenset[datetime], until: datetime) -> dict[Job, Place]:
    """What should have happened if every message had been stored when it was received, and no tick had been late."""
    places = {job: Place(job, deaf) for job in world.jobs}
    copies = sorted(_stored(world), key=lambda copy: copy.at)
    tick = START
    for copy in copies:
        while tick <= copy.at:
            _tick(places.values(), tick)
            tick += MINUTE
        _hear(places, [copy])
    while tick <= until:
        _tick(places.values(), tick)
        tick += MINUTE
    return places


def _hear(places: dict[Job, Place], copies: Iterable[Copy]) -> None:
    for copy in copies:
        places[copy.word.job].hears(copy.word.run.hex, copy.word.status, copy.at)


def _tick(places: Iterable[Place], tick: datetime) -> None:
    for place in places:
        place.slots(tick)
        place.timeouts(tick)


def _stored(world: World) -> list[Copy]:
    return [copy for entry in world.history if isinstance(entry, BatchStored) for copy in entry.copies]


# --- the rows -------------------------------------------------------------------------------------------------------


@dataclass
class Rows:
    """What the tables hold in the end."""

    environments: dict[str, tuple[Any, ...]]
    checkins: dict[str, list[tuple[Any, ...]]]
    incidents: dict[str, list[tuple[Any, ...]]]
    clock: dict[str, Any]


ENVIRONMENTS_SQL = """
    SELECT m.slug || '/' || e.name, me.status, me.failure_streak, me.ok_streak, me.next_checkin_latest,
           (SELECT count(*) FROM incidents_issue i WHERE i.monitor_environment_id = me.id),
           (SELECT coalesce(sum(i.occurrence_count), 0) FROM incidents_issue i WHERE i.monitor_environment_id = me.id)
      FROM monitors_monitorenvironment me
      JOIN monitors_monitor m ON m.id = me.monitor_id JOIN monitors_environment e ON e.id = me.environment_id
"""
CHECKINS_SQL = """
    SELECT m.slug || '/' || e.name, c.status, c.guid, c.date_added, c.timeout_at, c.finished_status, c.expected_time
      FROM checkins_checkin c JOIN monitors_monitorenvironment me ON me.id = c.monitor_environment_id
      JOIN monitors_monitor m ON m.id = me.monitor_id JOIN monitors_environment e ON e.id = me.environment_id
     ORDER BY c.date_added, c.guid
"""
INCIDENTS_SQL = """
    SELECT m.slug || '/' || e.name, i.resolved_at IS NULL,
           i.occurrence_count,
           array(SELECT n.transition || CASE WHEN n.sent_at IS NULL THEN ' (not sent)' ELSE '' END
                   FROM incidents_notification n WHERE n.incident_id = i.id ORDER BY n.transition),
           array(SELECT m.idempotency_key FROM incidents_message m WHERE m.incident_id = i.id AND m.status = 'sent')
      FROM incidents_incident i JOIN monitors_monitorenvironment me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor m ON m.id = me.monitor_id JOIN monitors_environment e ON e.id = me.environment_id
     ORDER BY i.id
"""
CLOCK_SQL = """
    SELECT (SELECT min(at) FROM clocktasks_tick), (SELECT max(at) FROM clocktasks_tick),
           (SELECT count(*) FROM clocktasks_tick), (SELECT count(*) FROM clocktasks_tick WHERE finished_at IS NULL),
           (SELECT min(position) FROM clocktasks_shardclock), (SELECT max(position) FROM clocktasks_shardclock),
           (SELECT coalesce(sum(missed_count + timeout_count), 0) FROM clocktasks_tick),
           (SELECT count(*) FROM checkins_checkin WHERE status IN ('missed', 'timeout')),
           (SELECT array_agg(at - interval '1 minute') FROM clocktasks_tick WHERE NOT is_listened),
           (SELECT count(*) FROM checkins_processingerror WHERE kind <> 'CHECKIN_FINISHED'),
           (SELECT count(*) FROM checkins_waitingcheckin)
"""


def read_rows() -> Rows:
    """Read everything once."""
    with connection.cursor() as cursor:
        cursor.execute(ENVIRONMENTS_SQL)
        environments = {row[0]: row[1:] for row in cursor.fetchall()}
        checkins = defaultdict(list)
        cursor.execute(CHECKINS_SQL)
        for row in cursor.fetchall():
            checkins[row[0]].append(row[1:])
        incidents = defaultdict(list)
        cursor.execute(INCIDENTS_SQL)
        for row in cursor.fetchall():
            incidents[row[0]].append(row[1:])
        cursor.execute(CLOCK_SQL)
        names = ("first", "last", "ticks", "open", "behind", "ahead", "counted", "marked", "deaf", "errors", "waiting")
        clock = dict(zip(names, cursor.fetchone(), strict=True))
    return Rows(environments, checkins, incidents, clock)


def audit(world: World) -> list[str]:
    """Return sentences about what is not as it must be."""
    rows = read_rows()
    clock = rows.clock
    findings = _audit_clock(clock)
    if clock["last"] is None:
        return findings
    until = clock["last"]
    findings += _audit_acknowledged(world, rows)
    deaf = frozenset(clock["deaf"] or ())
    findings += _audit_listening(world, deaf, clock)
    in_time, in_commits = account_in_order_of_time(world, deaf, until), account_in_order_of_commits(world, deaf)
    for job in world.jobs:
        name = str(job)
        if in_time[job].served_until is None and name not in rows.environments:
            continue
        if name not in rows.environments:
            findings.append(f"P1: {name} was heard of and has no row")
            continue
        findings += _audit_place(name, in_time[job], in_commits[job], rows)
    findings += _audit_mails(world, rows)
    return findings


def _audit_clock(clock: dict[str, Any]) -> list[str]:
    findings = []
    if clock["last"] is None:
        return ["P4: the ledger is empty"]
    if clock["ticks"] != (clock["last"] - clock["first"]) // MINUTE + 1:
        findings.append(f"P4: {clock['ticks']} ticks from {clock['first']:%H:%M} to {clock['last']:%H:%M}")
    if clock["open"]:
        findings.append(f"P3: {clock['open']} ticks are not finished")
    if not clock["behind"] == clock["ahead"] == clock["last"]:
        stand = f"{clock['behind']:%H:%M} to {clock['ahead']:%H:%M}"
        findings.append(f"P4: clocks stand at {stand}, and not at {clock['last']:%H:%M}")
    if clock["counted"] != clock["marked"]:
        findings.append(f"P4: the ledger counts {clock['counted']} misses and timeouts, stored are {clock['marked']}")
    if clock["errors"] or clock["waiting"]:
        findings.append(f"{clock['errors']} processing errors, {clock['waiting']} check-ins that wait")
    return findings


def _audit_listening(world: World, deaf: frozenset[datetime], clock: dict[str, Any]) -> list[str]:
    """No minute counts as listened to in which nobody was there for longer than a restart takes."""
    findings = []
    minute = clock["first"] - MINUTE
    while minute < clock["last"]:
        second = timedelta(seconds=1)
        unheard = sum(not world.was_up(minute + number * second) for number in range(60)) * second
        if unheard > UNHEARD_MAX and minute not in deaf:
            findings.append(f"D2: {minute:%H:%M} counts as listened to, and nobody was there for {unheard}")
        minute += MINUTE
    return findings


def _audit_acknowledged(world: World, rows: Rows) -> list[str]:
    stored = {row[1].hex for place in rows.checkins.values() for row in place}
    lost = {copy.word.run.hex for copy in world.acknowledged} - stored
    findings = [f"P1: run {run[:4]} was acknowledged and is not stored" for run in sorted(lost)]
    kept = Counter(id(copy) for copy in _stored(world))
    findings += [f"P1: {copy.word.status} of {copy.word.run.hex[:4]} at {copy.at:%H:%M:%S} was acknowledged, and "
                 f"committed {kept[id(copy)]} times" for copy in world.acknowledged if kept[id(copy)] != 1]  # fmt: skip
    return findings


def _audit_place(name: str, in_time: Place, in_commits: Place, rows: Rows) -> list[str]:
    findings = []
    checkins = rows.checkins.get(name, [])
    judged = sorted((row[5], row[0]) for row in checkins if row[1].hex not in in_commits.runs)
    findings += _compare(f"P4: slots of {name} in the order of commits", sorted(in_commits.judged.items()), judged)
    told = [(row[0], row[1].hex, *row[2:5]) for row in checkins if row[1].hex in in_commits.runs]
    # What a word does to a run whose deadline passed unheard depends on which the clock or the word was faster.
    if not in_time.given_up_unheard | in_commits.given_up_unheard:
        findings += _compare(f"P2, P3: slots of {name}", sorted(in_time.judged.items()), judged)
        findings += _compare(f"P2, P3: runs of {name}", _runs(in_time), told)
    findings += _compare(f"P4: runs of {name}", _runs(in_commits), told)
    status, failures, oks, latest, issues, issue_occurrences = rows.environments[name]
    findings += _compare(
        f"P5: status and streaks of {name}",
        (in_commits.status, in_commits.streak("failed"), in_commits.streak("ok")),
        (status, failures, oks),
    )
    if in_commits.is_in_order and not in_time.given_up_unheard | in_commits.given_up_unheard:
        findings += _compare(
            f"P9: status, streaks, incidents and occurrences of {name}",
            (in_time.status, in_time.streak("failed"), in_time.streak("ok"), in_time.incidents, in_time.occurrences),
            (status, failures, oks, len(rows.incidents.get(name, [])), int(issue_occurrences)),
        )
    incidents = rows.incidents.get(name, [])
    occurrences = sum(row[1] for row in incidents)
    findings += _compare(
        f"P5: incidents, open ones, occurrences, issues of {name}",
        (in_commits.incidents, int(in_commits.is_failing), in_commits.occurrences, min(in_commits.incidents, 1)),
        (len(incidents), sum(row[0] for row in incidents), occurrences, issues),
    )
    findings += _compare(f"P5: occurrences of the issue of {name}", in_commits.occurrences, int(issue_occurrences))
    for is_open, _, notifications, _ in incidents:
        findings += _compare(
            f"P5: notifications of {name}", ["opened"] if is_open else ["opened", "resolved"], notifications
        )
    if latest is not None and latest <= rows.clock["last"]:
        findings.append(f"P3: {name} waits for {latest:%H:%M}, which is over")
    return findings


def _runs(place: Place) -> list[tuple[object, ...]]:
    runs = sorted(place.runs.values(), key=lambda run: (run.start, run.id))
    return [(run.status, run.id, run.start, run.deadline, run.finished) for run in runs]


def _audit_mails(world: World, rows: Rows) -> list[str]:
    keys = {key for incidents in rows.incidents.values() for row in incidents for key in row[3]}
    return [f"P5: mail {key} is about nothing" for key in set(world.mails) - keys] + [
        f"P5: notification {key} was never sent" for key in keys - set(world.mails)
    ]


def _compare(what: str, expected: object, actual: object) -> list[str]:
    return [] if expected == actual else [f"{what}: expected {_plain(expected)}, found {_plain(actual)}"]


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_plain(part) for part in value)}]"
    return str(value)[:12]
