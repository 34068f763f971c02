"""The place for check-ins while PostgreSQL cannot take them: a local SQLite file that survives `kill -9` (shell).

One file for each ingest process, which holds it by a lock that the kernel takes back when the process dies; the next
process then adopts the file, and with it the node that its name stands for.

    <node id>.spool   SQLite in WAL mode with synchronous=FULL: `append` returns when the disk has it (P1)
    <node id>.lock    locked by flock(2) for as long as somebody uses the file; never deleted, or two could lock "it"

The spool knows requests, not what they mean: they are kept as they came and decoded when they are applied. Entries are
numbered for ever (`seq`), also across restarts, so that PostgreSQL can remember the newest one that it has.

An entry carries the number of a batch if that batch's COMMIT was sent and never answered. Whether it is stored is known
when the node's row can be locked; `settle` then either forgets the entry or makes it an ordinary one.

All calls come from one thread at a time. The attributes `count`, `bytes`, `oldest_received_at`, `newest_batch` and
`lost` are kept in memory and may be read from any thread.
"""

import fcntl
import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

import msgspec

from checkins.protocols.request import IngestRequest
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

FORMAT = 1
"""How a request is written: a msgpack map of its fields. A number of its own for each entry, since a file outlives the
version of Watchclock that wrote it."""
READ_BYTES_MAX = 16 << 20
"""Requests read at once, in bytes: one body may be as large as this, and a thousand of them would not fit in memory."""
SHRINK_BYTES_MIN = 1 << 20
"""An empty spool gives its disk space back if it has at least this much."""
ALONE_AFTER_DEATHS = 2
"""An entry with which the process ended so often is taken alone the next time."""
GIVEN_UP_AFTER_DEATHS = 3
"""An entry with which the process ended so often is not tried again, but kept as failed (D14, D36)."""
ALONE_AFTER_FAILURES = 3
"""The same for an entry whose batch broke off in a way that the batch may have brought about."""
GIVEN_UP_AFTER_FAILURES = 20
"""More than by deaths: it may well be PostgreSQL, which is slow, or is restarted again and again."""
SALVAGED_MAX = 1_000_000
"""Numbers that are tried, from the newest back, where a damaged spool cannot say which of them it has."""
LOST = "-lost"
"""What the name of a damaged file has behind it for the number of its entries that could not be read."""
SALVAGING = "-salvaging"
"""The same for a file that is there until all that can be read is stored elsewhere: until then, nothing is."""
HEAD = "-head"
"""The same for the first page of a damaged file, while another one stands in its place."""
HEAD_BYTES = 4096
"""The first page of a spool: what is where in it, the same in every spool."""
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""How SQLite calls a file that is not as it was written; a page that the disk cannot read is an error of input."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SCHEMA = """
    CREATE TABLE IF NOT EXISTS entry (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        batch INTEGER,
        received_us INTEGER NOT NULL,
        format INTEGER NOT NULL,
        request BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS entry_received ON entry (received_us);
    CREATE INDEX IF NOT EXISTS entry_uncertain ON entry (batch) WHERE batch IS NOT NULL;
    CREATE TABLE IF NOT EXISTS damaged (
        seq INTEGER PRIMARY KEY,
        batch INTEGER,
        received_us INTEGER NOT NULL,
        format INTEGER NOT NULL,
        request BLOB NOT NULL,
        error TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS begun (id INTEGER PRIMARY KEY CHECK (id = 1), first INTEGER, last INTEGER);
    CREATE TABLE IF NOT EXISTS tried (seq INTEGER PRIMARY KEY, deaths INTEGER NOT NULL, failures INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS lost (since_us INTEGER NOT NULL, until_us INTEGER NOT NULL);
"""
TRIED = """
    INSERT INTO tried (seq, deaths, failures) SELECT seq, ?3, ?4 FROM entry WHERE seq BETWEEN ?1 AND ?2
        ON CONFLICT (seq) DO UPDATE SET deaths = deaths + excluded.deaths, failures = failures + excluded.failures
"""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(IngestRequest)


class SpoolError(Exception):
    """The spool cannot do what it was asked to do."""


class SpoolFullError(SpoolError):
    """The spool has reached its size bound, or the disk is full or broken; nothing of the call is stored."""


class SpoolUnusableError(SpoolError):
    """No spool can be opened in the directory."""


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """A request that waits. `batch` is the number of the batch in which it may be committed already, if any."""

    seq: int
    batch: int | None
    request: IngestRequest
    deaths: int = 0
    failures: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be taken alone (D36)."""
        return self.deaths >= ALONE_AFTER_DEATHS or self.failures >= ALONE_AFTER_FAILURES

    @property
    def is_given_up(self) -> bool:
        """Whether it is not to be tried any more."""
        return self.deaths >= GIVEN_UP_AFTER_DEATHS or self.failures >= GIVEN_UP_AFTER_FAILURES

    @property
    def tries(self) -> int:
        """How often it was tried in vain."""
        return self.deaths + self.failures


def _repairing(call: Callable[Concatenate["Spool", P], T]) -> Callable[Concatenate["Spool", P], T]:
    """Do it again, once, with what can be read of a file that turns out to be damaged (D43)."""

    @wraps(call)
    def repaired(spool: "Spool", *arguments: P.args, **options: P.kwargs) -> T:
        try:
            return call(spool, *arguments, **options)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            spool.salvage(error)
            return call(spool, *arguments, **options)

    return cast("Callable[Concatenate[Spool, P], T]", repaired)


class Spool:
    """An open spool file, locked for this process. Made by `open` and `open_orphan`."""

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

    A begin that the file cannot tell is 1970. That does not hold the watermark: it is told before the node registers.
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
            _sync_directory(directory)
            self.count = self._connection.execute("SELECT count(*) FROM entry").fetchone()[0]
            self._count_death()
            self._load_losses()
            self._refresh()
        except BaseException:
            self._connection.close()  # Or what is left of it would lock the file for who reads what can be read.
            raise

    @classmethod
    def open(cls, directory: Path, *, bytes_max: int) -> "Spool":
        """Adopt the first spool of the directory that nobody uses, or start a new one under a new node id.

        Makes the directory if it is not there. A file that is no spool any more is set aside with a logged error.
        Raises SpoolUnusableError.
        """
        try:
            if not directory.exists():
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                _sync_directory(directory.parent)
            for spool in _unlocked(directory, bytes_max=bytes_max):
                return spool
            while True:
                node_id = uuid.uuid4()
                lock = _try_lock(_lock_path(directory, node_id), create=True)
                if lock is not None:  # Else a process that looks for a spool was faster, and has this one.
                    return _open_locked(directory, node_id, lock, bytes_max=bytes_max, is_new=True)
        except (OSError, sqlite3.Error) as error:
            raise SpoolUnusableError(f"no spool can be kept in {directory} (SPOOL_DIRECTORY): {error}") from error

    @classmethod
    def open_orphan(cls, directory: Path, *, bytes_max: int, waited_for: Collection[uuid.UUID] = ()) -> "Spool | None":
        """Return a spool of a process that died, if it holds entries that wait; None if there is none.

        Also an empty one that has lost something, or if its node is among those that the clock waits for: somebody has
        to take leave for it.
        For a live process that drains it, closes it and asks again. The node of that spool has to be registered, like
        any other, before its entries are applied.
        """
        for spool in _unlocked(directory, bytes_max=bytes_max):
            if spool.count or spool.lost or spool.node_id in waited_for:
                return spool
            spool.close()
        return None

    @_repairing
    def append(self, entries: Sequence[tuple[IngestRequest, int | None]]) -> None:
        """Store requests behind all others, all or nothing; they are on the disk when this returns.

        With each comes the number of the batch in which it may be committed already, or None. Raises SpoolFullError.
        (If it is the disk that fails in the very moment of the commit, a crash right after may bring the entries back.)
        """
        if not entries:
            return
        rows = [(batch, _microseconds(request.received_at), FORMAT, _encode(request)) for request, batch in entries]
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
                    entry = SpoolEntry(seq, batch, _decode(format_number, request), deaths or 0, failures or 0)
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
        """Go on in a new file with what can be read, in order and under its numbers; the damaged one stays beside it.

        What is lost is counted in the log (D43).
        """
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        kept = _set_file_aside(self.path, error)
        try:
            self._connection = _connect(self.path, bytes_max=self._bytes_max)
            self.take_over(kept, oldest_us=_microseconds(self.oldest_received_at or utcnow()))
        except BaseException:
            self._connection.close()
            _put_back(self.path, kept)
            # Not read before the next call, which tries it again.
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            raise

    def take_over(self, kept: Path, *, oldest_us: int = 0) -> None:
        """Store what can be read of a damaged file, under its numbers, and note in which time something was lost.

        `oldest_us` is the oldest reception time that can have been in it. Raises SpoolFullError.
        """
        read = lost = 0
        losses = _Losses(oldest_us, _microseconds(utcnow()))
        with _open_damaged(kept) as damaged, self._transaction():
            self._number_from(_last_number(damaged))
            tries, begun = _tries(damaged), _begun(damaged)
            for seq, received_us in _numbers(damaged):
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
                    if seq in tries:  # Or what ends the process would be tried as often once more (D36).
                        self._connection.execute("INSERT INTO tried VALUES (?, ?, ?)", (seq, *tries[seq]))
            if begun is not None:
                self._connection.execute("INSERT OR REPLACE INTO begun VALUES (1, ?, ?)", begun)
            self._note_lost([*losses.end(), *_losses(damaged)])
        logger.error(
            "the spool %s was damaged: %d entries of it could be read and are stored, %d could not and stay in %s",
            self.path,
            read,
            lost,
            kept,
        )
        with suppress(OSError):
            _beside(kept, LOST).write_text(str(lost))
        _beside(kept, SALVAGING).unlink()
        self.count = read
        if not self._is_begun:
            self._count_death()
        self._load_losses()
        self._refresh()

    def begin_afresh(self) -> None:
        """Go on in a new file, of which nobody knows what was in the one before, with numbers that none there had."""
        with self._transaction():
            self._number_from(None)
            self._note_lost([(0, _microseconds(utcnow()))])
        self._load_losses()

    @_repairing
    def forget_losses(self, lost: Sequence[tuple[datetime, datetime]]) -> None:
        """Remove these from `lost`: PostgreSQL knows them. Raises SpoolFullError."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM lost WHERE since_us = ? AND until_us = ?",
                [(_microseconds(since), _microseconds(until)) for since, until in lost],
            )
        self._load_losses()
        self._refresh()

    def _note_lost(self, spans: Sequence[tuple[int, int]]) -> None:
        self._connection.executemany("INSERT INTO lost (since_us, until_us) VALUES (?, ?)", spans)

    def _load_losses(self) -> None:
        rows = self._connection.execute("SELECT DISTINCT since_us, until_us FROM lost").fetchall()
        self.lost = tuple((EPOCH + since * MICROSECOND, EPOCH + until * MICROSECOND) for since, until in rows)

    def _number_from(self, last: int | None) -> None:
        """Go on behind this number; behind all that there can have been if it is None.

        PostgreSQL knows the newest number that it has, and takes what comes under an older one for stored. Numbers
        count single entries, so no node has ever had as many as there are microseconds since 1970.
        """
        number = _microseconds(utcnow()) if last is None else last
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'entry'")
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('entry', ?)", (number,))

    def begin(self, entries: Sequence[SpoolEntry]) -> None:
        """Note that these entries are being tried: a process that opens the spool with such a note counts a death."""
        self._is_begun = True
        self._connection.execute("PRAGMA synchronous = NORMAL")  # It has to outlive the process, not the machine.
        try:
            with suppress(SpoolFullError), self._transaction():  # A full disk keeps nobody from making room.
                first_and_last = entries[0].seq, entries[-1].seq
                self._connection.execute("INSERT OR REPLACE INTO begun VALUES (1, ?, ?)", first_and_last)
        finally:
            self._connection.execute("PRAGMA synchronous = FULL")

    def end(self, entries: Sequence[SpoolEntry], *, failures: int = 0) -> None:
        """Note that the try is over, and how many failures those of the entries have more that are still there."""
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

    def close(self) -> None:
        """Close the file and let another process have it. Closing twice does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        try:
            self._connection.close()
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
                losses = _Losses(_microseconds(self.oldest_received_at or now), _microseconds(now))
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
            if _is_damage(error):
                raise
            raise SpoolFullError(f"the spool {self.path} cannot be written: {error}") from error

    def _refresh(self) -> None:
        """Read again what is kept in memory, by index, and give disk space back if nothing waits any more."""
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
            logger.warning("the empty spool %s keeps its disk space for now: %s", self.path, error)

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


class _Losses:
    """Between which reception times something was lost (pure): a span for each row of entries that cannot be read.

    It is that of these entries if their times are known, else that of the entries around them. Microseconds since 1970.
    """

    def __init__(self, oldest: int, now: int) -> None:
        self._spans: list[tuple[int, int]] = []
        self._before, self._now = oldest, now
        self._gap: list[int | None] = []

    def lose(self, at: object) -> None:
        """Note that an entry, or nobody knows how many, cannot be read; its reception time if that is known."""
        self._gap.append(self._sound(at))

    def find(self, at: object) -> None:
        """Note the reception time of the next entry that can be read."""
        known = self._sound(at)
        if known is None:
            return
        if self._gap:
            times = [lost for lost in self._gap if lost is not None]
            if len(times) < len(self._gap):
                times += [self._before, known]
            self._spans.append((min(times), max(times)))
            self._gap = []
        self._before = known

    def end(self) -> list[tuple[int, int]]:
        """Return the spans. What is lost behind the last entry was received before now."""
        self.find(self._now)
        return self._spans

    def _sound(self, at: object) -> int | None:
        return at if isinstance(at, int) and 0 <= at <= self._now else None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether what the file holds cannot be read: it is no database, its pages are torn, or the disk says so."""
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_IOERR_READ or (code or 0) & 0xFF in DAMAGE


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _encode(request: IngestRequest) -> bytes:
    try:
        return _encoder.encode(request)
    except UnicodeEncodeError:  # A lone surrogate. The edge makes none, but one request may not cost the others.
        return _encoder.encode(
            msgspec.structs.replace(
                request,
                method=_valid(request.method),
                path=_valid(request.path),
                query=_valid(request.query),
                headers={_valid(name): _valid(value) for name, value in request.headers.items()},
            )
        )


def _valid(text: str) -> str:
    return text.encode(errors="replace").decode()


def _decode(format_number: int, request: bytes) -> IngestRequest:
    if format_number != FORMAT:
        raise msgspec.DecodeError(f"format {format_number} is not known, only {FORMAT}")
    return _decoder.decode(request)


def _unlocked(directory: Path, *, bytes_max: int) -> Iterator[Spool]:
    """Lock and open the spools of the directory that nobody uses, one after the other; the caller closes them."""
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
            _put_back(path, mark.with_name(mark.name.removesuffix(SALVAGING)))
        is_gone = not is_new and not (path.exists() and path.stat().st_size)
        try:
            spool = Spool(directory, node_id, lock, bytes_max=bytes_max)
            if is_gone:  # Its node may have stored more than this file knows, or less than the one before had.
                spool.begin_afresh()
            return spool
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            kept = _set_file_aside(path, error)
            try:
                spool = Spool(directory, node_id, lock, bytes_max=bytes_max)
                try:
                    spool.take_over(kept)
                except BaseException:
                    spool._connection.close()
                    raise
            except BaseException:
                _put_back(path, kept)
                raise
            return spool
    except BaseException:
        os.close(lock)
        raise


@contextmanager
def _open_damaged(kept: Path) -> Iterator[sqlite3.Connection]:
    """Open a damaged file, for as long with a new first page if it has none that can be read.

    Without that page nobody knows which tables there are and where they begin. The two that matter begin where they do
    in every spool; where the indexes are is not certain, so the new page knows none.
    """
    head = _beside(kept, HEAD)
    damaged = sqlite3.connect(kept, isolation_level=None, check_same_thread=False)
    try:
        damaged.execute("PRAGMA locking_mode = EXCLUSIVE")
        damaged.execute("SELECT received_us, request FROM entry NOT INDEXED WHERE seq = 0").fetchone()
    except sqlite3.DatabaseError as error:
        damaged.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise
        with kept.open("r+b") as file:
            head.write_bytes(file.read(HEAD_BYTES))
            file.seek(0)
            file.write(_make_head())
        damaged = sqlite3.connect(kept, isolation_level=None, check_same_thread=False)
    try:
        yield damaged
    finally:
        damaged.close()
        _restore_head(kept)


def _restore_head(kept: Path) -> None:
    """Give a damaged file its own first page back: it stays as it was found."""
    head = _beside(kept, HEAD)
    if head.exists():
        with kept.open("r+b") as file:
            file.write(head.read_bytes())
        head.unlink()


def _make_head() -> bytes:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        empty.execute(f"PRAGMA page_size = {HEAD_BYTES}")
        empty.execute(SCHEMA.partition(";")[0])
        head = bytearray(empty.serialize()[:HEAD_BYTES])
    head[18:20] = b"\2\2"  # It is in WAL mode.
    head[28:32] = bytes(4)  # How many pages there are is seen by the size of the file.
    return bytes(head)


def _tries(damaged: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Return how often entries of a damaged file were tried, deaths and failures, as far as that can be read."""
    tries: dict[int, tuple[int, int]] = {}
    with suppress(sqlite3.DatabaseError):
        for seq, deaths, failures in damaged.execute("SELECT seq, deaths, failures FROM tried ORDER BY seq"):
            tries[seq] = deaths, failures
    return tries


def _begun(damaged: sqlite3.Connection) -> tuple[int, int] | None:
    """Return the first and the last of the entries that were being tried, if it can be read."""
    with suppress(sqlite3.DatabaseError):
        row = damaged.execute("SELECT first, last FROM begun").fetchone()
        return None if row is None else (row[0], row[1])
    return None


def _losses(damaged: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return what was lost already and is not told, if it can be read."""
    losses: list[tuple[int, int]] = []
    with suppress(sqlite3.DatabaseError):
        for since, until in damaged.execute("SELECT since_us, until_us FROM lost"):
            losses.append((since, until))
    return losses


def _last_number(damaged: sqlite3.Connection) -> int | None:
    """Return the newest number that a damaged file has given; None if it cannot say."""
    try:
        row = damaged.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
    except sqlite3.DatabaseError:
        return None
    return row[0] if row is not None and isinstance(row[0], int) else None


def _numbers(damaged: sqlite3.Connection) -> list[tuple[int | None, int | None]]:
    """Return the numbers of the entries of a damaged file, and their reception times as far as they are known.

    By its index, else what is there, and all in between: the table is read from both ends up to the first page that
    cannot be, and what lies between is tried one by one. None stands where there is more that nobody can count.
    """
    with suppress(sqlite3.DatabaseError):
        return sorted(damaged.execute("SELECT seq, received_us FROM entry INDEXED BY entry_received").fetchall())
    oldest, is_whole = _read_until_damage(damaged, "SELECT seq FROM entry NOT INDEXED ORDER BY seq")
    if is_whole:
        return [(seq, None) for seq in oldest]
    newest, _ = _read_until_damage(damaged, "SELECT seq FROM entry NOT INDEXED ORDER BY seq DESC")
    last = _last_number(damaged)
    low = oldest[-1] if oldest else 0
    # The module sqlite3 reads a row ahead, so the last that can be read is not among `oldest`.
    high = newest[-1] if newest else (last or low + bool(oldest)) + 1
    tried_from = max(low + 1, high - SALVAGED_MAX)
    numbers: list[int | None] = [*oldest]
    if tried_from > low + 1:
        numbers.append(None)
    numbers += range(tried_from, high)
    if not newest and last is None:
        numbers.append(None)
    return [(seq, None) for seq in (*numbers, *reversed(newest))]


def _read_until_damage(damaged: sqlite3.Connection, query: str) -> tuple[list[int], bool]:
    """Return what a query gives before it fails, and whether it does not."""
    numbers = []
    try:
        for (number,) in damaged.execute(query):
            numbers.append(number)
    except sqlite3.DatabaseError:
        return numbers, False
    return numbers, True


def _set_file_aside(path: Path, error: Exception) -> Path:
    """Rename a spool and its write-ahead log so that they are still one to SQLite: the log may hold the newest.

    Until the mark beside it is deleted they are what counts, and not the new spool: `_put_back` has the details.
    """
    kept = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.spool-damaged")
    _beside(kept, SALVAGING).touch(mode=0o600)
    for suffix in ("-wal", ""):
        if _beside(path, suffix).exists():
            _beside(path, suffix).rename(_beside(kept, suffix))
            logger.error(
                "the spool %s cannot be read and is set aside as %s: %s",
                _beside(path, suffix),
                _beside(kept, suffix),
                error,
            )
    _sync_directory(path.parent)
    return kept


def _put_back(path: Path, kept: Path) -> None:
    """Undo `_set_file_aside`, of which the process or the disk may have left any part: nothing is lost by a new try.

    While the file itself is aside, what has its name is a new spool, without anything that is not in the old one. Its
    log must never be taken for that of the old one, nor the other way round.
    """
    if kept.exists():
        _restore_head(kept)
        _beside(path, "-wal").unlink(missing_ok=True)
        kept.rename(path)
    if _beside(kept, "-wal").exists():
        _beside(kept, "-wal").rename(_beside(path, "-wal"))
    for suffix in (LOST, SALVAGING):
        _beside(kept, suffix).unlink(missing_ok=True)
    _sync_directory(path.parent)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, *, bytes_max: int) -> sqlite3.Connection:
    """Open or create a spool file, in autocommit mode: transactions are written out."""
    # SQLite would make it readable for everybody; its write-ahead log takes after it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Only this process uses the file, so the index of the log can live in its memory: no third file, and no page of
        # a shared mapping that a full disk cannot provide. It has to be said before the log is opened.
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


def find_damage(directory: Path) -> tuple[int, int]:
    """Return how many damaged files are kept in the directory, and how many entries of them could not be read (D43)."""
    files = lost = 0
    with suppress(OSError):
        for path in directory.glob("*.spool-damaged"):
            files += 1
            with suppress(OSError, ValueError):
                lost += int(_beside(path, LOST).read_text())
    return files, lost


def _sync_directory(directory: Path) -> None:
    """Make the names of new files durable: an fsync of a file does not cover its entry in the directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
