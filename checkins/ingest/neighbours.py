"""The other spools of a directory: the clock has to wait for their nodes, which may never have registered (shell).

A process that starts while PostgreSQL is away cannot register. If it opened a spool of its own and is killed, what it
acknowledged waits under the id of a node that the clock does not know, until another process adopts the file. So a node
that finds PostgreSQL again registers its neighbours before its own watermark moves (`checkins.ingest.orphans`).

While a spool is open, its lock file has the time from which on it may hold check-ins. It is empty again when the spool
was closed with nothing in it.
"""

import os
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from checkins.ingest.spool_entries import EPOCH, MICROSECOND, microseconds


def note_opened(lock: int, since: datetime) -> None:
    """Write into a lock file from which reception time on its spool may hold check-ins. A full disk is no error.

    What a killed process wrote is replaced, never removed first: a neighbour may read the file at any moment.
    """
    text = str(microseconds(since)).encode()
    with suppress(OSError):
        os.pwrite(lock, text, 0)
        os.ftruncate(lock, len(text))
        os.fsync(lock)


def note_closed(lock: int) -> None:
    """Note that nothing is in the spool of a lock file."""
    with suppress(OSError):
        os.ftruncate(lock, 0)


def opened_spools(directory: Path) -> dict[uuid.UUID, datetime]:
    """Return the nodes whose spools are open, or were when the process died, and since when these hold check-ins."""
    found = {}
    for path in directory.glob("*.lock"):
        with suppress(OSError, ValueError):  # It may be written just now: its process has acknowledged nothing yet.
            found[uuid.UUID(path.stem)] = EPOCH + int(path.read_text()) * MICROSECOND
    return found
