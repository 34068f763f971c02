"""The ledger: one row for every minute, with the volume received in it and the decision about it (shell).

A minute is written when all check-ins received in it are stored. Its row records whether check-ins could be received
(D2), how many messages came, and the decision about that volume (D3, D4). Later it also counts what the minute marked.
Times in which nothing could be received, or far too little was, are one clock incident each
(`clocktasks.clock_incidents`).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction

from checkins.watermarks import listening_spans, lost_spans, next_listening, volumes
from clocktasks.clock import MINUTE, TaskKind, whole_minute
from clocktasks.clock_incidents import summarise_incidents, update_incidents
from clocktasks.models import ClockIncident, ShardClock
from clocktasks.volume import (
    VolumeClass,
    VolumeDecision,
    VolumeRules,
    classify,
    compared_minutes,
    decide,
    next_decisions,
)
from incidents.notifications.outbox import release_ticks
from lib.sql import fetch_rows, insert_rows
from monitors.coverage import SUMMARISED_AFTER, DeafSpan, deaf_minutes
from monitors.shard_count import hold_shard_count, shard_count

logger = logging.getLogger(__name__)

LEDGER_LOCK = 7_014_010_001
"""Advisory lock of the writer of the ledger, until the end of its transaction: each decision needs the one before."""


STEP_MINUTES = 1440
"""Minutes written in one transaction, which takes about a second however far behind the clock is. PostgreSQL ends a
transaction after 30 s, so a whole year in one transaction would never finish."""

FINISHED_MAX = 5_000
"""Ticks marked as finished in one statement."""


class RecentTick(NamedTuple):
    """The part of a tick in the ledger that decisions about the next ticks need."""

    at: datetime
    volume_class: VolumeClass
    decision: VolumeDecision
    is_decided: bool
    is_listened: bool


@dataclass(frozen=True, slots=True)
class Received:
    """What was received in a minute: its volume (None: nothing could be), the class of that, and the deviation.

    `covers_from` is set if it stands for several minutes, or nothing could be received for a long time: see `Tick`.
    """

    volume: int | None
    volume_class: VolumeClass
    deviation_percent: float | None
    covers_from: datetime | None = None


def write_ticks(
    until: datetime, *, now: datetime, decide_as: Callable[[datetime], VolumeDecision] | None = None
) -> None:
    """Write ticks for all minutes after the last one up to `until`, and the clocks of shards that have none.

    The first tick ever is `until`. Each `STEP_MINUTES` are one transaction; an interrupted call is resumed by the next.
    `decide_as` replaces the decisions about volume: for stories.
    """
    # Most callers find the minute written, and need not wait for each other.
    while not fetch_rows("SELECT FROM clocktasks_tick WHERE at >= %s LIMIT 1", [until]):
        _write_step(until, now=now, decide_as=decide_as)


@transaction.atomic
def _write_step(
    until: datetime, *, now: datetime, decide_as: Callable[[datetime], VolumeDecision] | None = None
) -> None:
    fetch_rows("SELECT pg_advisory_xact_lock(%s)", [LEDGER_LOCK])
    rules: VolumeRules = settings.VOLUME_RULES
    recent = _recent_ticks(rules.decision_window)
    first = until if not recent else recent[-1].at + MINUTE
    if first > until:
        return
    received = _received_between(first - MINUTE, until - MINUTE, rules, deaf_since=_deaf_since(recent), now=now)
    decisions = {tick.at: tick.decision for tick in recent}
    classes = [tick.volume_class for tick in reversed(recent)]
    pending = [tick.at for tick in recent if not tick.is_decided]
    settled: dict[datetime, VolumeDecision] = {}
    previous = recent[-1].decision if recent else VolumeDecision.NORMAL
    for minute, what in received.items():
        tick = minute + MINUTE
        classes = [what.volume_class, *classes[: rules.decision_window - 1]]
        previous = decide(previous, classes, rules=rules) if decide_as is None else decide_as(tick)
        decisions[tick] = previous
        final = next_decisions(pending, tick, previous, rules=rules)
        settled |= final
        pending = [at for at in (*pending, tick) if at not in final]
    decisions |= settled
    _insert_ticks(received, decisions, settled, now=now)
    _settle_ticks({at: settled[at] for tick in recent if (at := tick.at) in settled}, now=now)
    _make_clocks()
    was_listened = {tick.at: tick.is_listened for tick in recent}
    was_listened |= {minute + MINUTE: what.volume is not None for minute, what in received.items()}
    begins = {minute + MINUTE: what.covers_from or minute for minute, what in received.items()}
    if recent:
        update_incidents(
            (
                begins.get(tick, tick - MINUTE),
                (ClockIncident.Cause.VOLUME if decision is VolumeDecision.INCIDENT else None)
                if was_listened[tick]
                else ClockIncident.Cause.DEAF,
            )
            for tick, decision in sorted(settled.items())
        )


def decided_until() -> datetime | None:
    """Return the newest tick that may be applied: the last one before the first that is not decided yet (D4)."""
    ((at,),) = fetch_rows(
        """
        SELECT coalesce((SELECT min(at) - interval '1 minute' FROM clocktasks_tick WHERE decided_at IS NULL),
                        (SELECT max(at) FROM clocktasks_tick))
        """,
        [],
    )
    result: datetime | None = at
    return result


def rows_of(ticks: Collection[datetime]) -> dict[datetime, tuple[datetime, bool]]:
    """Return for each tick the tick at which its work is judged, and whether that work becomes unknown.

    That is the tick itself, or the end of the time without a listener that one row stands for.
    """
    if not ticks:
        return {}
    rows = fetch_rows(
        """
        SELECT tick, CASE WHEN row.is_listened THEN tick ELSE row.at END, NOT row.is_listened OR decision = 'incident'
          FROM unnest(%s::timestamptz[]) AS tick
         CROSS JOIN LATERAL (SELECT at, is_listened, decision FROM clocktasks_tick
                              WHERE at >= tick ORDER BY at LIMIT 1) AS row
        """,
        [sorted(ticks)],
    )
    return {tick: (at, is_unknown) for tick, at, is_unknown in rows}


def stretch(tick: datetime, *, until: datetime, rows_max: int) -> datetime:
    """Return the last of the consecutive ticks from `tick` on, up to `until`, that need the same kind of work.

    Check-ins could be received at all of them, so work is judged; or at none of them. It is `tick` itself if its volume
    was an incident. Reads at most `rows_max` rows.
    """
    rows = fetch_rows(
        """
        SELECT at, is_listened, decision = 'incident' FROM clocktasks_tick
         WHERE at >= %s AND at <= %s ORDER BY at LIMIT %s
        """,
        [tick, until, rows_max],
    )
    end = tick
    for at, is_listened, is_incident in rows:
        if is_incident or is_listened is not rows[0][1]:
            break
        end = at
    return end


def deaf_spans(since: datetime, until: datetime) -> list[DeafSpan]:
    """Return the times without a listener after `since` and up to `until`, in order: a span for each row."""
    rows = fetch_rows(
        """
        SELECT coalesce(covers_from, at - interval '1 minute'), at, covers_from IS NOT NULL FROM clocktasks_tick
         WHERE at > %s AND at <= %s AND NOT is_listened ORDER BY at
        """,
        [since, until],
    )
    return [DeafSpan(*row) for row in rows]


def finish_ticks(*, now: datetime) -> int:
    """Mark the ticks that every shard has applied as finished, with their counts. Returns how many.

    One statement for each `FINISHED_MAX` of them.
    """
    finished = 0
    while step := _finish_step(now=now):
        finished += step
        if step < FINISHED_MAX:
            break
    if finished:
        _release_openings()
        summarise_incidents(now=now)
    return finished


def _release_openings() -> None:
    """Let people be notified of what the finished ticks have opened."""
    ((finished_until,),) = fetch_rows("SELECT min(position) FROM clocktasks_shardclock", [])
    if finished_until is not None:
        release_ticks(finished_until)


def _finish_step(*, now: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE clocktasks_tick AS row
               SET finished_at = %(now)s,
                   missed_count = (SELECT coalesce(sum(marked_count), 0) FROM clocktasks_appliedtick
                                    WHERE tick > coalesce(row.covers_from, row.at - interval '1 minute')
                                      AND tick <= row.at AND kind = 'missed'),
                   timeout_count = (SELECT coalesce(sum(marked_count), 0) FROM clocktasks_appliedtick
                                     WHERE tick > coalesce(row.covers_from, row.at - interval '1 minute')
                                       AND tick <= row.at AND kind = 'timeout'),
                   unknown_count = (SELECT coalesce(sum(marked_count), 0) FROM clocktasks_appliedtick
                                     WHERE tick > coalesce(row.covers_from, row.at - interval '1 minute')
                                       AND tick <= row.at AND kind = 'unknown')
             WHERE finished_at IS NULL
               AND at <= (SELECT max(passed.at) FROM (
                                 SELECT at FROM clocktasks_tick
                                  WHERE finished_at IS NULL AND at <= (SELECT min(position) FROM clocktasks_shardclock)
                                  ORDER BY at LIMIT %(most)s) AS passed)
            """,
            {"now": now, "most": FINISHED_MAX},
        )
        return int(cursor.rowcount)


