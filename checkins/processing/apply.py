"""Applying a batch of check-in messages: one transaction, and statements that do not grow with the batch (shell).

resolve monitors (creating and updating those that bring a configuration) -> resolve environments (creating new ones)
-> lock the environments in id order -> decide each message in order with pure code -> write in bulk -> count failures
and oks, or defer them (`checkins.processing.counting`) -> store processing errors.
Source: docs/reference/behaviour.md, section 6.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
from django.conf import settings
from django.db import DatabaseError, transaction
from msgspec.structs import replace

from checkins.messages import (
    CheckInMessage,
    CheckInStatus,
    LogMessage,
    LossReport,
    Message,
    Outcome,
    ProblemKind,
    RefusedCheckIn,
    RunLog,
    Source,
)
from checkins.partitions import is_guid_index
from checkins.processing.budgets import Account, Budget, account, charge, exceeded, room
from checkins.processing.counting import count, count_deferred, defer, know_deadlines
from checkins.processing.endings import ending, measured_late
from checkins.processing.environments import is_named_end, lead_to_runs_being_deleted
from checkins.processing.finding import Hints, find_monitors
from checkins.processing.items import BatchItem, refuse_as_disabled
from checkins.processing.measuring import remember
from checkins.processing.ordering import causal_order
from checkins.processing.per_minute import SPARED_FACTOR, count_towards_limit, is_spared
from checkins.processing.problems import ProblemReport, record_loss_reports, record_problems
from checkins.processing.resolving import OvertakenError, lock_batch, resolve
from checkins.processing.rows import (
    insert_attempts,
    insert_checkins,
    insert_logs,
    update_checkins,
)
from checkins.processing.runs import Runs, know_rules_of_running, load_runs
from checkins.processing.transitions import (
    CheckInState,
    EarlierEnd,
    Verdict,
    decide_checkin,
    is_accepted_when_disabled,
)
from incidents.notifications.letters import log_tail
from monitors.expectation import is_behind
from monitors.hot_rows import LockedEnvironment, lock_environments, save_environments

LOG_TAIL_BYTES = 20_000
"""More than a mail quotes of a log (`incidents.notifications.letters`)."""
T = TypeVar("T")
Log = tuple[int, uuid.UUID | None, str, datetime, Source, RunLog]
DEADLOCK = "40P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
TRIES_MAX = 5
"""Two batches may bring the same new id at the same moment, or deadlock: the next try finds the other's rows."""


def receive(messages: Sequence[Message], *, now: datetime, applies_parked: bool = True) -> list[Outcome]:
    """Apply messages in order and return one outcome for each. Everything is committed when this returns (P1).

    `now` is when the batch is processed; every decision uses the time at which a message was received.
    """

    def transact() -> list[Outcome]:
        with transaction.atomic():
            return apply(messages, now=now, hints=Hints(), applies_parked=applies_parked)

    return retried(transact)


def retried(transact: Callable[[], T]) -> T:
    """Run a transaction, and repeat it while it conflicts with others."""
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            return transact()
        except (OvertakenError, DatabaseError) as error:
            if tries_left == 0 or not was_overtaken(error):
                raise
    raise AssertionError("the loop returns or raises")


def was_overtaken(error: Exception) -> bool:
    """Return whether another transaction conflicted, so that the batch may succeed at the next try.

    Rows are locked in one order. Only rows that do not exist yet can deadlock: two batches that create
    configurations, environments or check-ins under the same new names, in several statements each.
    """
    if isinstance(error, OvertakenError):
        return True
    diagnosis = getattr(error.__cause__, "diag", None)
    return diagnosis is not None and (is_guid_index(diagnosis.constraint_name) or diagnosis.sqlstate == DEADLOCK)


def apply(messages: Sequence[Message], *, now: datetime, hints: Hints, applies_parked: bool = True) -> list[Outcome]:
    """Apply messages within the caller's transaction, which `retried` runs; see `receive`.

    A caller with many batches passes `hints` from one to the next. A caller that searches for the failing message sets
    `applies_parked` to False: parked check-ins of the monitors that it creates are left for later.
    """
    outcomes = [Outcome() for _ in messages]
    items = []
    loss_reports = []
    for index in causal_order(messages):
        match messages[index]:
            case CheckInMessage() | LogMessage() as message:
                items.append(BatchItem(message, outcomes[index]))
            case LossReport() as report:
                loss_reports.append(report)
                outcomes[index].accepted = True
            case RefusedCheckIn():
                pass
    refused = []
    for sent, outcome in zip(messages, outcomes, strict=True):
        if isinstance(sent, (CheckInMessage, RefusedCheckIn)):
            outcome.problems.extend(sent.problems)
        if isinstance(sent, RefusedCheckIn):
            refused.append((sent, outcome))
    changes = resolve(items, now=now, hints=hints, applies_parked=applies_parked)
    environments = lock_batch(items, changes, hints)
    _decide_and_write(items, environments, now=now)
    record_loss_reports(loss_reports, now=now)
    _store_problems(refused, items, now=now)
    return outcomes


