"""Delivery: sends the messages of the outbox, many at once, each with a time limit (shell).

    address -> claim some -> texts -> lines and lanes send -> record what became of them -> claim ...

Mails go over a few lines to the mail server (`mail_lines`), all else over lanes, one for each channel (`lanes`). All
rows are read and written here, in short transactions; none is open while a message is sent, and each records all
messages that are finished by then. A mail server that cannot be reached ends the mails of the run: the sweep tries a
few again in twenty seconds, and the others do not use up their attempts meanwhile. If many have waited long, one is
sent first; when the server has accepted it, the others are folded (`backlog`). A channel that fails has a breaker;
e-mail channels share what is known of the mail server (`mail_server`).
"""

import logging
import queue
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from incidents import metrics
from incidents.models import Message
from incidents.notifications import claims, mail_server
from incidents.notifications.acknowledged import address_acknowledged
from incidents.notifications.addressees import recipients
from incidents.notifications.addressing import ADDRESSED_MAX, address, address_again
from incidents.notifications.alerts import prepare, write_alerts
from incidents.notifications.attempts import next_attempt_in, wait_after
from incidents.notifications.backlog import fold_backlogs, fold_mails, mail_backlogs
from incidents.notifications.breaker import Result
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability, SendResult, SendResultKind
from incidents.notifications.channels.email import (
    HandoverError,
    RefusedError,
    UnreachableError,
    describe_error,
)
from incidents.notifications.claims import Attempt
from incidents.notifications.lanes import Lanes, WithdrawnError
from incidents.notifications.mail_lines import POLL_SECONDS, Done, Lines
from incidents.notifications.outbox import next_release
from incidents.notifications.routes import fingerprint

logger = logging.getLogger(__name__)