# --- one minute after the other -------------------------------------------------------------------------------------


def _recent_ticks(count: int) -> list[RecentTick]:
    """Return the newest ticks, oldest first: as many as the decision window, and all that wait."""
    rows = fetch_rows(
        """
        SELECT at, volume_class, decision, decided_at IS NOT NULL, is_listened FROM clocktasks_tick
         WHERE at >= least((SELECT min(at) FROM clocktasks_tick WHERE decided_at IS NULL),
                           (SELECT max(at) FROM clocktasks_tick) - %s * interval '1 minute')
         ORDER BY at
        """,
        [count],
    )
    return [
        RecentTick(at, VolumeClass(volume_class), VolumeDecision(decision), *rest)
        for at, volume_class, decision, *rest in rows
    ]


def _deaf_since(recent: Sequence[RecentTick]) -> datetime | None:
    """Return since when there has been no listener up to the newest tick; None if there was one."""
    if not recent or recent[-1].is_listened:
        return None
    going_on = ClockIncident.objects.filter(ended_at__isnull=True, cause=ClockIncident.Cause.DEAF).first()
    return recent[-1].at - MINUTE if going_on is None else going_on.started_at


def _received_between(
    first: datetime, last: datetime, rules: VolumeRules, *, deaf_since: datetime | None, now: datetime
) -> dict[datetime, Received]:
    """Return what was received in the minutes from `first` up to `last`, or as far as one step goes, in order.

    A time without any listener that began at `deaf_since`, long ago, is one step, however long it is: as its last
    minute, with the first one in `covers_from`.
    """
    if deaf_since is not None and first - deaf_since >= SUMMARISED_AFTER:
        received_at = next_listening(first)
        end = last if received_at is None else min(last, whole_minute(received_at) - MINUTE)
        if end >= first:
            return {end: Received(None, VolumeClass.NORMAL, None, covers_from=first)}
    elif deaf_since is not None:
        last = min(last, deaf_since + SUMMARISED_AFTER - MINUTE)
    judged = {}
    for minute, what in _received_each(first, min(last, first + (STEP_MINUTES - 1) * MINUTE), rules, now=now).items():
        if what.volume is not None:
            deaf_since = None
        elif deaf_since is None:
            deaf_since = minute
        is_long = deaf_since is not None and minute - deaf_since >= SUMMARISED_AFTER
        judged[minute] = replace(what, covers_from=minute) if is_long else what
    return judged