# --- check-ins ------------------------------------------------------------------------------------------------------


class _Ended(msgspec.Struct, frozen=True, gc=False):
    """The end of a run, from a message. `is_deferred`: the clock has to apply first what was due before it."""

    verdict: Verdict
    environment: LockedEnvironment
    run: CheckInState
    received_at: datetime
    is_deferred: bool


def _decide_and_write(items: Sequence[BatchItem], environments: dict[int, LockedEnvironment], *, now: datetime) -> None:
    """Decide what each message does to its run and its environment, and write all of it.

    1. Load the runs that messages may refer to, and what else the decisions need (no statement in the loop).
    2. For each message, in order: refuse it if its monitor is disabled (D23) or its minute is full (D25); keep a log;
       drop a message that is a repetition; else decide (`decide_checkin`), and note run, end, log and earlier end.
       An end is deferred if something of its environment is due before it (D29).
    3. Write runs, earlier ends and logs; count or defer the ends; count deferred ends whose time has come.
    4. Save the environments.
    """
    open_items = [item for item in items if item.environment_id is not None]
    runs = load_runs(open_items, environments)
    _lock_what_is_being_deleted(open_items, runs, environments)
    know_rules_of_running(runs, environments)
    if open_items:
        know_deadlines(environments.values(), until=max(item.message.received_at for item in open_items))
    ended: list[_Ended] = []
    earlier_ends: list[tuple[CheckInState, EarlierEnd]] = []
    reported_late: list[CheckInState] = []
    logs: list[tuple[BatchItem, Log]] = []
    new_ids = _random_ids(sum(item.message.check_in_id is None for item in open_items))
    early_tolerance = timedelta(seconds=settings.EARLY_CHECKIN_SECONDS)
    per_minute_max = settings.CHECKINS_PER_MINUTE
    for item in open_items:
        assert item.environment_id is not None
        environment = environments[item.environment_id]
        message, off_since = item.message, environment.off_since
        existing = runs.find(item)
        if off_since is not None and not is_accepted_when_disabled(message, existing):
            refuse_as_disabled(item)
            continue
        counted = count_towards_limit(
            environment.state,
            received_at=message.received_at,
            per_minute_max=per_minute_max,
            spared=is_spared(message, existing),
        )
        is_crowded = counted is None
        if counted is None:
            _refuse_for_the_limit(item, per_minute_max)
            if not isinstance(message, CheckInMessage) or message.status is not CheckInStatus.ERROR:
                continue
            if environment.is_maintained(message.received_at):
                continue  # It would not count, and so has no row to be folded into.
            counted = environment.state  # A failure is never hidden by volume (D39).
        if isinstance(message, LogMessage):
            environment.state = counted
            item.outcome.accepted = True
            item.outcome.guid = message.check_in_id if existing is None else existing.guid
            log = environment.id, item.outcome.guid, "", message.received_at, message.source, message.log
            logs.append((item, log))
            continue
        if existing is None and runs.was_received(environment.id, message):
            environment.state = counted
            item.outcome.accepted = True
            continue
        effect = decide_checkin(
            message,
            existing=existing,
            new_guid=message.check_in_id or next(new_ids),
            environment_id=environment.id,
            environment=counted,
            rules=environment.rules,
            early_tolerance=early_tolerance,
            off_since=off_since,
            was_off=environment.was_off,
            former=environment.former,
            windows=environment.windows,
        )
        ended_at = effect.ended_at or message.received_at
        is_too_soon = counted.has_deferred or is_behind(counted, ended_at)
        environment.state = effect.environment
        if effect.problem is not None:
            item.outcome.problems.append(effect.problem)
            continue
        item.outcome.accepted = True
        item.outcome.guid = message.check_in_id
        if effect.checkin is None:
            continue
        checkin = effect.checkin
        if existing is None and environment.former:
            checkin = replace(checkin, config_id=environment.rules_at(message.received_at)[0])
        if is_crowded and checkin.id is None and (newest := runs.newest_error(checkin)) is not None:
            checkin = replace(newest, folded_count=newest.folded_count + 1)
        elif is_too_soon and effect.verdict is not Verdict.NOTHING:
            checkin = replace(checkin, failed_at=None if existing is None else existing.failed_at)
        item.outcome.guid = checkin.guid
        runs.put(message.project_id, checkin)
        if effect.verdict is not Verdict.NOTHING:
            ended.append(_Ended(effect.verdict, environment, checkin, ended_at, is_too_soon))
            if is_too_soon:
                environment.state = replace(environment.state, has_deferred=True)
        elif checkin.status is CheckInStatus.OK and existing is not None and existing.duration_ms is None:
            reported_late.append(checkin)  # Its start, without which its duration was not known.
        if message.log is not None and not is_crowded:
            status, source = message.status.value, message.source
            logs.append((item, (environment.id, checkin.guid, status, message.received_at, source, message.log)))
        if effect.earlier_end is not None and not is_crowded:
            earlier_ends.append((checkin, effect.earlier_end))
    errors = {(log[0], log[1]): log[-1] for _, log in logs if log[2] == "error"}
    _write(runs, ended, earlier_ends, environments, errors)
    remember([measured_late(run) for run in reported_late])
    insert_logs(_within_budget(logs, now=now))


