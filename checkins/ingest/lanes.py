"""The queue of the batcher, in two lines: light requests in order, heavy ones by turns of their senders (pure).

A batch has light requests or heavy ones, by turns while both wait, and of the heavy ones one of each sender before a
second of any. So a sender of many or heavy requests delays only his own: light requests wait for at most one batch of
heavy ones, and are never in it (D35).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice

import msgspec

from checkins.processing.reading import LIGHT_BYTES_MAX, Reading
from checkins.protocols.request import Answer, Sender

HEAVY_MAX = 8
"""Heavy requests considered for one batch; usually the first few fill it."""


class Waiting(msgspec.Struct, frozen=True):
    """A request that waits, how to answer it, and since when (monotonic seconds)."""

    reading: Reading
    reply: Callable[[Answer], None]
    since: float


class Lanes:
    """The two lines. `bytes` is what large bodies have as sent; small ones are bounded by number."""

    def __init__(self) -> None:
        self.bytes = 0
        self._light: deque[Waiting] = deque()
        self._heavy: dict[Sender | None, deque[Waiting]] = {}
        self._heavy_count = 0
        self._is_turn_of_heavy = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._light) + self._heavy_count

    def __iter__(self) -> Iterator[Waiting]:
        """All that wait, light ones first."""
        yield from self._light
        for line in self._heavy.values():
            yield from line

    def add(self, one: Waiting) -> None:
        """Put a request behind those of its kind."""
        if one.reading.is_heavy:
            self._heavy.setdefault(one.reading.sender, deque()).append(one)
            self._heavy_count += 1
        else:
            self._light.append(one)
        self.bytes += _size(one)

    def unread(self) -> list[Waiting]:
        """Return the heavy requests that come next, the first of each sender; none if the very first is read."""
        firsts = [line[0] for line in islice(self._heavy.values(), HEAVY_MAX)]
        return [] if not firsts or firsts[0].reading.is_prepared else firsts

    def next(self, count_max: int, *, light_only: bool = False, read_only: bool = False) -> list[Waiting]:
        """Remove and return the requests of a batch: up to `count_max` light ones, or up to `HEAVY_MAX` heavy ones.

        The batch may use only the first of them: the rest goes back (`put_back`). `light_only`: heavy ones wait;
        `read_only`: those that are not read yet wait.
        """
        waits = light_only or not self._heavy_count or (read_only and bool(self.unread()))
        is_heavy = not waits and (self._is_turn_of_heavy or not self._light)
        self._is_turn_of_heavy = not is_heavy
        batch = [] if is_heavy else [self._light.popleft() for _ in range(min(count_max, len(self._light)))]
        for _ in range(min(HEAVY_MAX, self._heavy_count) if is_heavy else 0):
            sender, line = next(iter(self._heavy.items()))
            if read_only and not line[0].reading.is_prepared:
                break
            del self._heavy[sender]
            one = line.popleft()
            if line:
                self._heavy[sender] = line  # behind all others
            self._heavy_count -= 1
            batch.append(one)
        self.bytes -= sum(map(_size, batch))
        return batch

    def put_back(self, rest: Sequence[Waiting]) -> None:
        """Return unused requests of a batch to their place: before all others of their kind."""
        heavy = [one for one in rest if one.reading.is_heavy]
        self._light.extendleft(reversed([one for one in rest if not one.reading.is_heavy]))
        first: dict[Sender | None, deque[Waiting]] = {}
        for one in heavy:
            first.setdefault(one.reading.sender, deque()).append(one)
        for sender, line in first.items():
            line.extend(self._heavy.pop(sender, ()))
        self._heavy = first | self._heavy
        self._heavy_count += len(heavy)
        self.bytes += sum(map(_size, rest))

    @property
    def light_since(self) -> float | None:
        """Since when the first light request waits."""
        return self._light[0].since if self._light else None

    @property
    def heavy_since(self) -> float | None:
        """Since when the first heavy request waits."""
        return min((line[0].since for line in self._heavy.values()), default=None)

    @property
    def oldest_received_at(self) -> datetime | None:
        """The oldest reception time of all that wait."""
        firsts = [line[0] for line in (self._light, *self._heavy.values()) if line]
        return min((one.reading.request.received_at for one in firsts), default=None)


def _size(one: Waiting) -> int:
    size = len(one.reading.request.body)
    return size if size > LIGHT_BYTES_MAX else 0
