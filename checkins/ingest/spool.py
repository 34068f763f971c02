"""Storage for check-ins while PostgreSQL is away: a local SQLite file that survives `kill -9` (shell).

The file is in SQLite's WAL mode with synchronous=FULL: `append` returns when the disk has it (P1). One process holds it
(`checkins.ingest.spool_directory`).

The spool stores requests as they were received; they are decoded when they are applied. Entries are numbered across
restarts (`seq`), so that PostgreSQL can record the newest one that it has.

An entry carries the number of a batch if that batch's COMMIT was sent and never answered. Whether it is stored is known
when the node's row can be locked; `settle` then either forgets the entry or makes it an ordinary one.

All calls come from one thread at a time. The attributes `count`, `bytes`, `oldest_received_at`, `newest_batch` and
`lost` are cached in memory and may be read from any thread.
"""

import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

import msgspec

from checkins.exceptions import SpoolFullError
from checkins.ingest.neighbours import note_closed, note_opened
from checkins.ingest.salvage import (
    LOST,
    SALVAGING,
    SCHEMA,
    Losses,
    begun_in,
    beside,
    is_damage,
    last_number,
    losses_in,
    numbers_in,
    open_damaged,
    put_back,
    set_file_aside,
    sync_directory,
    tries_in,
)
from checkins.ingest.spool_entries import EPOCH, FORMAT, MICROSECOND, SpoolEntry, decode, encode, microseconds
from checkins.protocols.request import IngestRequest
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

READ_BYTES_MAX = 16 << 20
"""Requests read at once, in bytes: one body may be as large as this, and a thousand of them would not fit in memory."""
SHRINK_BYTES_MIN = 1 << 20
"""An empty spool gives its disk space back if it has at least this much."""
TRIED = """
    INSERT INTO tried (seq, deaths, failures) SELECT seq, ?3, ?4 FROM entry WHERE seq BETWEEN ?1 AND ?2
        ON CONFLICT (seq) DO UPDATE SET deaths = deaths + excluded.deaths, failures = failures + excluded.failures
"""


def _repairing(call: Callable[Concatenate["Spool", P], T]) -> Callable[Concatenate["Spool", P], T]:
    """Repeat the call once, on what can be read of a file that turns out to be damaged (D43)."""

    @wraps(call)
    def repaired(spool: "Spool", *arguments: P.args, **options: P.kwargs) -> T:
        try:
            return call(spool, *arguments, **options)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            spool.salvage(error)
            return call(spool, *arguments, **options)

    return cast("Callable[Concatenate[Spool, P], T]", repaired)


