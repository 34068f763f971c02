"""What must hold after a drill of the clock: the ledger, and all that was judged, against what jobs did by their plans.

Expectations come from `drills.oracle`, which knows only when messages were received: each acknowledged one is looked
up, and must have been received while it was on its way. What became of it, and of silence, is compared with that.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from drills.clock_facts import Facts
from drills.jobs import Plan
from drills.load import Sent
from drills.oracle.due import Due, KnownRun, Ledger, Message, due_runs, due_slots
from drills.oracle.rules import MINUTE
from drills.oracle.verdicts import Event, Story, incidents
from incidents.thinning import OCCURRENCES_FIRST, OCCURRENCES_NEWEST

FINDINGS_SHOWN_MAX = 10
STEP = timedelta(seconds=90)
"""By how much the clock of one process may be wrong, hence also the times that it writes down."""
DEAF_MAX = timedelta(seconds=10)
"""Of a minute so much may go unheard before it counts as deaf."""


class Silence(NamedTuple):
    """A time without a web by the installation's clock: certainly from `gone` to `back`, perhaps from `since`."""

    since: datetime
    gone: datetime
    back: datetime
    until: datetime


@dataclass
class Account:
    """The figures, and a sentence for each of the first things that are not as they must be."""

    expected: int = 0
    found: int = 0
    lost: int = 0
    doubled: int = 0
    false: int = 0
    wrong: int = 0
    checks: int = 0
    ticks: int = 0
    deaf: int = 0
    acknowledged: int = 0
    misses: int = 0
    timeouts: int = 0
    unknown: int = 0
    incidents: int = 0
    issues: int = 0
    occurrences: int = 0
    notifications: int = 0
    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def check(self, is_right: bool, figure: str, sentence: str) -> bool:
        """Count a check, and something lost, doubled, false or wrong if it fails; returns whether it holds."""
        self.checks += 1
        if not is_right:
            setattr(self, figure, getattr(self, figure) + 1)
            if len(self.findings[figure]) < FINDINGS_SHOWN_MAX:
                self.findings[figure].append(sentence)
        return is_right

    def expect(self, is_there: bool, sentence: str) -> bool:
        """Count something that has to be there, as found or lost."""
        self.expected += 1
        self.found += is_there
        return self.check(is_there, "lost", sentence)

    @property
    def is_clean(self) -> bool:
        """Whether everything was there exactly once, and nothing else."""
        return not (self.lost or self.doubled or self.false or self.wrong)


def audit_clock(
    facts: Facts,
    jobs: Sequence[tuple[Plan, Sequence[Sent]]],
    *,
    silences: Sequence[Silence],
    wrong_times: Sequence[tuple[datetime, datetime]] = (),
    is_told: bool = True,
    nodes: int = 1,
) -> Account:
    """Compare what was sent with what is stored. The clock must have come to rest.

    In `wrong_times` the clock of the web was stepped: what was received then is misdated, and what fell due around it
    is not compared, only that it is not there twice. `is_told`: notifications are written. With several
    nodes the end of a run may be stored before its beginning, which waits in a spool: then the run is dated by its end.
    """
    account = Account()
    ledger = _audit_ledger(account, facts, silences, wrong_times)
    for plan, sent in jobs:
        job = _Job(account, facts, plan, sent, ledger, wrong_times, nodes)
        job.audit()
        job.audit_incidents(is_told=is_told)
    _audit_agreement(account, facts)
    account.acknowledged = sum(one.answered_at is not None for _, sent in jobs for one in sent)
    account.misses, account.timeouts, account.unknown = (
        sum(row.status == status for row in facts["checkins"]) for status in ("missed", "timeout", "unknown")
    )
    for name in ("incidents", "issues", "occurrences", "notifications"):
        setattr(account, name, len(facts[name]))
    return account


# --- the ledger ---


def _audit_ledger(
    account: Account,
    facts: Facts,
    silences: Sequence[Silence],
    wrong_times: Sequence[tuple[datetime, datetime]],
) -> Ledger:
    """One tick a minute, all of them finished, what they count is there, and deaf exactly when there was no web."""
    ticks = facts["ticks"]
    assert ticks, "the clock has ticked"
    account.ticks = len(ticks)
    for before, tick in itertools.pairwise(ticks):
        account.check(tick.at - before.at == MINUTE, "wrong", f"the ledger goes from {before.at} to {tick.at}")
    for tick in ticks:
        account.check(tick.finished_at is not None, "wrong", f"the tick of {tick.at} is not finished")
    until = ticks[-1].at
    positions = [row.position for row in facts["positions"]]
    account.check(positions == [until], "wrong", f"shards stand at {positions}, the ledger at {until}")
    deaf = frozenset(tick.at for tick in ticks if not getattr(tick, "is_listened", True))
    account.deaf = len(deaf)
    if ticks[0]._fields.count("is_listened"):
        for tick in ticks[1:]:
            if not _touches(wrong_times, tick.at - 2 * MINUTE - STEP, tick.at + MINUTE + STEP):
                _audit_coverage(account, tick.at, tick.at in deaf, silences)
    _audit_counts(account, facts)
    return Ledger(until, deaf)


