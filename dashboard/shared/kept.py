"""What was rendered for one viewer is kept for all others of this process.

A rendering is served as it is for `RENEW_SECONDS`. After that it is served on as long as the mark of what pages show
has not moved, and rendered anew once when it has, or after `LIFE_SECONDS`. One viewer renders; others get what there
is. While the database is away, so do all. All that is kept has a bound in bytes: what was asked for last stays.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import django.db

logger = logging.getLogger(__name__)

RENEW_SECONDS = 2.0
LIFE_SECONDS = 60.0
BYTES_MAX = 8_000_000


@dataclass(frozen=True, slots=True)
class Rendering:
    """An answer: its bytes, their type, and a tag that changes with them. `is_public`: search engines may list it."""

    body: bytes
    content_type: str
    is_public: bool = False
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "etag", f'"{hashlib.blake2b(self.body, digest_size=12).hexdigest()}"')


@dataclass(slots=True)
class _Kept:
    rendering: Rendering
    mark: str
    rendered_at: float
    checked_at: float


class Shelf:
    """Renderings by key. `read_mark` asks the database how far it is: at most once in `RENEW_SECONDS`."""

    def __init__(
        self, read_mark: Callable[[], str], monotonic: Callable[[], float], *, bytes_max: int = BYTES_MAX
    ) -> None:
        self._read_mark = read_mark
        self._monotonic = monotonic
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._bytes = 0
        self._mark = ("", float("-inf"))
        self._rendering = threading.Lock()

    def has(self, key: Hashable) -> bool:
        """Return whether something is kept under a key."""
        return key in self._kept

    def get(self, key: Hashable, render: Callable[[], Rendering | None]) -> Rendering | None:
        """Return what is kept under a key, renewed if need be; None if there is nothing at that address (any more)."""
        kept = self._kept.get(key)
        if kept is not None and self._monotonic() - kept.checked_at < RENEW_SECONDS:
            return kept.rendering
        # Who has something to serve does not wait for another one who renders.
        if not self._rendering.acquire(blocking=kept is None):
            return kept.rendering if kept is not None else None
        try:
            return self._renew(key, render)
        except django.db.Error as error:
            if kept is None:
                raise
            logger.warning("a shared page is not renewed: %s", " ".join(str(error).split())[:200])
            kept.checked_at = self._monotonic()
            return kept.rendering
        finally:
            self._rendering.release()

    def _renew(self, key: Hashable, render: Callable[[], Rendering | None]) -> Rendering | None:
        now = self._monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept.checked_at < RENEW_SECONDS:  # Somebody else has, while this one waited.
            return kept.rendering
        mark = self._current_mark(now)
        if kept is not None and kept.mark == mark and now - kept.rendered_at < LIFE_SECONDS:
            kept.checked_at = now
            self._kept.move_to_end(key)
            return kept.rendering
        rendering = render()
        self._drop(key)
        if rendering is not None:
            self._keep(key, _Kept(rendering, mark, now, now))
        return rendering

    def _current_mark(self, now: float) -> str:
        mark, read_at = self._mark
        if now - read_at >= RENEW_SECONDS:
            mark = self._read_mark()
            self._mark = (mark, now)
        return mark

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        self._kept[key] = kept
        self._bytes += len(kept.rendering.body)
        while self._bytes > self._bytes_max and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone.rendering.body)
