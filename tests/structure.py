"""How an app is built: `python -m tests.structure checkins` counts its rooms and floors, files and lines.

Rooms are the modules that lie in the app itself, and its packages as one each. Floors are the longest chain of imports
from room to room. Migrations are neither.
"""

import statistics
import sys
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent


def sources(app: str) -> list[Path]:
    """Return the files of an app that people write."""
    return [path for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts]


def length(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text().splitlines())


def rooms(app: str) -> set[str]:
    """Return the names of an app's rooms."""
    entries = {path.relative_to(ROOT / app).parts[0].removesuffix(".py") for path in sources(app)}
    return entries - {"__init__"}


def longest_chain(app: str) -> list[str]:
    """Return rooms of which each imports the next one, as many as there are in a row. Circles count once."""
    graph = grimp.build_graph(app, exclude_type_checking_imports=True, cache_dir=None)
    below: dict[str, set[str]] = {room: set() for room in rooms(app)}
    for module in graph.modules:
        importer = _room(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if importer in below and _room(imported) in below.keys() - {importer}:
                below[importer].add(_room(imported))

    @cache
    def chain(room: str, above: frozenset[str] = frozenset()) -> list[str]:
        above |= {room}
        chains = [chain(lower, above) for lower in sorted(below[room] - above)]
        return [room, *max(chains, key=len, default=[])]

    return max((chain(room) for room in sorted(below)), key=len)


def _room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def main() -> None:
    """Print what an app is built of."""
    for app in sys.argv[1:]:
        lengths = {path: length(path) for path in sources(app)}
        largest = max(lengths, key=lambda path: lengths[path])
        floors = longest_chain(app)
        print(  # noqa: T201 - a program for people
            f"{app}: {len(rooms(app))} rooms on {len(floors)} floors ({' > '.join(floors)}), {len(lengths)} files with"
            f" {sum(lengths.values())} lines, median {statistics.median(lengths.values()):g},"
            f" largest {largest.relative_to(ROOT)} with {lengths[largest]}"
        )


if __name__ == "__main__":
    main()
