"""What a check-in message does to its run and to its monitor environment (pure).

               in_progress                       ok / error
    (none) ------------------> in_progress -------------------> ok | error
      |                          |   ^  | in_progress: a heartbeat moves the deadline
      | ok / error               |   +--+
      +-----------> ok | error   +-- deadline --> timeout   (a late ok / error is recorded beside it, D8)
                       |
                       +-- error, then ok of the same id --> ok, the error is kept as an attempt (D16)

The clock makes `missed`, which accepts no message; `unknown` accepts messages as `in_progress` does.
Source: docs/reference/behaviour.md, sections 6.3, 6.4 and 7, with decisions D5-D9, D12, D13 and D16.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from checkins.messages import CheckInMessage, CheckInStatus, LogMessage, Problem, Source
from checkins.processing.refusals import finished, mismatch
from monitors.configuration import RUNTIME_MINUTES_MAX
from monitors.maintenance import MAINTAINED, Window, deadline_after, window_at
from monitors.spans import has_slot_come, longest_deadline, serve_slots, slot_of_run
from monitors.state import EnvironmentState, FormerRules, MonitorRules, WasOff

LIFE_MAX = timedelta(minutes=RUNTIME_MINUTES_MAX)
"""No message changes a run this long after its start, and no heartbeat moves its deadline further."""

KNOWN_AFTER_END = timedelta(days=1)
"""The id of a run stays known for at least this long after its end: a message may be sent again (D30)."""


class CheckInState(msgspec.Struct, frozen=True, gc=False):
    """One check-in, as in its row (see `checkins.models.CheckIn`); `id` is None until it is stored.

    Until then `config_id` is the configuration of its rules, if that is not the current one (D32).
    """

    id: int | None
    guid: uuid.UUID
    environment_id: int
    status: CheckInStatus
    date_added: datetime
    date_updated: datetime
    received_at: datetime
    source: Source
    date_in_progress: datetime | None = None
    expected_time: datetime | None = None
    timeout_at: datetime | None = None
    duration_ms: int | None = None
    trace_id: uuid.UUID | None = None
    exit_status: int | None = None
    repeat_key: uuid.UUID | None = None
    failed_at: datetime | None = None
    folded_count: int = 0
    unknown_because: str | None = None
    finished_status: CheckInStatus | None = None
    finished_at: datetime | None = None
    config_id: int | None = None


@dataclass(frozen=True, slots=True)
class EarlierEnd:
    """An end that a later end of the same run replaced (D16)."""

    status: CheckInStatus
    received_at: datetime
    duration_ms: int | None


class Verdict(StrEnum):
    """What the message means for the environment: the thresholds count `failed` and `ok`."""

    NOTHING = "nothing"
    FAILED = "failed"
    OK = "ok"


class Effect(msgspec.Struct, frozen=True, gc=False):
    """What to write: the check-in (None: unchanged) and the environment's state, and what to count.

    `ended_at` is when the run's end was received, if it was not received with this message.
    """

    environment: EnvironmentState
    checkin: CheckInState | None = None
    verdict: Verdict = Verdict.NOTHING
    earlier_end: EarlierEnd | None = None
    problem: Problem | None = None
    ended_at: datetime | None = None


def is_known(run: CheckInState, at: datetime) -> bool:
    """Return whether a run still owns its id: later, the id belongs to a new run (D30).

    It does for seven days after its start and for a day after its end. A run that never ended is given up after seven
    days at the latest.
    """
    if run.status in (CheckInStatus.OK, CheckInStatus.ERROR):
        ended_at = run.date_updated
    else:
        ended_at = run.finished_at or run.date_added + LIFE_MAX
    return at < max(run.date_added + LIFE_MAX, ended_at + KNOWN_AFTER_END)


class _Rules(NamedTuple):
    """The current rules of a monitor, its former ones back to the time of the message, and maintenance windows."""

    newest: MonitorRules
    former: Sequence[FormerRules]
    windows: Sequence[Window] = ()

    def judged_at(self, run: CheckInState) -> datetime | None:
        """Return when a run in progress is judged: at its deadline, or at the end of the maintenance window of that."""
        return None if run.timeout_at is None else deadline_after(self.windows, run.timeout_at)

    def is_over(self, run: CheckInState, at: datetime) -> bool:
        """Return whether the time that a run had is over."""
        judged_at = self.judged_at(run)
        return judged_at is not None and judged_at <= at


def decide_checkin(
    message: CheckInMessage,
    *,
    existing: CheckInState | None,
    new_guid: uuid.UUID,
    environment_id: int,
    environment: EnvironmentState,
    rules: MonitorRules,
    early_tolerance: timedelta,
    off_since: datetime | None = None,
    was_off: WasOff | None = None,
    former: Sequence[FormerRules] = (),
    windows: Sequence[Window] = (),
) -> Effect:
    """Apply a message to its run: `existing` as found by its id (or the newest running one), else a new one.

    `new_guid` is the id of the new run. `early_tolerance` is how long before a slot a run may begin to serve it (D12).
    `off_since`: the monitor is disabled since then, and accepts only the ends of known runs (D23); `was_off`: when it
    was last disabled. `rules` are the current ones, `former` the earlier ones: a message is judged by the rules that
    were in force when it was received (D32). In one of the maintenance `windows` an error is recorded and does not
    count; an ok does, since a job that works during maintenance works.
    """
    known = _Rules(rules, former, windows)
    if existing is not None:
        if existing.environment_id != environment_id:
            return Effect(environment, problem=mismatch(message))
        judged_at = known.judged_at(existing)
        if was_off is not None and judged_at is not None and was_off.covers(judged_at):
            existing = _unknown_if_overdue(existing, message, known)
        if off_since is not None:
            return _end_uncounted(message, existing, environment, known, off_since=off_since)
        if not _begins_anew(message, existing, environment, known, early_tolerance=early_tolerance):
            environment = _serve_by_overtaken_start(message, existing, environment, known, early_tolerance)
            return _continue_run(message, existing, environment, known)
    expected_time = slot_of_run(environment, rules, former, received_at=message.received_at, was_off=was_off)
    run = CheckInState(
        id=None,
        guid=new_guid,
        environment_id=environment_id,
        status=message.status,
        date_added=message.received_at,
        date_updated=message.received_at,
        received_at=message.received_at,
        source=message.source,
        expected_time=expected_time,
        duration_ms=message.duration_ms,
        trace_id=message.trace_id,
        exit_status=message.exit_status,
        repeat_key=message.repeat_key,
    )
    if message.status is CheckInStatus.IN_PROGRESS:
        run = replace(run, date_in_progress=message.received_at, timeout_at=_deadline(run, message, known))
    return _conclude(message, run, environment, known, opens_run=True, early_tolerance=early_tolerance)


def _end_uncounted(
    message: CheckInMessage,
    run: CheckInState,
    environment: EnvironmentState,
    rules: _Rules,
    *,
    off_since: datetime,
) -> Effect:
    """Store the end of a run of a disabled monitor, and count nothing (D23)."""
    judged_at = rules.judged_at(run)
    if judged_at is not None and off_since < judged_at:
        run = _unknown_if_overdue(run, message, rules)
    effect = _continue_run(message, run, environment, rules)
    ended = effect.checkin
    if ended is not None and effect.verdict is Verdict.FAILED:
        ended = replace(ended, failed_at=None)
    return Effect(environment, ended, earlier_end=effect.earlier_end, problem=effect.problem)


def _unknown_if_overdue(run: CheckInState, message: CheckInMessage, rules: _Rules) -> CheckInState:
    """Return the run as unknown if it fell due while its monitor was disabled and the clock has not marked it yet."""
    if not rules.is_over(run, message.received_at):
        return run
    status = run.finished_status or CheckInStatus.UNKNOWN
    return replace(run, status=status, timeout_at=None, finished_status=None, finished_at=None)


def is_accepted_when_disabled(message: CheckInMessage | LogMessage, existing: CheckInState | None) -> bool:
    """Return whether a disabled monitor accepts a message: only the end of a run that it knows (D23)."""
    is_last_word = isinstance(message, CheckInMessage) and message.status is not CheckInStatus.IN_PROGRESS
    return is_last_word and existing is not None


def _begins_anew(
    message: CheckInMessage,
    running: CheckInState,
    environment: EnvironmentState,
    rules: _Rules,
    *,
    early_tolerance: timedelta,
) -> bool:
    """Return whether a start without id begins a new run, and is no heartbeat of the newest running one (D22).

    The earlier run stays open until its own deadline: it may continue beside the new one, or have died silently.
    """
    return (
        message.check_in_id is None
        and message.status is CheckInStatus.IN_PROGRESS
        and has_slot_come(
            environment,
            rules.newest,
            rules.former,
            began_at=running.date_added,
            began_for=running.expected_time,
            at=message.received_at,
            early_tolerance=early_tolerance,
        )
    )


def _serve_by_overtaken_start(
    message: CheckInMessage,
    run: CheckInState,
    environment: EnvironmentState,
    rules: _Rules,
    early_tolerance: timedelta,
) -> EnvironmentState:
    """Return the state after a start that another node received before the run's end, and stored after it.

    The run stays dated by its end (behaviour, section 6.4), but it began in time for its slot: that is served (P2).
    """
    is_overtaken = message.status is CheckInStatus.IN_PROGRESS and run.date_in_progress is None
    if not is_overtaken or message.received_at >= run.date_added:
        return environment
    return serve_slots(
        environment, rules.newest, rules.former, received_at=message.received_at, early_tolerance=early_tolerance
    )


def _continue_run(message: CheckInMessage, run: CheckInState, environment: EnvironmentState, rules: _Rules) -> Effect:
    old, new = run.status, message.status
    if message.received_at >= run.date_added + LIFE_MAX:
        return Effect(environment, problem=finished(message, "it began 7 days or more before"))
    if rules.is_over(run, message.received_at):
        # A maximum runtime counts to the second (D24): the next tick finds it, whatever came after the deadline.
        if new is CheckInStatus.IN_PROGRESS:
            return Effect(environment, problem=finished(message, "its deadline has passed"))
        return _finish_late(message, run, environment)
    if old in (CheckInStatus.IN_PROGRESS, CheckInStatus.UNKNOWN):
        if new is CheckInStatus.IN_PROGRESS:
            run = replace(
                _repeated(run, message),
                status=new,
                date_in_progress=run.date_in_progress or message.received_at,
                timeout_at=_deadline(run, message, rules),
            )
            if run.finished_at is not None and not rules.is_over(run, run.finished_at):
                return _end_in_time(message, run, run.finished_at, environment, rules)
        else:
            run = replace(_ended(run, message), status=new, timeout_at=None, finished_status=None, finished_at=None)
        return _conclude(message, run, environment, rules)
    if old is CheckInStatus.TIMEOUT and new is not CheckInStatus.IN_PROGRESS:
        return _finish_late(message, run, environment)
    if old in (CheckInStatus.OK, CheckInStatus.ERROR) and new is CheckInStatus.IN_PROGRESS:
        # The end overtook the opening message, which now fills in the start and nothing else (D16).
        if run.date_in_progress is not None:
            return Effect(environment)
        return Effect(
            environment,
            replace(
                _ended(run, message),
                date_updated=run.date_updated,
                date_in_progress=message.received_at,
                unknown_because=run.unknown_because,
            ),
        )
    if old is CheckInStatus.ERROR:
        return _replace_end(message, run, environment, rules)
    if old is CheckInStatus.OK and new is old and _is_repetition(message, run):
        return Effect(environment)
    return Effect(environment, problem=finished(message, f"it ended as {old.value}"))


def _end_in_time(
    message: CheckInMessage, run: CheckInState, ended_at: datetime, environment: EnvironmentState, rules: _Rules
) -> Effect:
    """End a run with an end that was late until this heartbeat, which another node had received before, was stored."""
    status = run.finished_status
    assert status is not None, "it has a late end"
    run = replace(run, status=status, timeout_at=None, finished_status=None, finished_at=None, date_updated=ended_at)
    end = replace(message, status=status, received_at=ended_at)
    return replace(_conclude(end, run, environment, rules), ended_at=ended_at)


def _replace_end(message: CheckInMessage, run: CheckInState, environment: EnvironmentState, rules: _Rules) -> Effect:
    """Replace the end of a retried task: the later end counts, the earlier one is stored (D16).

    The failure was counted already (D7), unless it was received in a maintenance window.
    """
    if message.status is CheckInStatus.ERROR and _is_repetition(message, run):
        return Effect(environment)
    earlier = EarlierEnd(run.status, run.date_updated, run.duration_ms)
    if message.status is CheckInStatus.ERROR:
        if run.unknown_because is not None:
            return replace(_conclude(message, _repeated(run, message), environment, rules), earlier_end=earlier)
        run = _repeated(run, message)
        return Effect(_with_last_checkin(run, environment), run, earlier_end=earlier)
    run = replace(_ended(replace(run, duration_ms=None), message), status=CheckInStatus.OK)
    return replace(_conclude(message, run, environment, rules), earlier_end=earlier)


def _is_repetition(message: CheckInMessage, run: CheckInState) -> bool:
    """Return whether a repeated end is the same message once more: clients resend the same bytes."""
    return message.duration_ms in (None, run.duration_ms)


def _finish_late(message: CheckInMessage, run: CheckInState, environment: EnvironmentState) -> Effect:
    """Record the end of a timed-out run: it stays a timeout, and its end and duration are shown (D8).

    A later end replaces it as in a run that was in time (D16).
    """
    if run.finished_status is message.status and _is_repetition(message, run):
        return Effect(environment)
    if run.finished_status is CheckInStatus.OK:
        return Effect(environment, problem=finished(message, "it timed out and ended ok later"))
    earlier = None
    if run.finished_status is not None:
        assert run.finished_at is not None, "who ended did so at some time"
        earlier = EarlierEnd(run.finished_status, run.finished_at, run.duration_ms)
        run = replace(run, duration_ms=None)  # It continued: the duration of the earlier end is void.
    run = replace(_ended(run, message), finished_status=message.status, finished_at=message.received_at)
    return Effect(_with_last_checkin(run, environment), run, earlier_end=earlier)


def _conclude(
    message: CheckInMessage,
    run: CheckInState,
    environment: EnvironmentState,
    rules: _Rules,
    *,
    opens_run: bool = False,
    early_tolerance: timedelta = timedelta(0),
) -> Effect:
    """Derive the effect of the new status on the environment. Source: docs/reference/behaviour.md, section 7."""
    if opens_run:
        environment = serve_slots(
            environment,
            rules.newest,
            rules.former,
            received_at=message.received_at,
            early_tolerance=early_tolerance,
        )
    environment = _with_last_checkin(run, environment)
    if run.status is CheckInStatus.ERROR:
        if rules.windows and window_at(rules.windows, message.received_at) is not None:
            return Effect(environment, replace(run, unknown_because=MAINTAINED))
        return Effect(environment, replace(run, failed_at=message.received_at), Verdict.FAILED)
    if run.status is CheckInStatus.OK:
        return Effect(environment, run, Verdict.OK)
    judged_at = rules.judged_at(run)
    if judged_at is not None:
        environment = replace(environment, first_timeout_at=_earlier(environment.first_timeout_at, judged_at))
    return Effect(environment, run)


def _with_last_checkin(run: CheckInState, environment: EnvironmentState) -> EnvironmentState:
    return replace(environment, last_checkin=_later(environment.last_checkin, run.date_added))


def _repeated(run: CheckInState, message: CheckInMessage) -> CheckInState:
    """Apply a heartbeat or a repeated message: it may bring a duration, but never invents one (D8)."""
    return replace(
        run,
        date_updated=message.received_at,
        duration_ms=run.duration_ms if message.duration_ms is None else message.duration_ms,
        trace_id=run.trace_id or message.trace_id,
        exit_status=run.exit_status if message.exit_status is None else message.exit_status,
        repeat_key=message.repeat_key or run.repeat_key,
        unknown_because=None,
    )


def _ended(run: CheckInState, message: CheckInMessage) -> CheckInState:
    """Apply the end of a run. Without a reported duration, the duration is the time from its start to its end.

    Absolute, because the end may overtake the start. Source: docs/reference/behaviour.md, section 6.4.
    """
    run = _repeated(run, message)
    if run.duration_ms is not None:
        return run
    return replace(run, duration_ms=abs(message.received_at - run.date_added) // timedelta(milliseconds=1))


def _deadline(run: CheckInState, message: CheckInMessage, rules: _Rules) -> datetime:
    """Return the new deadline of a run that has just reported, to the second (D24).

    A report never brings the deadline forward: the maximum runtime may have been shortened meanwhile (D31), and
    messages may arrive out of order.
    """
    deadline = longest_deadline(
        rules.newest, rules.former, seen_at=message.received_at, latest=run.date_added + LIFE_MAX
    )
    return deadline if run.timeout_at is None else max(deadline, run.timeout_at)


def _earlier(known: datetime | None, at: datetime) -> datetime:
    return at if known is None or at < known else known


def _later(known: datetime | None, at: datetime) -> datetime:
    return at if known is None or at > known else known
