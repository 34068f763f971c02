"""Is this version slower than an earlier one? Both, in turn, in one run: a machine's own pace changes by a quarter.

Checks the earlier version out beside this one, with an environment of its own, and lets both run the same benchmarks,
`--rounds` times, each time in the other order. Prints each figure's medians and their ratio; the last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS: dict[str, Sequence[str]] = {
    "ingest": ("benchmarks.bench_ingest", "--protocols", "ping,sentry_envelope", "--seconds", "8"),
    "clock": (
        *("benchmarks.bench_clock", "--environments", "100000", "--due", "100000", "--timeouts", "10000"),
        *("--growth", "0"),
    ),
}
NOTIFYING = {"ALERT_EMAIL_TO": "oncall@example.com", "EMAIL_URL": "smtp://127.0.0.1:1"}
"""As in production: some versions write no notifications where nobody is notified, which is less work."""
FIGURES = ("checkins_per_s", "p99_ms", "server_cpu_s", "due_per_s", "quiet_tick_ms", "timeouts_seconds", "worker_cpu_s")

console = Console(stderr=True)


def main() -> int:
    """Compare, and return the exit status: 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="the earlier version: a commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", default=",".join(BENCHMARKS), help="which, with commas between them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="watchclock-compare-") as name:
        Path(name).chmod(0o711)
        base = Path(name) / "base"
        _run(["git", "worktree", "add", "--detach", "--quiet", str(base), options.base], ROOT)
        try:
            _run(["make", "--silent", "install"], base)
            measured = _measure({"base": base, "now": ROOT}, options.parts.split(","), options.rounds)
        finally:
            _run(["git", "worktree", "remove", "--force", str(base)], ROOT)
    medians = {
        label: {side: statistics.median(values) for side, values in sides.items()} for label, sides in measured.items()
    }
    table = Table("figure", "base", "now", "now / base")
    for label, sides in medians.items():
        ratio = sides["now"] / sides["base"] if sides["base"] else float("nan")
        table.add_row(label, f"{sides['base']:,.2f}", f"{sides['now']:,.2f}", f"{ratio:.3f}")
    console.print(table)
    print(json.dumps({"base": options.base, "rounds": options.rounds, "medians": medians, "measured": measured}))
    return 0


def _measure(trees: dict[str, Path], parts: Sequence[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run the benchmarks in turn; returns by figure and side what each round measured."""
    measured: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        order = list(trees) if number % 2 == 0 else list(reversed(trees))
        for part in parts:
            for side in order:
                console.print(f"round {number + 1} of {rounds}: {part}, {side}")
                for figures in _figures(trees[side], BENCHMARKS[part]):
                    for name in FIGURES:
                        if figures.get(name) is not None:
                            label = " ".join([part, str(figures.get("protocol", "")), name]).replace("  ", " ")
                            measured.setdefault(label, {}).setdefault(side, []).append(figures[name])
    return measured


def _figures(tree: Path, arguments: Sequence[str]) -> list[dict[str, Any]]:
    output = _run([str(tree / ".venv" / "bin" / "python"), "-m", *arguments], tree)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def _run(command: Sequence[str], directory: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    environment |= NOTIFYING
    ended = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
