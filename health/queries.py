"""What the database holds about the clock, the ingest and the outbox: a few short statements by index (shell).

`read_rows` is what findings are made of (`health.problems`), `read_figures` what only the metrics need besides.
Neither locks anything or grows with what is watched. Callers bound them with a statement_timeout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from checkins.models import IngestNode, ProcessingError, WaitingCheckIn
from clocktasks.clock import MINUTE, whole_minute
from clocktasks.models import ClockIncident, HeldTick, ShardClock, Tick
from health.facts import Rows, Rules, TickFacts
from incidents.models import Channel, FollowUp, Message, Notification, Route
from incidents.models.channels import EMAIL
from incidents.notifications.fallback import TOGETHER, unreported_channels, unreported_messages
from lib.sql import fetch_rows
from monitors.models import Monitor, MonitorEnvironment
from monitors.pruning import house_time
from monitors.schedule import why_unreadable

COUNTED_MAX = 10_000
"""What may be many (the outbox after a large outage) is counted up to here: more is simply "a lot"."""
UNJUDGED_MAX = 100
NODES_MAX = 1_000
QUANTILES = (0.5, 0.9, 1.0)
SUMMARY_OVER = timedelta(hours=1)
CHANNELS_MAX = 100
UNREPORTED_AFTER = timedelta(minutes=5)
"""So long people may not have been notified that a channel fails: then nobody can be notified."""
UNREPORTED_MESSAGES_AFTER = TOGETHER + UNREPORTED_AFTER
JUST_DUE = timedelta(minutes=1)
"""A digest that was held may take so long to be sent."""
GIVEN_UP_SHOWN = timedelta(days=1)
"""For so long a mail that was given up is counted."""


def read_rows(now: datetime) -> Rows:
    """Return what findings are made of.

    1. The clock: the newest ticks, those that are not finished or not decided, and the position of each shard.
    2. Delivery: what waits and is late, in three places: messages, notifications that are not routed, and reminders
       and steps of escalations. What waits on purpose (quiet hours, holds, storms) or for a broken channel is not late.
    3. Ingest: the nodes, and the check-ins that wait or failed.
    4. What people have to repair: channels, failures of which nobody was notified, and monitors that were set aside.

    All counts and lists are bounded.
    """
    ticks = Tick.objects.order_by("at")
    newest = _first_tick(ticks.reverse())
    undecided = ticks.filter(decided_at__isnull=True)
    oldest_undecided = _first_tick(undecided)
    # What waits for a channel that is left alone is the channel's matter: delivery itself works. The mail server is a
    # part of the installation.
    delivery = Q(channel__open_since__isnull=True) | Q(channel__kind=EMAIL)
    waiting = Message.objects.filter(delivery, status=Message.Status.WAITING)
    # What is held on purpose, as in quiet hours, is not late.
    waiting = waiting.exclude(attempt_count=0, due_at__gt=now)
    # The digest at their end is as old as the first incident in it.
    waiting = waiting.exclude(attempt_count=0, storm__isnull=False, due_at__gt=now - JUST_DUE)
    waiting = waiting.order_by("created_at", "id")
    unaddressed = Notification.objects.filter(addressed_at__isnull=True).order_by("id")
    # What is held waits on purpose, and after that since the end of the hold.
    fresh = unaddressed.filter(Q(held_until__isnull=True) | Q(held_until__lte=now), nobody_since__isnull=True)
    since = fresh.values_list(Coalesce("held_until", "created_at"), flat=True)
    # A sweep makes reminders and steps of escalations due; they are late if none runs.
    overdue = FollowUp.objects.filter(due_at__lte=now).order_by("due_at", "id")
    oldest = [
        waiting.values_list("created_at", flat=True).first(),
        since.first(),
        overdue.values_list("due_at", flat=True).first(),
    ]
    unsent = [at for at in oldest if at is not None]
    failing = waiting.exclude(last_error="").values_list("last_error", flat=True)
    incident = ClockIncident.objects.filter(ended_at__isnull=True).first()
    return Rows(
        newest=newest,
        newest_finished_at=ticks.reverse().filter(finished_at__isnull=False).values_list("at", flat=True).first(),
        oldest_unfinished=_first_tick(ticks.filter(finished_at__isnull=True)),
        oldest_undecided=oldest_undecided,
        undecided_count=_bounded_count(undecided) if oldest_undecided else 0,
        clocks=tuple(ShardClock.objects.order_by("shard", "kind").values_list("shard", "kind", "position")),
        held_at=HeldTick.objects.order_by("-at").values_list("at", flat=True).first(),
        clock_incident=None if incident is None else (incident.get_cause_display(), incident.started_at),
        nodes=tuple(
            node.facts()
            for node in IngestNode.objects.filter(left_at__isnull=True).order_by("watermark", "id")[:NODES_MAX]
        ),
        unsent_count=_bounded_count(waiting) + _bounded_count(fresh) + _bounded_count(overdue) if unsent else 0,
        oldest_unsent_at=min(unsent, default=None),
        unsent_error=(failing.first() or "") if unsent else "",
        unnotified_count=_bounded_count(unaddressed.exclude(nobody_since=None)),
        given_up_count=_bounded_count(
            Message.objects.filter(status=Message.Status.FAILED, finished_at__gt=now - GIVEN_UP_SHOWN)
        ),
        has_routes=Route.objects.filter(is_enabled=True, is_fallback=False, channels__is_enabled=True).exists(),
        failing_channels=_failing_channels(),
        unreported_failures=_unreported_failures(now),
        waiting={
            reason: _bounded_count(WaitingCheckIn.objects.filter(reason=reason))
            for reason in ("monitor_unknown", "failed")
        },
        unjudged=_unjudged(),
        house=house_time(),
        rules=Rules(
            grace=timedelta(seconds=settings.CLOCK_GRACE_SECONDS),
            decision_window=settings.VOLUME_RULES.decision_window,
            dropped_after=timedelta(seconds=settings.INGEST_NODE_SILENT_SECONDS),
        ),
    )


def _failing_channels() -> list[tuple[str, str]]:
    """Return channels whose breaker is open, longest first, with the last error."""
    failing = Channel.objects.filter(open_since__isnull=False, removed_at__isnull=True).select_related("project")
    return [
        (_channel_name(channel), channel.last_error) for channel in failing.order_by("open_since", "id")[:CHANNELS_MAX]
    ]


def _channel_name(channel: Channel) -> str:
    return f"{channel.name} of {channel.project.slug if channel.project else 'the instance'}"


def _unreported_failures(now: datetime) -> Sequence[str]:
    """Return what people should have been notified of over another channel some minutes ago, in words, bounded."""
    late = now - UNREPORTED_AFTER
    channels = unreported_channels(now=late).select_related("project")
    names = [_channel_name(channel) for channel in channels[:CHANNELS_MAX]]
    unsent = Message.objects.filter(kind=Message.Kind.FALLBACK, status=Message.Status.FAILED)
    failed = unsent.filter(finished_at__gt=now - GIVEN_UP_SHOWN).values_list("subject", flat=True)
    given_up = unreported_messages(now=now).filter(finished_at__lte=now - UNREPORTED_MESSAGES_AFTER)
    names += [subject.removeprefix("[Watchclock] ") for subject in failed.order_by("id")[:CHANNELS_MAX]]
    return names + [f"{message} was given up" for message in given_up.order_by("finished_at")[:CHANNELS_MAX]]


def _unjudged() -> list[tuple[str, str]]:
    """Return monitors that the clock has set aside, with the reason (D37). By index: monenv_unjudged."""
    rows = MonitorEnvironment.objects.filter(unjudged_until__isnull=False).values_list("monitor")[:UNJUDGED_MAX]
    monitors = Monitor.objects.filter(pk__in=rows).select_related("project").order_by("project__slug", "slug")
    reasons = [
        (f"{monitor.slug} of {monitor.project.slug}", why_unreadable(monitor.schedule())) for monitor in monitors
    ]
    return [(name, reason) for name, reason in reasons if reason]


@dataclass(frozen=True, slots=True)
class Figures:
    """What only the metrics need.

    `tick_seconds`: of the ticks of the last hour, by part and quantile. `newest_marked`: what the newest finished tick
    marked, by status. `due_count`: monitor environments that are due at the newest tick and not judged yet, bounded.
    `processing_errors`: of the last whole minute, by kind.
    """

    tick_seconds: Mapping[tuple[str, float], float]
    newest_marked: Mapping[str, int]
    due_count: int
    processing_errors: Mapping[str, int]


def read_figures(now: datetime) -> Figures:
    """Return them as of `now`."""
    newest = Tick.objects.order_by("-at").values_list("at", flat=True).first()
    finished = (
        Tick.objects.filter(finished_at__isnull=False)
        .order_by("-at")
        .values_list("missed_count", "timeout_count", "unknown_count")
        .first()
    )
    minute = whole_minute(now) - MINUTE
    errors = (
        ProcessingError.objects.filter(minute=minute, last_received_at__gte=minute)
        .order_by()
        .values_list("kind")
        .annotate(Sum("count"))
    )
    return Figures(
        tick_seconds=_tick_seconds(now),
        newest_marked={} if finished is None else dict(zip(("missed", "timeout", "unknown"), finished, strict=True)),
        due_count=0 if newest is None else _due_count(newest),
        processing_errors=dict(errors),
    )


def _first_tick(ticks: QuerySet[Tick]) -> TickFacts | None:
    row = ticks.values_list(*TickFacts._fields).first()
    return None if row is None else TickFacts(*row)


def _bounded_count(rows: "QuerySet[Any, Any]") -> int:
    return rows.order_by().values(_=models.Value(1))[:COUNTED_MAX].count()


DUE_SQL = """
    SELECT count(*)
      FROM (SELECT FROM (SELECT DISTINCT shard FROM clocktasks_shardclock) AS clock
             CROSS JOIN LATERAL (
                   SELECT FROM monitors_monitorenvironment
                    WHERE shard = clock.shard AND next_checkin_latest <= %(tick)s LIMIT %(most)s) AS due
             LIMIT %(most)s) AS counted