def _audit_coverage(account: Account, tick: datetime, is_deaf: bool, silences: Sequence[Silence]) -> None:
    since = tick - MINUTE
    perhaps = sum((_overlap(one.since, one.until, since, tick) for one in silences), timedelta(0))
    surely = sum((_overlap(one.gone, one.back, since, tick) for one in silences), timedelta(0))
    if is_deaf:
        account.check(
            perhaps >= DEAF_MAX / 2, "false", f"the minute to {tick} is deaf, but the web was away for {perhaps} only"
        )
    else:
        account.check(
            surely <= DEAF_MAX * 2, "wrong", f"the minute to {tick} was listened to, but the web was away for {surely}"
        )


def _overlap(since: datetime, until: datetime, start: datetime, end: datetime) -> timedelta:
    return max(min(until, end) - max(since, start), timedelta(0))


def _touches(times: Iterable[tuple[datetime, datetime]], since: datetime, until: datetime) -> bool:
    return any(start <= until and since <= end for start, end in times)


def _audit_counts(account: Account, facts: Facts) -> None:
    """What the ledger says was marked is what was marked."""
    missed = Counter(row.received_at for row in facts["checkins"] if row.status == "missed")
    for tick in facts["ticks"]:
        account.check(
            tick.missed_count == missed[tick.at],
            "wrong",
            f"the tick of {tick.at} counts {tick.missed_count} misses of {missed[tick.at]}",
        )
    for kind, status in (("missed", "missed"), ("timeout", "timeout")):
        marked = sum(row.marked for row in facts["applied"] if row.kind == kind)
        rows = sum(row.status == status for row in facts["checkins"])
        counted = sum(getattr(tick, f"{kind}_count") for tick in facts["ticks"])
        account.check(
            marked == rows == counted,
            "wrong",
            f"{rows} check-ins are {status}, {marked} were marked so, and the ledger counts {counted}",
        )


# --- one job ---


