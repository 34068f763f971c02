"""Removing what is past keeping of the clock's own records, in bounded pieces (shell).

What the clock still needs is never touched: ticks that are not finished, those that volumes are compared with, clock
incidents that go on or are not summed up.
"""

from datetime import datetime

from django.conf import settings

from monitors.pruning import kept_since, remove_piece

LEDGER_DAYS_LEAST = 60
"""The volume of a minute is compared with those up to 28 days before, and a margin, of 28 days at most, asks back."""

_FINISHED = "(SELECT coalesce(min(at), 'infinity') FROM clocktasks_tick WHERE finished_at IS NULL)"
_NEEDED = f"(SELECT max(at) - interval '{LEDGER_DAYS_LEAST} days' FROM clocktasks_tick)"  # noqa: S608


def prune_ticks(*, now: datetime) -> int:
    """Remove one piece of finished ticks older than TICK_RETENTION_DAYS; returns how many.

    The newest 60 days of the ledger stay also if it stands: the clock goes on from there.
    """
    before = kept_since(now, settings.TICK_RETENTION_DAYS)
    if before is None:
        return 0
    condition = f"at < %s AND at < {_NEEDED} AND finished_at IS NOT NULL"
    return remove_piece("clocktasks_tick", condition, [before], key="at", order_by="at")


def prune_applied_ticks(*, now: datetime) -> int:
    """Remove one piece of what ticks marked in shards, older than APPLIED_TICK_RETENTION_DAYS; returns how many.

    The sums stay in the ledger. Index: applied_tick_exactly_once.
    """
    before = kept_since(now, settings.APPLIED_TICK_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("clocktasks_appliedtick", f"tick < %s AND tick < {_FINISHED}", [before], order_by="tick")


def prune_held_ticks(*, now: datetime) -> int:
    """Remove one piece of the minutes that had to wait more than HELD_TICK_RETENTION_DAYS ago; returns how many."""
    before = kept_since(now, settings.HELD_TICK_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("clocktasks_heldtick", "at < %s", [before], key="at", order_by="at")


def prune_clock_incidents(*, now: datetime) -> int:
    """Remove one piece of clock incidents that ended CLOCK_INCIDENT_RETENTION_DAYS ago and are summed up."""
    before = kept_since(now, settings.CLOCK_INCIDENT_RETENTION_DAYS)
    if before is None:
        return 0
    condition = "ended_at < %s AND summarised_at IS NOT NULL"
    return remove_piece("clocktasks_clockincident", condition, [before], order_by="started_at")