class Spool:
    """An open spool file, locked for this process. Made by `spool_directory.open_spool` and `open_orphan`."""

    count: int
    """Entries that wait."""
    bytes: int
    """What they take in the file, in whole pages; up to `bytes_max`. The write-ahead log adds some megabytes."""
    oldest_received_at: datetime | None
    """The oldest reception time of an entry, or in `lost`: the node's watermark may not pass it. None if nothing is."""
    newest_batch: int | None
    """The highest number of an uncertain batch; None if there is none. No batch may be committed before `settle`."""
    lost: tuple[tuple[datetime, datetime], ...]
    """Between which reception times entries were lost that PostgreSQL is to know of (D43), until `forget_losses`.

    An unknown begin is 1970. It does not hold the watermark: PostgreSQL learns of it before the node registers.
    """

    def __init__(self, directory: Path, node_id: uuid.UUID, lock: int, *, bytes_max: int) -> None:
        self.node_id = node_id
        self.path = directory / f"{node_id}.spool"
        self._lock = lock
        self._bytes_max = bytes_max
        self.is_open = True
        self._is_begun = False
        self._connection = _connect(self.path, bytes_max=bytes_max)
        try:
            sync_directory(directory)
            self.count = self._connection.execute("SELECT count(*) FROM entry").fetchone()[0]
            self._count_death()
            self._load_losses()
            self._refresh()
        except BaseException:
            self._connection.close()  # Or what is left of it would lock the file for who reads what can be read.
            raise

    @_repairing
    def append(self, entries: Sequence[tuple[IngestRequest, int | None]]) -> None:
        """Store requests behind all others, all or nothing; they are on the disk when this returns.

        With each comes the number of the batch in which it may be committed already, or None. Raises SpoolFullError.
        (If it is the disk that fails in the very moment of the commit, a crash right after may bring the entries back.)
        """
        if not entries:
            return
        rows = [(batch, microseconds(request.received_at), FORMAT, encode(request)) for request, batch in entries]
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO entry (batch, received_us, format, request) VALUES (?, ?, ?, ?)", rows
            )
        self.count += len(rows)
        self._refresh()

    @_repairing
    def first(self, count_max: int) -> list[SpoolEntry]:
        """Return the oldest entries by number: up to `count_max` and about `READ_BYTES_MAX`; none only if none wait.

        One that is suspect comes alone.

        What cannot be decoded is moved to the table `damaged`, with a logged error, and does not come again.
        """
        while True:
            entries: list[SpoolEntry] = []
            damaged: list[tuple[int, str]] = []
            size = 0
            rows = self._connection.execute(
                "SELECT seq, batch, format, request, deaths, failures FROM entry LEFT JOIN tried USING (seq)"
                " ORDER BY seq LIMIT ?",
                (count_max,),
            )
            for seq, batch, format_number, request, deaths, failures in rows:
                try:
                    entry = SpoolEntry(seq, batch, decode(format_number, request), deaths or 0, failures or 0)
                except (msgspec.DecodeError, ValueError) as error:
                    damaged.append((seq, str(error)))
                    continue
                if entries and entry.is_suspect:
                    break
                entries.append(entry)
                size += len(request)
                if size >= READ_BYTES_MAX or entry.is_suspect:
                    break
            rows.close()
            if damaged:
                self.set_aside(damaged, is_lost=True)
            if entries or not damaged:
                return entries

    @_repairing
    def forget(self, until_seq: int) -> None:
        """Remove the entries up to this number: they are committed in PostgreSQL. Raises SpoolFullError.

        An empty spool gives its disk space back.
        """
        with self._transaction():
            removed = self._connection.execute("DELETE FROM entry WHERE seq <= ?", (until_seq,)).rowcount
            self._connection.execute("DELETE FROM tried WHERE seq <= ?", (until_seq,))
            self._connection.execute("DELETE FROM begun")
        self._is_begun = False
        self.count -= removed
        self._refresh()

    def salvage(self, error: Exception) -> None:
        """Continue in a new file with the readable entries, in order and with their numbers; the damaged file stays.

        The log has the number of lost entries (D43).
        """
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        kept = set_file_aside(self.path, error)
        try:
            self._connection = _connect(self.path, bytes_max=self._bytes_max)
            self.take_over(kept, oldest_us=microseconds(self.oldest_received_at or utcnow()))
        except BaseException:
            self._connection.close()
            put_back(self.path, kept)
            # Not read before the next call, which tries it again.
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            raise

    def take_over(self, kept: Path, *, oldest_us: int = 0) -> None:
        """Store the readable entries of a damaged file with their numbers, and note in which time entries were lost.

        `oldest_us` is the oldest reception time that can have been in it. Raises SpoolFullError.
        """
        read = lost = 0
        losses = Losses(oldest_us, microseconds(utcnow()))
        with open_damaged(kept) as damaged, self._transaction():
            self._number_from(last_number(damaged))
            tries, begun = tries_in(damaged), begun_in(damaged)
            for seq, received_us in numbers_in(damaged):
                if seq is None:
                    losses.lose(None)
                    continue
                try:
                    row = damaged.execute(
                        "SELECT seq, batch, received_us, format, request FROM entry NOT INDEXED WHERE seq = ?", (seq,)
                    ).fetchone()
                except sqlite3.DatabaseError:
                    lost += 1
                    losses.lose(received_us)
                    continue
                if row is not None:
                    losses.find(row[2])
                    self._connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", row)
                    read += 1
                    if seq in tries:  # Else an entry that kills the process would be tried as often again (D36).
                        self._connection.execute("INSERT INTO tried VALUES (?, ?, ?)", (seq, *tries[seq]))
            if begun is not None:
                self._connection.execute("INSERT OR REPLACE INTO begun VALUES (1, ?, ?)", begun)
            self._note_lost([*losses.end(), *losses_in(damaged)])
        logger.error(
            "the spool %s was damaged: %d entries of it could be read and are stored, %d could not and stay in %s",
            self.path,
            read,
            lost,
            kept,
        )
        with suppress(OSError):
            beside(kept, LOST).write_text(str(lost))
        beside(kept, SALVAGING).unlink()
        self.count = read
        if not self._is_begun:
            self._count_death()
        self._load_losses()
        self._refresh()

    def begin_afresh(self) -> None:
        """Continue in a new file, after one with unknown contents, with numbers that it cannot have used."""
        with self._transaction():
            self._number_from(None)
            self._note_lost([(0, microseconds(utcnow()))])
        self._load_losses()

    @_repairing
    def forget_losses(self, lost: Sequence[tuple[datetime, datetime]]) -> None:
        """Remove these from `lost`: PostgreSQL knows them. Raises SpoolFullError."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM lost WHERE since_us = ? AND until_us = ?",
                [(microseconds(since), microseconds(until)) for since, until in lost],
            )
        self._load_losses()
        self._refresh()

    def _note_lost(self, spans: Sequence[tuple[int, int]]) -> None:
        self._connection.executemany("INSERT INTO lost (since_us, until_us) VALUES (?, ?)", spans)

    def _load_losses(self) -> None:
        rows = self._connection.execute("SELECT DISTINCT since_us, until_us FROM lost").fetchall()
        self.lost = tuple((EPOCH + since * MICROSECOND, EPOCH + until * MICROSECOND) for since, until in rows)

    def _number_from(self, last: int | None) -> None:
        """Continue after this number; after every number that can have been used if it is None.

        PostgreSQL records the newest number that it has, and counts entries with older numbers as stored. A node never
        has as many entries as there are microseconds since 1970.
        """
        number = microseconds(utcnow()) if last is None else last
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'entry'")
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('entry', ?)", (number,))

    def begin(self, entries: Sequence[SpoolEntry]) -> None:
        """Note that these entries are being tried: a process that opens the spool with such a note counts a death."""
        self._is_begun = True
        self._connection.execute("PRAGMA synchronous = NORMAL")  # The note has to survive the process, not the machine.
        try:
            with suppress(SpoolFullError), self._transaction():  # A full disk must not stop the draining.
                first_and_last = entries[0].seq, entries[-1].seq
                self._connection.execute("INSERT OR REPLACE INTO begun VALUES (1, ?, ?)", first_and_last)
        finally:
            self._connection.execute("PRAGMA synchronous = FULL")

    def end(self, entries: Sequence[SpoolEntry], *, failures: int = 0) -> None:
        """Note that the try is over, and add failures to the entries that are still there."""
        if not self._is_begun and not failures:
            return
        self._is_begun = False
        with suppress(SpoolFullError), self._transaction():
            if failures:
                self._connection.execute(TRIED, (entries[0].seq, entries[-1].seq, 0, failures))
            self._connection.execute("DELETE FROM begun")

    def _count_death(self) -> None:
        begun = self._connection.execute("SELECT first, last FROM begun").fetchone()
        if begun is None:
            return
        logger.warning("the process before ended while it stored entries %d to %d of the spool %s", *begun, self.path)
        with suppress(SpoolFullError), self._transaction():
            self._connection.execute(TRIED, (*begun, 1, 0))
            self._connection.execute("DELETE FROM begun")

    @_repairing
    def settle(self, committed_batch: int) -> None:
        """Decide the uncertain batches: those up to this number are stored and forgotten, the others become ordinary.

        To be called while the node's row is locked (`nodes.lock_node`), with the number that it gave, and before any
        other batch of the node is committed. Raises SpoolFullError.
        """
        with self._transaction():
            removed = self._connection.execute("DELETE FROM entry WHERE batch <= ?", (committed_batch,)).rowcount
            self._connection.execute("UPDATE entry SET batch = NULL WHERE batch IS NOT NULL")
        self.count -= removed
        self._refresh()

    def note_opened(self, since: datetime) -> None:
        """Let other processes know from which reception time on this spool may hold check-ins."""
        note_opened(self._lock, since)

    def close(self) -> None:
        """Close the file and let another process have it. Closing twice does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        try:
            self._connection.close()
            if not self.count and not self.lost:
                note_closed(self._lock)
        finally:
            os.close(self._lock)

    @_repairing
    def set_aside(self, damaged: Sequence[tuple[int, str]], *, is_lost: bool = False) -> None:
        """Move entries, given with what is wrong with them, to where they do not come again. Raises SpoolFullError.

        `is_lost`: the disk did it, so the time counts as lost (D43). What a sender can bring about must not.
        """
        for seq, error in damaged:
            logger.error("entry %d of the spool %s is set aside: %s", seq, self.path, error)
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO damaged (seq, batch, received_us, format, request, error) "
                "SELECT seq, batch, received_us, format, request, ?2 FROM entry WHERE seq = ?1",
                damaged,
            )
            if is_lost:
                now = utcnow()
                losses = Losses(microseconds(self.oldest_received_at or now), microseconds(now))
                for seq, _ in damaged:
                    query = "SELECT received_us FROM entry WHERE seq = ?"
                    losses.lose(self._connection.execute(query, (seq,)).fetchone()[0])
                self._note_lost(losses.end())
            self._connection.executemany("DELETE FROM entry WHERE seq = ?", [(seq,) for seq, _ in damaged])
        self.count -= len(damaged)
        self._load_losses()
        self._refresh()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # After some errors SQLite has rolled back by itself.
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if is_damage(error):
                raise
            raise SpoolFullError(f"the spool {self.path} cannot be written: {error}") from error

    def _refresh(self) -> None:
        """Reload the cached attributes, by index, and return disk space if the spool is empty."""
        oldest, self.newest_batch = self._connection.execute(
            "SELECT (SELECT min(received_us) FROM entry), (SELECT max(batch) FROM entry WHERE batch IS NOT NULL)"
        ).fetchone()
        held = [since for since, _ in self.lost if since != EPOCH]
        if oldest is not None:
            held.append(EPOCH + oldest * MICROSECOND)
        self.oldest_received_at = min(held, default=None)
        if self.count == 0 and self.path.stat().st_size >= SHRINK_BYTES_MIN:
            self._shrink()
        self.bytes = self._used_bytes()

    def _shrink(self) -> None:
        try:
            self._connection.execute("VACUUM")  # It copies what is left, which is next to nothing.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            logger.warning("the empty spool %s does not return its disk space for now: %s", self.path, error)

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _connect(path: Path, *, bytes_max: int) -> sqlite3.Connection:
    """Open or create a spool file, in autocommit mode: transactions are written out."""
    # SQLite would make it readable for all users; its write-ahead log gets the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Only this process uses the file, so the index of the log can live in its memory: no third file, and no page of
        # a shared mapping that a full disk cannot provide. It has to be set before the log is opened.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.executescript(SCHEMA)
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(bytes_max // page_size, 1)}")
    except BaseException:
        connection.close()
        raise
    return connection
