"""Reading a damaged spool, and setting its file aside meanwhile (D43; shell)."""

import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)


SALVAGED_MAX = 1_000_000
"""Numbers to try, from the newest back, where a damaged spool does not show which of them it has."""


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


class Losses:
    """Between which reception times something was lost (pure): a span for each row of entries that cannot be read.

    It is that of these entries if their times are known, else that of the entries around them. Microseconds since 1970.
    """

    def __init__(self, oldest: int, now: int) -> None:
        self._spans: list[tuple[int, int]] = []
        self._before, self._now = oldest, now
        self._gap: list[int | None] = []

    def lose(self, at: object) -> None:
        """Note that an entry, or an unknown number of them, cannot be read; its reception time if that is known."""
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


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the contents cannot be read: no database, torn pages, or a read error of the disk."""
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_IOERR_READ or (code or 0) & 0xFF in DAMAGE


@contextmanager
def open_damaged(kept: Path) -> Iterator[sqlite3.Connection]:
    """Open a damaged file, with a temporary new first page if its own cannot be read.

    That page lists the tables and where they begin. The two important ones begin at the same place in every spool; the
    place of the indexes is not certain, so the new page lists none.
    """
    head = beside(kept, HEAD)
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
    head = beside(kept, HEAD)
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


def tries_in(damaged: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Return how often entries of a damaged file were tried, deaths and failures, as far as that can be read."""
    tries: dict[int, tuple[int, int]] = {}
    with suppress(sqlite3.DatabaseError):
        for seq, deaths, failures in damaged.execute("SELECT seq, deaths, failures FROM tried ORDER BY seq"):
            tries[seq] = deaths, failures
    return tries


def begun_in(damaged: sqlite3.Connection) -> tuple[int, int] | None:
    """Return the first and the last of the entries that were being tried, if it can be read."""
    with suppress(sqlite3.DatabaseError):
        row = damaged.execute("SELECT first, last FROM begun").fetchone()
        return None if row is None else (row[0], row[1])
    return None


def losses_in(damaged: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return the earlier losses that PostgreSQL does not know of, if they can be read."""
    losses: list[tuple[int, int]] = []
    with suppress(sqlite3.DatabaseError):
        for since, until in damaged.execute("SELECT since_us, until_us FROM lost"):
            losses.append((since, until))
    return losses


def last_number(damaged: sqlite3.Connection) -> int | None:
    """Return the newest number that a damaged file has used; None if that cannot be read."""
    try:
        row = damaged.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
    except sqlite3.DatabaseError:
        return None
    return row[0] if row is not None and isinstance(row[0], int) else None


def numbers_in(damaged: sqlite3.Connection) -> list[tuple[int | None, int | None]]:
    """Return the numbers of the entries of a damaged file, and their reception times as far as they are known.

    By its index, else what is there, and all in between: the table is read from both ends up to the first page that
    cannot be, and what lies between is tried one by one. None stands for an unknown number of further entries.
    """
    with suppress(sqlite3.DatabaseError):
        return sorted(damaged.execute("SELECT seq, received_us FROM entry INDEXED BY entry_received").fetchall())
    oldest, is_whole = _read_until_damage(damaged, "SELECT seq FROM entry NOT INDEXED ORDER BY seq")
    if is_whole:
        return [(seq, None) for seq in oldest]
    newest, _ = _read_until_damage(damaged, "SELECT seq FROM entry NOT INDEXED ORDER BY seq DESC")
    last = last_number(damaged)
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


def set_file_aside(path: Path, error: Exception) -> Path:
    """Rename a spool and its write-ahead log so that they are still one to SQLite: the log may hold the newest.

    Until the mark beside it is deleted they are what counts, and not the new spool: `put_back` has the details.
    """
    kept = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.spool-damaged")
    beside(kept, SALVAGING).touch(mode=0o600)
    for suffix in ("-wal", ""):
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(kept, suffix))
            logger.error(
                "the spool %s cannot be read and is set aside as %s: %s",
                beside(path, suffix),
                beside(kept, suffix),
                error,
            )
    sync_directory(path.parent)
    return kept


def put_back(path: Path, kept: Path) -> None:
    """Undo `set_file_aside`, of which the process or the disk may have left any part: nothing is lost by a new try.

    While the file itself is aside, what has its name is a new spool, without anything that is not in the old one. Its
    log must never be used for the old one, or the other way round.
    """
    if kept.exists():
        _restore_head(kept)
        beside(path, "-wal").unlink(missing_ok=True)
        kept.rename(path)
    if beside(kept, "-wal").exists():
        beside(kept, "-wal").rename(beside(path, "-wal"))
    for suffix in (LOST, SALVAGING):
        beside(kept, suffix).unlink(missing_ok=True)
    sync_directory(path.parent)


def beside(path: Path, suffix: str) -> Path:
    """Return the file that belongs to another one and has its name with a suffix."""
    return path.with_name(path.name + suffix)


def find_damage(directory: Path) -> tuple[int, int]:
    """Return how many damaged files are in the directory, and how many entries of them could not be read (D43)."""
    files = lost = 0
    with suppress(OSError):
        for path in directory.glob("*.spool-damaged"):
            files += 1
            with suppress(OSError, ValueError):
                lost += int(beside(path, LOST).read_text())
    return files, lost


def sync_directory(directory: Path) -> None:
    """Make the names of new files durable: an fsync of a file does not cover its entry in the directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