def _received_each(first: datetime, last: datetime, rules: VolumeRules, *, now: datetime) -> dict[datetime, Received]:
    """Return what was received in each of the minutes from `first` to `last`, in order."""
    spans, lost = listening_spans(first, last + MINUTE), lost_spans(first, last + MINUTE, now=now)
    deaf = set(deaf_minutes(spans, first=first, last=last, lost=lost))
    counts = volumes(first, last + MINUTE)
    minutes = [first + number * MINUTE for number in range((last - first) // MINUTE + 1)]
    # D3: silence in a minute with a listener is a volume of 0.
    counted = {minute: None if minute in deaf else counts.get(minute, 0) for minute in minutes}
    history = _earlier_volumes(
        {earlier for minute in minutes if minute not in deaf for earlier in compared_minutes(minute)}
    )
    judged = {}
    for minute, volume in counted.items():
        judged[minute] = Received(volume, *classify(volume, minute, history, rules))
        if volume is not None:
            history[minute] = volume  # After a day without a worker, the minutes of today follow those of yesterday.
    return judged


def _earlier_volumes(minutes: Iterable[datetime]) -> dict[datetime, int]:
    """Return the volumes of those of the minutes that had a listener. One look-up each by the ledger's key.

    Minutes of incidents count too: a volume that stays low for hours becomes the usual one, or alarms would never end.
    """
    rows = fetch_rows(
        """
        SELECT at - interval '1 minute', volume FROM clocktasks_tick
         WHERE at = ANY(%s::timestamptz[]) AND volume IS NOT NULL
        """,
        [[minute + MINUTE for minute in minutes]],
    )
    return dict(rows)


def _insert_ticks(
    received: Mapping[datetime, Received],
    decisions: Mapping[datetime, VolumeDecision],
    settled: Mapping[datetime, VolumeDecision],
    *,
    now: datetime,
) -> None:
    insert_rows(
        "clocktasks_tick",
        {
            "at": "timestamptz",
            "covers_from": "timestamptz",
            "dispatched_at": "timestamptz",
            "decided_at": "timestamptz",
            "is_listened": "boolean",
            "volume": "integer",
            "deviation_percent": "double precision",
            "volume_class": "text",
            "decision": "text",
            "missed_count": "integer",
            "timeout_count": "integer",
            "unknown_count": "integer",
        },
        [
            (
                tick,
                what.covers_from,
                now,
                now if tick in settled else None,
                what.volume is not None,
                what.volume,
                what.deviation_percent,
                what.volume_class.value,
                decisions[tick].value,
                0,
                0,
                0,
            )
            for minute, what in received.items()
            for tick in (minute + MINUTE,)
        ],
    )


def _settle_ticks(decisions: Mapping[datetime, VolumeDecision], *, now: datetime) -> None:
    """Write the final decisions of ticks that were undecided."""
    if not decisions:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE clocktasks_tick AS tick SET decision = new.decision, decided_at = %s
              FROM unnest(%s::timestamptz[], %s::text[]) AS new (at, decision)
             WHERE tick.at = new.at AND tick.decided_at IS NULL
            """,
            [now, list(decisions), [decision.value for decision in decisions.values()]],
        )


def _make_clocks() -> None:
    """Create the missing clocks of every shard and kind, at the position of its other clocks or before the first tick.

    Usually there is none, and the lock on the number of shards is not needed.
    """
    kinds = [kind.value for kind in TaskKind]
    if ShardClock.objects.filter(kind__in=kinds).count() >= shard_count() * len(kinds):
        return
    count = hold_shard_count()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO clocktasks_shardclock (shard, kind, position)
            SELECT shard, kind, coalesce((SELECT min(position) FROM clocktasks_shardclock WHERE shard = one.shard),
                                         (SELECT min(at) - interval '1 minute' FROM clocktasks_tick))
              FROM generate_series(0, %s) AS one (shard), unnest(%s::text[]) AS kind
                ON CONFLICT DO NOTHING
            """,
            [count - 1, kinds],
        )
