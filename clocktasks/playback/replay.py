"""Applying the ticks of a window by hand: after an outage of the workers, or to see what a window would mark (shell).

The work is that of the workers (`clocktasks.shards.apply_ticks`), and where each shard stands is in rows, so a window
may be replayed any number of times: what is applied already is not applied again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Min

from clocktasks.clock import MINUTE, whole_minute
from clocktasks.exceptions import ReplayWindowError
from clocktasks.ledger import finish_ticks, write_ticks
from clocktasks.models import ShardClock, Tick
from clocktasks.shards import TickEffect, apply_ticks
from monitors.shard_count import shard_count


@dataclass(frozen=True, slots=True)
class Window:
    """Whole minutes from `since` to `until`, both of them included."""

    since: datetime
    until: datetime


def parse_window(since: str, until: str, *, newest: datetime) -> Window:
    """Read a window of ticks, of which `newest` is the last that may be applied. Raises ReplayWindowError."""
    window = Window(_parse_minute("since", since), _parse_minute("until", until))
    if window.until < window.since:
        raise ReplayWindowError(f"until {until} is before since {since}: the window is the wrong way round.")
    if window.until > newest:
        raise ReplayWindowError(
            f"until {until} lies in the future: the newest minute that may be applied is {newest:%Y-%m-%dT%H:%MZ}."
        )
    return window


def _parse_minute(name: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        in_utc = instant.astimezone(UTC)
    except (ValueError, OverflowError):  # In UTC, the first day of all may be in no year.
        raise ReplayWindowError(f"{name} {text!r} is not an ISO 8601 instant, such as 2026-01-05T10:00Z.") from None
    if instant.tzinfo is None:
        raise ReplayWindowError(f"{name} {text!r} has no time zone; for UTC write {text}Z.")
    if instant != whole_minute(instant):
        raise ReplayWindowError(f"{name} {text!r} is not a whole minute, and ticks are.")
    return in_utc


def parse_shards(shard: int | None) -> Sequence[int]:
    """Return the shards to replay: all, or the given one. Raises ReplayWindowError if there is no such shard."""
    count = shard_count()
    if shard is None:
        return range(count)
    if not 0 <= shard < count:
        raise ReplayWindowError(f"shard {shard} does not exist; shards are 0 to {count - 1}.")
    return [shard]


def first_open_tick(window: Window, shards: Sequence[int]) -> datetime:
    """Return the first minute that one of the shards still has to apply; it may lie before the window, or after it."""
    oldest = ShardClock.objects.filter(shard__any_of=shards).aggregate(oldest=Min("position"))["oldest"]
    return window.since if oldest is None else oldest + MINUTE


def replay(window: Window, shards: Sequence[int], *, now: datetime) -> Iterator[TickEffect]:
    """Apply every tick up to the end of the window to each shard, yielding what each tick did.

    No tick is divided between transactions. Ticks before the window that a shard has not applied come first.
    """
    _extend_ledger(window, now=now)
    for shard in shards:
        yield from apply_ticks(shard, until=window.until)
    finish_ticks(now=now)


def rehearse(window: Window, shards: Sequence[int], *, now: datetime) -> Iterator[TickEffect]:
    """Yield what `replay` would do, by doing it in a transaction for each shard that is rolled back."""
    for shard in shards:
        with transaction.atomic():
            _extend_ledger(window, now=now)
            effects = list(apply_ticks(shard, until=window.until))
            transaction.set_rollback(True)
        yield from effects


@transaction.atomic
def _extend_ledger(window: Window, *, now: datetime) -> None:
    if not Tick.objects.exists():
        write_ticks(window.since, now=now)  # The first tick ever: the window begins the ledger.
    write_ticks(window.until, now=now)