"""
"""Shard by shard, as index monenv_due has them: what is not due costs nothing (P7)."""


def _due_count(tick: datetime) -> int:
    ((count,),) = fetch_rows(DUE_SQL, {"tick": tick, "most": COUNTED_MAX})
    return int(count)


def _tick_seconds(now: datetime) -> dict[tuple[str, float], float]:
    """Return how long the ticks of the last hour took: 60 rows by primary key.

    `wait`: from the minute to its row in the ledger, mostly for check-ins to be stored. `apply`: from there, or from
    the decision about its volume, to the last shard. `whole`: from the minute to its end.
    """
    (row,) = fetch_rows(
        """
        SELECT percentile_disc(%(quantiles)s::float8[]) WITHIN GROUP (
                   ORDER BY extract(epoch FROM dispatched_at - at)::float8),
               percentile_disc(%(quantiles)s::float8[]) WITHIN GROUP (
                   ORDER BY extract(epoch FROM finished_at - coalesce(decided_at, dispatched_at))::float8),
               percentile_disc(%(quantiles)s::float8[]) WITHIN GROUP (
                   ORDER BY extract(epoch FROM finished_at - at)::float8)
          FROM clocktasks_tick WHERE at >= %(since)s AND finished_at IS NOT NULL
        """,
        {"quantiles": list(QUANTILES), "since": now - SUMMARY_OVER},
    )
    return {
        (part, quantile): seconds
        for part, values in zip(("wait", "apply", "whole"), row, strict=True)
        for quantile, seconds in zip(QUANTILES, values or (), strict=False)
    }