@dataclass
class _Job:
    account: Account
    facts: Facts
    plan: Plan
    sent: Sequence[Sent]
    ledger: Ledger
    wrong_times: Sequence[tuple[datetime, datetime]]
    nodes: int = 1

    def __post_init__(self) -> None:
        (self.environment,) = [row for row in self.facts["environments"] if row.slug == self.plan.slug]
        self.rows = [row for row in self.facts["checkins"] if row.environment == self.environment.id]
        self.heard = {row.guid: row for row in self.rows if row.source != "clock"}
        self.is_exact = not self.wrong_times
        self.finished = {tick.at: tick.finished_at or tick.at for tick in self.facts["ticks"]}

    def audit(self) -> None:
        """Compare what the job said, what it did not say, and the runs that it left open."""
        messages, runs = self._what_was_heard()
        first_at = min(message.at for message in messages)
        self._compare_slots({due.at: due for due in due_slots(self.plan.rules, first_at, messages, self.ledger)})
        self._compare_runs({due.guid: due for due in due_runs(self.plan.rules, runs, self.ledger)})

    def _what_was_heard(self) -> tuple[list[Message], list[KnownRun]]:
        """Look up every acknowledged message; return what began runs, and the runs that said that they began."""
        runs: dict[Any, KnownRun] = {}
        told = {one.guid for one in self.sent}
        # One was said to make the monitor, before the job began.
        others = [row for row in self.heard.values() if row.guid not in told]
        messages = [Message(row.date_added, row.date_added) for row in others]
        self.account.check(len(messages) == 1, "false", f"{self.plan.slug}: {len(messages) - 1} nobody sent")
        self.account.check(
            len(self.heard) == sum(row.source != "clock" for row in self.rows), "doubled", f"{self.plan.slug}: an id"
        )
        for one in self.sent:
            answered_at = one.answered_at
            if not self.account.check(answered_at is not None, "wrong", f"{one} was never acknowledged"):
                continue
            assert answered_at is not None, "just checked"
            row = self.heard.get(one.guid)
            is_end = one.guid in runs
            is_kept = row is not None and (
                one.status == "in_progress" or one.status in (row.status, row.finished_status)
            )
            if not self.account.expect(is_kept, f"{self.plan.slug}: {one} is {row}"):
                continue
            assert row is not None, "just checked"
            at = (row.finished_at or row.date_updated) if is_end else row.date_added
            again = answered_at if one.tries > 1 and one.status == "in_progress" else at
            if not is_end and self._is_dated_by_its_end(one, at):
                messages.append(Message(one.sent_at, at))
                runs[one.guid] = KnownRun(str(one.guid), messages[-1], at, row.status)
                continue
            self.account.check(
                one.sent_at <= at <= answered_at or self._is_excused(at, answered_at),
                "wrong",
                f"{self.plan.slug}: {one} was received at {at}",
            )
            if is_end:  # It serves no slot.
                runs[one.guid] = runs[one.guid]._replace(ended_at=at, ended_as=one.status)
                continue
            message = Message(at, max(at, again))
            messages.append(message)
            if one.status == "in_progress":
                runs[one.guid] = KnownRun(str(one.guid), message, None, None)
        return sorted(messages), list(runs.values())

    def _is_dated_by_its_end(self, began: Sent, at: datetime) -> bool:
        ends = [one for one in self.sent if one.guid == began.guid and one is not began and one.answered_at is not None]
        return self.nodes > 1 and any(one.sent_at <= at <= (one.answered_at or at) for one in ends)

    def _is_excused(self, since: datetime, until: datetime) -> bool:
        return _touches(self.wrong_times, since - STEP - MINUTE, until + STEP + MINUTE)

    def _compare_slots(self, due: Mapping[datetime, Due]) -> None:
        made: dict[datetime, list[Any]] = defaultdict(list)
        for row in self.rows:
            if row.source == "clock":
                made[row.date_added].append(row)
        for slot, rows in made.items():
            self.account.check(len(rows) == 1, "doubled", f"{self.plan.slug}: {rows}")
            if not self._is_excused(slot, slot + self.plan.margin * MINUTE):
                self.account.check(slot in due, "false", f"{self.plan} at {slot}: {rows[0]}")
        for slot, one in due.items():
            if self._is_excused(slot, max(one.ticks)):
                continue
            row = made[slot][0] if slot in made else None
            if self._compare(one, row and row.status, row) and row is not None and row.status == "missed":
                self.account.check(
                    row.received_at in one.ticks, "wrong", f"{self.plan.slug}: {row} should be found at {one.ticks}"
                )
                self._check_is_counted(row)

    def _compare_runs(self, due: Mapping[str | None, Due]) -> None:
        for row in self.heard.values():
            one = due.get(str(row.guid))
            if self._is_excused(row.date_added, row.date_added + (self.plan.runtime + 1) * MINUTE):
                continue
            if one is None:
                is_in_time = row.status not in ("timeout", "unknown")
                self.account.check(is_in_time, "false", f"{self.plan} ended in time: {row}")
                continue
            if "unknown" in one.outcomes and row.status != "unknown":
                # It ended when the clock was late to say that it is unknown: when that counted, nobody can see.
                self.is_exact = False
            outcome = None if row.status == "in_progress" or None in one.outcomes else row.status
            is_right = self._compare(one, row.status if row.status in one.outcomes else outcome, row)
            if is_right and row.status == "timeout":
                self._check_is_counted(row)
                self.account.check(
                    row.failed_at is None or row.failed_at in one.ticks,
                    "wrong",
                    f"{self.plan.slug}: {row} should be found at {one.ticks}",
                )

    def _compare(self, due: Due, outcome: str | None, row: Any) -> bool:
        """Whether something that fell due became what it must be."""
        if outcome is None:
            return None in due.outcomes or self.account.expect(False, f"{self.plan}: {due} is {row}")
        self.account.expected += 1
        is_right = outcome in due.outcomes
        self.account.found += is_right
        figure = "lost" if outcome == "unknown" else "false"
        return self.account.check(is_right, figure, f"{self.plan}: {due} is {row}")

    def _check_is_counted(self, row: Any) -> None:
        """What the clock finds counts at its tick, whatever is known by then (D29)."""
        self.account.check(row.failed_at is not None, "lost", f"{self.plan.slug}: {row} does not count as a failure")

    # --- its incidents ---

    def audit_incidents(self, *, is_told: bool) -> None:
        """Compare incidents, occurrences, the issue and notifications with the failures and oks that are stored."""
        stored = [row for row in self.facts["incidents"] if row.environment == self.environment.id]
        occurrences: dict[int, list[int]] = defaultdict(list)
        for occurrence in self.facts["occurrences"]:
            occurrences[occurrence.incident_id].append(occurrence.checkin_id)
        told = Counter((row.incident_id, row.transition) for row in self.facts["notifications"])
        if self.is_exact:
            stories = incidents(self._events(), self.plan.failure_threshold, self.plan.recovery_threshold)
            for story in stories[len(stored) :]:
                self.account.expect(False, f"{self.plan}: no incident for {story}")
            for row in stored[len(stories) :]:
                self.account.check(False, "false", f"{self.plan}: {row} should not be")
            for row, story in zip(stored, stories, strict=False):
                self._compare_incident(row, story, occurrences[row.id])
        shown = 0
        for row in stored:
            ids = occurrences[row.id]
            self.account.check(len(ids) == len(set(ids)), "doubled", f"{self.plan.slug}: occurrences of {row}: {ids}")
            shown += row.occurrence_count
            for transition, is_due in (("opened", True), ("resolved", row.resolved_at is not None)):
                times = told[row.id, transition]
                if is_due and is_told and not self.environment.is_muted:
                    self.account.expect(times >= 1, f"{self.plan.slug}: nobody was told that {row} {transition}")
                    self.account.check(times <= 1, "doubled", f"{self.plan.slug}: told {times} times: {row}")
                else:
                    self.account.check(times == 0, "false", f"{self.plan.slug}: told {times} times: {row}")
        self._audit_issue(len(stored), shown)

    def _events(self) -> Iterable[Event]:
        order = {"missed": 0, "timeout": 1, "error": 2}
        for row in self.rows:
            if row.status == "ok":
                yield Event(row.date_updated, 3, "ok", row.id, row.date_added)
            elif row.failed_at is not None:
                yield Event(row.failed_at, order[row.status], row.status, row.id, row.date_added)

    def _compare_incident(self, row: Any, story: Story, occurrences: Sequence[int]) -> None:
        account, slug = self.account, self.plan.slug
        failures = {event.checkin for event in story.failures}
        resolved_by = None if story.resolved_by is None else story.resolved_by.checkin
        account.expect(row.resolving_checkin_id == resolved_by, f"{slug}: {row} should be {story}")
        # With errors among them the order may be another: the clock may have come to a miss after a later error.
        by_clock = all(event.kind != "error" for event in story.failures)
        times = {story.opened_by.at} if by_clock else {event.at for event in story.failures}
        account.check(row.opened_at in times, "wrong", f"{slug}: {row} should have been opened at {times}")
        expected = set() if self.environment.is_muted else failures
        account.expected += len(expected)
        # D42: of many, the first and the newest are kept.
        thinned_out = max(row.occurrence_count - OCCURRENCES_FIRST - OCCURRENCES_NEWEST, 0)
        account.found += len(expected & set(occurrences)) + thinned_out
        missing = len(expected - set(occurrences)) - thinned_out
        account.check(missing == 0, "lost", f"{slug}: {row} has {occurrences}, not {expected}")
        account.check(not set(occurrences) - expected, "false", f"{slug}: {row} has {occurrences}, not {expected}")

    def _audit_issue(self, incident_count: int, shown: int) -> None:
        issues = [row for row in self.facts["issues"] if row.environment == self.environment.id]
        is_due = incident_count > 0 and not self.environment.is_muted
        if is_due:
            self.account.expect(len(issues) >= 1, f"{self.plan.slug} has {incident_count} incidents and no issue")
        self.account.check(len(issues) <= is_due, "false", f"{self.plan.slug} has {issues}")
        for issue in issues[:is_due]:
            status = "unresolved" if self.environment.status == "error" else "resolved"
            seen = (issue.occurrence_count, issue.regression_count, issue.status)
            self.account.check(
                seen == (shown, incident_count - 1, status),
                "wrong",
                f"{self.plan.slug}: {issue} with {incident_count} incidents, {shown} occurrences and {status}",
            )


def _audit_agreement(account: Account, facts: Facts) -> None:
    """An environment is in error exactly while it has one open incident (D6); what is to be told was told."""
    incidents_open = Counter(row.environment for row in facts["incidents"] if row.resolved_at is None)
    for environment in facts["environments"]:
        account.check(
            incidents_open[environment.id] == (environment.status == "error"),
            "wrong",
            f"{environment} has {incidents_open[environment.id]} open incidents",
        )
    in_occurrences = Counter(row.checkin_id for row in facts["occurrences"])
    for checkin, count in in_occurrences.items():
        account.check(count == 1, "doubled", f"check-in {checkin} has {count} occurrences")
    for row in facts["notifications"]:
        account.check(row.is_told, "lost", f"{row} was not sent")
