"""Thousands of small installations in virtual time, each with its own seed: `make sim SEEDS=1000`.

Starts a PostgreSQL of its own. A seed that fails prints its number and what was found; asked for by that number alone
(`make sim SEEDS=17,`), the whole story is printed. The last line is JSON; the exit status is 1 if anything was found.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from project.local import engines

DATABASE = "watchclock_simulation"
console = Console(stderr=True)


def parse_seeds(text: str) -> Sequence[int]:
    """Read `17,42` as these seeds, `100-199` as a range, and a lonely `1000` as so many from a random one on.

    >>> parse_seeds("17,42"), parse_seeds("17,"), list(parse_seeds("5-7")), len(parse_seeds("1000"))
    ([17, 42], [17], [5, 6, 7], 1000)
    """
    if "," in text:
        return [int(seed) for seed in text.split(",") if seed]
    first, dash, last = text.partition("-")
    if dash:
        return range(int(first), int(last) + 1)
    start = random.SystemRandom().randrange(10**9)
    return range(start, start + int(text))


def main(doc: str = __doc__, home: str = "drills.simulation", command: str = "make sim") -> int:
    """Simulate the worlds of a package. Returns the exit status."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1000", help="how many (1000), which (17,42), or from and to (1-99)")
    seeds = parse_seeds(parser.parse_args().seeds)
    console.print(f"seeds {seeds[0]} to {seeds[-1]}")
    with tempfile.TemporaryDirectory(prefix="watchclock-simulation-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port(), durable=False)
        process = postgres.start(directory / "postgres.log")
        stack.callback(process.wait)
        stack.callback(process.send_signal, postgres.stop_signal)
        engines.wait_until_ready(postgres, process, directory / "postgres.log")
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "SECRET_KEY": "protects nothing in a simulation",
        }
        with contextlib.redirect_stdout(sys.stderr):
            figures = _run(seeds, home, command)
    print(json.dumps(figures))
    return 1 if figures["failed"] else 0


def _run(seeds: Sequence[int], home: str, command: str) -> dict[str, object]:
    import django

    django.setup()
    from clocktasks.playback.scratch import scratch_database

    runner = importlib.import_module(f"{home}.run")
    counts: Counter[str] = Counter()
    failed = []
    progress = Progress(*Progress.get_default_columns()[:1], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                        console=console)  # fmt: skip
    with scratch_database(DATABASE), runner.stage() as own, progress:
        begin = time.monotonic()
        for seed in progress.track(seeds, description="worlds"):
            result = runner.simulate(seed, own)
            counts.update(result.counts)
            if result.findings:
                failed.append(seed)
                lines = [*(result.trace if len(seeds) == 1 else ()), *result.findings]
                console.print(f"seed {seed}: {command} SEEDS={seed},", style="bold red")
                console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
            elif len(seeds) == 1:
                console.print("\n".join(result.trace), markup=False, highlight=False, soft_wrap=True)
        seconds = time.monotonic() - begin
    return {"seeds": len(seeds), "failed": failed, **counts, "ms_per_seed": round(seconds / len(seeds) * 1000)}


if __name__ == "__main__":
    sys.exit(main())