def _within_budget(logs: Sequence[tuple[BatchItem, Log]], *, now: datetime) -> Iterator[Log]:
    """Yield the logs that their keys can pay for (D38); their runs count in any case."""
    paying = [account(item.message.project_id, item.message.key_id, Budget.LOG_BYTES) for item, _ in logs]
    left = room({one for one in paying if one is not None}, now=now)
    amounts: dict[Account, int] = {}
    for (item, log), one in zip(logs, paying, strict=True):
        if one is not None:
            if amounts.get(one, 0) >= left[one]:
                what = f"the output of {item.message.slug!r} was not stored, its run was"
                item.outcome.problems.append(exceeded(Budget.LOG_BYTES, item.message.slug, what))
                continue
            amounts[one] = amounts.get(one, 0) + len(log[-1].body)
        yield log
    charge(amounts, now=now)


def _refuse_for_the_limit(item: BatchItem, per_minute_max: int) -> None:
    message = item.message
    item.refuse(
        ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED,
        "",
        "",
        f"environment {message.environment!r} of monitor {message.slug!r} sent more than {per_minute_max} check-ins in "
        f"one minute; for the rest of that minute only errors and the ends of known runs count, and above "
        f"{per_minute_max * SPARED_FACTOR} only errors.",
    )


def _random_ids(count: int) -> Iterator[uuid.UUID]:
    """Yield ids like `uuid.uuid4`, with one system call for all of them, in a fifth of the time."""
    random = bytearray(os.urandom(16 * count))
    random[6::16] = bytes(byte & 0x0F | 0x40 for byte in random[6::16])  # version 4
    random[8::16] = bytes(byte & 0x3F | 0x80 for byte in random[8::16])  # the variant of RFC 9562
    return (msgspec.convert(bytes(random[at : at + 16]), uuid.UUID) for at in range(0, len(random), 16))


def _lock_what_is_being_deleted(
    items: Sequence[BatchItem], runs: Runs, environments: dict[int, LockedEnvironment]
) -> None:
    """Lock deleted environments whose runs end now, although a new environment has their name (D23). Mostly none."""
    elsewhere = [
        (item, run)
        for item in items
        if is_named_end(item.message)
        and (run := runs.find(item)) is not None
        and run.environment_id != item.environment_id
    ]
    environments |= lock_environments(lead_to_runs_being_deleted(elsewhere) - environments.keys())


def _write(
    runs: Runs,
    ended: Sequence[_Ended],
    earlier_ends: Sequence[tuple[CheckInState, EarlierEnd]],
    environments: dict[int, LockedEnvironment],
    error_logs: Mapping[tuple[int, uuid.UUID | None], RunLog],
) -> None:
    ids = insert_checkins((environments[run.environment_id], run) for run in runs.new.values())
    update_checkins(runs.changed.values())

    def stored(run: CheckInState) -> int:
        return ids[run.environment_id, run.guid] if run.id is None else run.id

    insert_attempts((stored(run), word) for run, word in earlier_ends)
    endings = [
        (
            ending(
                one.environment,
                one.verdict,
                one.run,
                stored(one.run),
                one.received_at,
                log_tail=_tail(error_logs.get((one.environment.id, one.run.guid))) if error_logs else None,
            ),
            one.is_deferred,
        )
        for one in ended
    ]
    count([one for one, is_deferred in endings if not is_deferred])
    defer([one for one, is_deferred in endings if is_deferred])
    count_deferred(environments.values())
    save_environments(environments.values())


def _tail(log: RunLog | None) -> str | None:
    """Return the end of a log for a mail. The bytes may be no valid text."""
    return None if log is None else log_tail(log.body[-LOG_TAIL_BYTES:].decode("utf-8", "replace")) or None


# --- processing errors ----------------------------------------------------------------------------------------------


def _store_problems(
    refused: Sequence[tuple[RefusedCheckIn, Outcome]], items: Sequence[BatchItem], *, now: datetime
) -> None:
    """Store processing errors, with their monitor if it is known. Source: docs/reference/behaviour.md, section 15."""
    monitors = find_monitors({(message.project_id, message.slug) for message, _ in refused if message.slug})
    reports: list[tuple[CheckInMessage | LogMessage | RefusedCheckIn, int | None, Outcome]] = [
        (message, monitors.get((message.project_id, message.slug)), outcome) for message, outcome in refused
    ]
    reports += [
        (item.message, item.monitor.id if item.monitor else None, item.outcome)
        for item in items
        if item.outcome.problems
    ]
    record_problems(
        (
            ProblemReport(
                project_id=message.project_id,
                monitor_id=monitor_id,
                slug=message.slug,
                environment=message.environment,
                source=message.source,
                received_at=message.received_at,
                problem=problem,
                payload=message.payload,
                key_id=message.key_id,
            )
            for message, monitor_id, outcome in reports
            for problem in outcome.problems
        ),
        now=now,
    )