RUN_SECONDS_MAX = 20.0
"""The longest run: the worker can stop after that time, and the next run continues."""
CLAIMED_PER_LINE = 10
"""Mails claimed ahead. After a worker is killed, they are sent a lease later, or twice if they were sent already."""
_known_routing: list[tuple[object, ...]] = []


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run. `is_cut_short`: more messages may be due. `next_at`: when held notifications will be."""

    sent_count: int
    failed_count: int
    is_cut_short: bool
    next_at: datetime | None = None


def deliver(*, utcnow: Callable[[], datetime]) -> Run:
    """Send the due messages, until none is left that can be sent now, or the time is up.

    1. Address: turn new notifications into messages, by the routes.
    2. Give up messages that are too old, or whose claims all expired.
    3. Claim messages for lines (mails) and lanes (channels) that are free, and store their texts. Each claim is
       committed before anything is sent.
    4. Record messages whose text could not be written, and release the mails that a line left when it stopped.
    5. Wait briefly for results of lines and lanes, and record all that are there in short transactions: what was sent,
       what failed and when it is tried again, and what that says about channels and the mail server.
    6. Go on with 3 while something is on the way, or was claimed and there is time. The first mail that the server
       accepts after a backlog folds the others before more are claimed.
    7. Close the lines, and return when the next held or paced message is due.

    A worker may be killed at any point: what it had claimed is due again when the claims expire.
    """
    _address_all(now=utcnow())
    claims.give_up(now=utcnow())
    deadline = time.monotonic() + RUN_SECONDS_MAX
    done: Done = queue.SimpleQueue()
    lines = Lines(settings.EMAIL_CONNECTIONS, done, until=deadline)
    lanes = Lanes(done, utcnow, until=deadline)
    is_doubted = bool(mail_backlogs(now=utcnow()))
    sent = failed = 0
    try:
        while True:
            if is_doubted and lines.has_worked:
                fold_mails(now=utcnow())
                is_doubted = False
            claimed_count, failures = _claim(lines, lanes, is_doubted=is_doubted, utcnow=utcnow)
            failed += _record_failures(failures, now=utcnow())
            claims.release(lines.withdraw())
            if not len(lines) and not len(lanes):
                if not claimed_count or time.monotonic() >= deadline:
                    break
                continue
            good, bad = _collect(done, lines, lanes, now=utcnow())
            sent += good
            failed += bad
    finally:
        lines.close()
    return Run(sent, failed, is_cut_short=time.monotonic() >= deadline, next_at=_next_at(utcnow()))


def _next_at(now: datetime) -> datetime | None:
    """Return when something is due that waits for an instant now: what is held, or the rate of its channel."""
    return min((at for at in (next_release(now), claims.next_paced(now)) if at is not None), default=None)


def _address_all(*, now: datetime) -> None:
    default = recipients()
    while (count := address(default, now=now)) >= ADDRESSED_MAX:
        claims.look_again()
    if count >= claims.MANY:
        claims.look_again()
    while address_acknowledged(now=now) >= ADDRESSED_MAX:
        pass
    routing = fingerprint(default)
    if _known_routing != [routing]:
        address_again(default, now=now)
        _known_routing[:] = [routing]


def _claim(
    lines: Lines, lanes: Lanes, *, is_doubted: bool, utcnow: Callable[[], datetime]
) -> tuple[int, list[tuple[Message, Exception]]]:
    """Claim messages for free lines and lanes; returns how many, and those that could not be written.

    `is_doubted`: whether the mail server works is not known, so one mail is tried.
    """
    # Claim while half of them are still to be sent, so that no line waits for the next mail.
    half = 0 if is_doubted else CLAIMED_PER_LINE * settings.EMAIL_CONNECTIONS // 2
    mails: list[Message] = []
    if not lines.is_stopped and len(lines) <= half:
        mails = claims.claim_mails(limit=max(half, 1), now=utcnow())
    _, bad = write_alerts(mails)
    refused = {message.id for message, _ in bad}
    lines.give([message for message in mails if message.id not in refused])
    claimed = len(mails)
    if lanes.takes_more():
        fold_backlogs(now=utcnow())
        messages = claims.claim_for_lanes(channels=claims.CHANNELS_MAX - lanes.channel_count, now=utcnow())
        sendings, unwritten = prepare(messages)
        lanes.give(sendings)
        bad += unwritten
        claimed += len(messages)
    return claimed, bad


def _collect(done: Done, lines: Lines, lanes: Lanes, *, now: datetime) -> tuple[int, int]:
    """Wait briefly for results and record them; returns how many were sent and how many failed."""
    lines.cut_late()
    results = []
    try:
        results.append(done.get(timeout=min(lines.wait_max(), POLL_SECONDS)))
        while True:
            results.append(done.get_nowait())
    except queue.Empty:
        pass
    for message, _ in results:
        (lines if message.is_mail else lanes).finished(message)
    claims.release([message for message, result in results if isinstance(result, WithdrawnError)])
    outcomes = [(message, result) for message, result in results if isinstance(result, SendResult)]
    for message, outcome in outcomes:
        message.external_ref, message.answer = outcome.external_ref, outcome.excerpt
    sent = [message for message, result in results if result is None or _is_delivered(result)]
    if sent:
        claims.record_sent(sent, now=now)
        metrics.mails.labels("sent").inc(len(sent))
    errors = [(message, result) for message, result in results if isinstance(result, Exception)]
    unreachable = [error for _, error in errors if isinstance(error, UnreachableError)]
    failed = _record_failures([one for one in errors if not isinstance(one[1], WithdrawnError)], now=now)
    failed += _record_outcomes([one for one in outcomes if not _is_delivered(one[1])], now=now)
    accepted = [message.channel_id for message, result in results if result is None]
    if accepted:
        mail_server.record_reached({id_ for id_ in accepted if id_ is not None}, now=now)
    elif unreachable:
        mail_server.record_unreachable(describe_error(unreachable[-1]), now=now)
    for channel_id, attempts in _attempts(outcomes).items():
        claims.record_attempts(channel_id, attempts, now=now)
    return len(sent), failed


def _is_delivered(result: object) -> bool:
    return isinstance(result, SendResult) and result.kind is SendResultKind.DELIVERED


def _record_failures(failures: Iterable[tuple[Message, Exception]], *, now: datetime) -> int:
    """Record mails that failed, and messages that could not be written; returns how many."""
    count = 0
    for message, error in failures:
        reason = describe_error(error)
        wait = next_attempt_in(
            message.attempt_count,
            age=now - message.created_at,
            key=message.idempotency_key,
            is_refused=isinstance(error, RefusedError),
        )
        _fail(message, reason, wait, now=now, is_in_doubt=isinstance(error, HandoverError))
        count += 1
    return count


def _record_outcomes(outcomes: Iterable[tuple[Message, SendResult]], *, now: datetime) -> int:
    """Record messages that a channel did not accept; returns how many."""
    count = 0
    for message, outcome in outcomes:
        assert message.channel is not None, "an outcome is a channel's"
        wait = wait_after(
            outcome.kind,
            attempt_count=message.attempt_count,
            age=now - message.created_at,
            key=message.idempotency_key,
            retry_after=outcome.retry_after,
            is_plain=message.is_plain,
            was_in_doubt=message.is_in_doubt,
            repeats_are_seen=Capability.DEDUP not in SENDERS[message.channel.kind].CAN,
        )
        _fail(message, outcome.excerpt, wait, now=now, outcome=outcome.kind)
        count += 1
    return count


def _fail(
    message: Message,
    reason: str,
    wait: timedelta | None,
    *,
    now: datetime,
    outcome: SendResultKind | None = None,
    is_in_doubt: bool = False,
) -> None:
    metrics.mails.labels("failed").inc()
    logger.warning("message %s to %s was not sent: %s", message.id, message.recipient, reason)
    claims.record_failed(
        message,
        error=reason,
        wait=wait,
        now=now,
        is_plain=outcome is SendResultKind.MESSAGE_REFUSED,
        is_in_doubt=is_in_doubt or outcome is SendResultKind.UNKNOWN,
    )


def _attempts(outcomes: Iterable[tuple[Message, SendResult]]) -> dict[int, list[Attempt]]:
    """Return what the outcomes say about each channel, in order."""
    found: dict[int, list[Attempt]] = {}
    for message, outcome in outcomes:
        assert message.channel_id is not None, "an outcome is a channel's"
        attempt = Attempt(_RESULTS[outcome.kind], outcome.slows, outcome.retry_after, outcome.excerpt)
        found.setdefault(message.channel_id, []).append(attempt)
    return found


_RESULTS = {
    SendResultKind.DELIVERED: Result.WORKS,
    SendResultKind.MESSAGE_REFUSED: Result.WORKS,
    SendResultKind.TRANSIENT: Result.FAILS,
    SendResultKind.UNKNOWN: Result.FAILS,
    SendResultKind.CHANNEL_REFUSED: Result.REFUSES,
    SendResultKind.CONFIGURATION: Result.REFUSES,
}
