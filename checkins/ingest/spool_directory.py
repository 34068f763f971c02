"""The spools of one directory: which are free, and locking one for a process (shell).

Each file is held by a lock that the kernel releases when the process dies; the next process then adopts the file, and
with it the node that its name stands for.

    <node id>.spool   the entries: see `checkins.ingest.spool`
    <node id>.lock    locked by flock(2) while a process uses the file; never deleted, or two processes could lock "it".
                      What it says is in `checkins.ingest.neighbours`.
"""

import fcntl
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from checkins.exceptions import SpoolError, SpoolUnusableError
from checkins.ingest.salvage import SALVAGING, is_damage, put_back, set_file_aside, sync_directory
from checkins.ingest.spool import Spool
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)


LINGERING_SECONDS = 0.5
"""How long a process that was killed may hold its spool until the kernel has removed it."""
_POLL_SECONDS = 0.02


def make_directory(directory: Path) -> None:
    """Make the directory of spools if it is not there; its name is on the disk when this returns. Raises OSError."""
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_directory(directory.parent)


def open_spool(directory: Path, *, bytes_max: int, wait_seconds: float = 0.0) -> Spool:
    """Adopt the first free spool of the directory, or create one with a new node id.

    If all are in use, waits so long for one of them: a killed process is replaced at once, and the ends of runs are
    stored after their beginnings if the new process continues with the same spool. Makes the directory if it is not
    there. A file that is no spool any more is set aside with a logged error. Raises SpoolUnusableError.
    """
    try:
        make_directory(directory)
        until = time.monotonic() + wait_seconds
        while True:
            for spool in _unlocked(directory, bytes_max=bytes_max):
                return _opened(spool)
            if time.monotonic() >= until or not any(directory.glob("*.lock")):
                break
            time.sleep(_POLL_SECONDS)
        while True:
            node_id = uuid.uuid4()
            lock = _try_lock(_lock_path(directory, node_id), create=True)
            if lock is not None:  # Else another process that was looking for a spool has adopted this one.
                return _opened(_open_locked(directory, node_id, lock, bytes_max=bytes_max, is_new=True))
    except (OSError, sqlite3.Error) as error:
        raise SpoolUnusableError(f"no spool can be opened in {directory} (SPOOL_DIRECTORY): {error}") from error


def open_orphan(directory: Path, *, bytes_max: int, waited_for: Collection[uuid.UUID] = ()) -> Spool | None:
    """Return a spool of a process that died, if it holds entries that wait; None if there is none.

    Also an empty one that has lost entries, or whose node the clock waits for and which has to be deregistered.
    For a live process that drains it, closes it and calls again. The node of that spool has to be registered, like
    any other, before its entries are applied.
    """
    for spool in _unlocked(directory, bytes_max=bytes_max):
        if spool.count or spool.lost or spool.node_id in waited_for:
            return _opened(spool)
        spool.close()
    return None


def _opened(spool: Spool) -> Spool:
    now = utcnow()
    spool.note_opened(min(now, spool.oldest_received_at or now))
    return spool


def _unlocked(directory: Path, *, bytes_max: int) -> Iterator[Spool]:
    """Lock and open the free spools of the directory, one after the other; the caller closes them."""
    for path in sorted(directory.glob("*.lock")):
        try:
            node_id = uuid.UUID(path.stem)
        except ValueError:
            continue
        try:
            lock = _try_lock(path, create=False)
            spool = None if lock is None else _open_locked(directory, node_id, lock, bytes_max=bytes_max)
        except (OSError, sqlite3.Error, SpoolError) as error:
            logger.error("the spool of %s cannot be opened, and what it may hold is not stored: %s", path, error)
            continue
        if spool is not None:
            yield spool


def _lock_path(directory: Path, node_id: uuid.UUID) -> Path:
    return directory / f"{node_id}.lock"


def _try_lock(path: Path, *, create: bool) -> int | None:
    """Return a descriptor that holds the lock, or None if another one holds it, of this process or any other."""
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open_locked(directory: Path, node_id: uuid.UUID, lock: int, *, bytes_max: int, is_new: bool = False) -> Spool:
    path = directory / f"{node_id}.spool"
    try:
        for mark in directory.glob(f"{node_id}.*{SALVAGING}"):
            put_back(path, mark.with_name(mark.name.removesuffix(SALVAGING)))
        is_gone = not is_new and not (path.exists() and path.stat().st_size)
        try:
            spool = Spool(directory, node_id, lock, bytes_max=bytes_max)
            if is_gone:  # Its node may have stored more than this file knows, or less than the one before had.
                spool.begin_afresh()
            return spool
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            kept = set_file_aside(path, error)
            try:
                spool = Spool(directory, node_id, lock, bytes_max=bytes_max)
                try:
                    spool.take_over(kept)
                except BaseException:
                    spool._connection.close()
                    raise
            except BaseException:
                put_back(path, kept)
                raise
            return spool
    except BaseException:
        os.close(lock)
        raise
