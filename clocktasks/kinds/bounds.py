"""How much of a pass is held in memory, and how much a pass does at once."""

from collections.abc import Iterator

CHUNK_ROWS_MAX = 10_000
"""Rows that are held in memory at once. A tick of one shard is one transaction, whatever it marks."""


PASS_ROWS_MAX = 2_000
"""How much more than one tick a pass does: so many environments, and as many slots or runs. No more than a chunk."""


ROUNDS_MAX = 100
"""How often a pass stops to count ends of runs and goes on: a round has about ten statements."""


def chunks(ids: list[int]) -> Iterator[list[int]]:
    """Yield the ids in pieces of which the rows fit in memory."""
    for start in range(0, len(ids), CHUNK_ROWS_MAX):
        yield ids[start : start + CHUNK_ROWS_MAX]
