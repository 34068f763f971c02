"""Pages of a spool that a disk has spoilt."""

import contextlib
import random
import sqlite3
from pathlib import Path

PAGE, TABLE_LEAF = 4096, 0x0D
"""How SQLite writes a page of a table."""


def damage(path: Path, chance: random.Random) -> int:
    """Overwrite up to twenty pages that hold nothing but the abuser's; returns how many."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        # What is in the log only is brought into the file first, as by the next start.
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = path.read_bytes()
    ours = [
        at
        for at in range(PAGE, len(pages), PAGE)
        if pages[at] == TABLE_LEAF
        and b"spooled-abuse" in pages[at : at + PAGE]
        and b"job-" not in pages[at : at + PAGE]
    ]
    chosen = chance.sample(ours, min(20, len(ours)))
    with path.open("r+b") as file:
        for at in chosen:
            file.seek(at)
            file.write(chance.randbytes(PAGE))
    return len(chosen)
