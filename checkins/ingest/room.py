"""Memory for the bodies that a process holds at once, shared fairly between senders (pure, D35).

Small bodies have a part of the room, whatever their sender. Large ones have the rest, and are accepted only from known
senders. When a part is full, an incomplete upload loses its place: the oldest of the sender that holds most. So a
stalled upload costs only itself, and a small body that is sent at once always finds room.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count

SMALL_BYTES_MAX = 64 << 10
"""Most bytes of a small body, and of any body whose sender is not known or has its key in the body."""
SMALL_SHARE = 4
"""Small bodies have one of so many parts of the room."""
TINY_BYTES_MAX = 4 << 10
"""A body of at most so many bytes is accepted even if all others are complete and wait for their answers."""

_numbers = count()


@dataclass(eq=False, slots=True)
class Place:
    """The room of one body. `sender` is None until the sender is known; only then the body may be large.

    `kept` is the part received so far. `is_lost`: the room was needed for others, or there was none; then `kept` is
    emptied at once, since a stalled upload would hold it as long as it stalls.
    """

    sender: Hashable = None
    kept: bytearray = field(default_factory=bytearray)
    held: int = 0
    is_complete: bool = False
    is_lost: bool = False
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def whose(self) -> Hashable:
        """The sender; unknown senders count as one each."""
        return self.number if self.sender is None else self.sender

    @property
    def is_small(self) -> bool:
        """Whether it is among the small ones."""
        return self.held <= SMALL_BYTES_MAX


class Room:
    """All places in use. `bytes_max` is for all of them together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._places: set[Place] = set()
        self._held = {True: 0, False: 0}

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return self._held[True] + self._held[False]

    def resize(self, place: Place, size: int) -> bool:
        """Give a body so many bytes; return False if it has lost its place, now or before."""
        if place.is_lost:
            return False
        self._places.add(place)
        self._held[place.is_small] -= place.held
        place.held = size
        self._held[place.is_small] += size
        while self._held[place.is_small] > self._bytes_max(is_small=place.is_small):
            if size <= TINY_BYTES_MAX and self._held[True] <= self.bytes_max:
                self._lose(self._next_to_go(place, is_small=True) or Place())
                break
            goes = self._next_to_go(place, is_small=place.is_small)
            self._lose(goes or place)
            if goes is None or goes is place:
                return False
        return True

    def release(self, place: Place) -> None:
        """Take back what a body had."""
        if place in self._places:
            self._places.remove(place)
            self._held[place.is_small] -= place.held
        place.held = 0

    def _bytes_max(self, *, is_small: bool) -> int:
        small = self.bytes_max // SMALL_SHARE
        return small if is_small else self.bytes_max - small

    def _lose(self, place: Place) -> None:
        self.release(place)
        place.is_lost = True
        place.kept.clear()

    def _next_to_go(self, comer: Place, *, is_small: bool) -> Place | None:
        """The oldest upload that is not complete, of the sender that holds most; among strangers each is his own.

        A comer gives way himself to those who hold less.
        """
        held: dict[Hashable, int] = {}
        for place in self._places:
            if place.is_small == is_small:
                whose = place.whose
                held[whose] = held.get(whose, 0) + place.held
        going = [
            place
            for place in self._places
            if place.is_small == is_small and not place.is_complete and (place is not comer or not is_small)
        ]
        return max(
            going,
            key=lambda place: (held[place.whose] if place.sender is not None else 0, -place.number),
            default=None,
        )
