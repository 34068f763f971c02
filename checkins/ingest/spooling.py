"""Answering requests from the spool: as soon as its disk has them, or with a refusal if it has no room (shell)."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from checkins import metrics
from checkins.exceptions import SpoolFullError
from checkins.ingest.lanes import Waiting
from checkins.ingest.node import Parts
from checkins.ingest.spool import Spool
from checkins.ingest.threads import Threads
from checkins.nodes import NodeError
from checkins.processing.reading import NO_ROOM, answer_some
from checkins.protocols.request import Sender
from lib.pg_errors import is_not_now

logger = logging.getLogger(__name__)

REFUSING_SECONDS = 30.0
"""How long a refusal counts as "is refusing": by then there may be room again, and the next request will show."""


class Spooling:
    """Stores requests in the spool and answers them; records whether it had to refuse any."""

    def __init__(self, threads: Threads, *, has_seen: Callable[[Sender], bool]) -> None:
        self._threads = threads
        self._has_seen = has_seen
        self._refused_count = 0
        self._refused_at = -REFUSING_SECONDS

    @property
    def is_refusing(self) -> bool:
        """Whether the spool refused a request recently."""
        return time.monotonic() - self._refused_at < REFUSING_SECONDS

    async def store(self, spool: Spool, entries: Sequence[tuple[Waiting, Parts]]) -> int:
        """Spool the first of these requests, answer them, and return how many: all light ones, few heavy ones.

        So requests before a heavy one do not wait for it.
        """
        readings = [one.reading for one, _ in entries]
        decided = await self._threads.beside_disk(partial(answer_some, readings, self._has_seen))
        entries = entries[: len(decided)]
        answers = [answer for _, answer in decided]
        kept = [part for (_, parts), (is_kept, _) in zip(entries, decided, strict=True) if is_kept for part in parts]
        try:
            await self._threads.on_disk(lambda: spool.append(kept))
            self._refused_count = 0
            metrics.spooled.inc(len(kept))
        except SpoolFullError as error:
            if not self._refused_count:  # And not for each of the batches that follow.
                logger.error("check-ins are refused from now on: %s", error)
            self._refused_count += len(kept)
            self._refused_at = time.monotonic()
            metrics.refused.inc(len(kept))
            answers = [NO_ROOM] * len(answers)
        for (one, _), answer in zip(entries, answers, strict=True):
            one.reply(answer)
        return len(decided)


def log_why(error: BaseException | None, *, patience: float) -> None:
    """Log why check-ins go to the spool from now on; without an error, PostgreSQL took too long."""
    if error is None:
        logger.warning("PostgreSQL needs more than %s s: check-ins go to the spool", patience)
    elif is_not_now(error) or isinstance(error, NodeError):
        logger.warning("PostgreSQL does not store check-ins, they go to the spool: %s", error)
    else:
        logger.error("a batch failed in a way that no single check-in explains", exc_info=error)
