"""How much memory `make run` takes at rest: starts an instance of its own, leaves it alone, and adds up its processes.

    python -m benchmarks.bench_memory [--rest 30] [--home DIRECTORY]

Counted is the proportional set size (PSS): a page that several processes share counts in parts, so that the sum of all
is what the machine would get back. Private memory (USS) is what one process alone would give back. With --home it
looks at the instance that runs there already, and starts none. Prints a table, then one JSON line. Linux only.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from project.local.children import BASE_DIR
from project.local.engines import free_port

START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 30.0
GREETING_ENDS = "Ctrl-C stops it."
MIB = 1 << 20
PARTS = ("supervisor", "nursery", "web", "worker", "delivery", "beat", "postgres", "valkey")


@dataclass(frozen=True)
class Usage:
    """What one process takes."""

    part: str
    process: str
    pss: int
    uss: int


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rest", type=float, default=30.0, help="seconds to leave it alone before it is measured")
    parser.add_argument("--home", type=Path, help="the data directory of an instance that runs")
    options = parser.parse_args()
    console = Console(stderr=True)
    with contextlib.nullcontext(options.home) if options.home else running_instance(console) as home:
        console.print(f"At rest for {options.rest:g} s ...")
        time.sleep(options.rest)
        usages = measure(home)
    console.print(as_table(usages))
    print(json.dumps(summed_up(usages)))


@contextlib.contextmanager
def running_instance(console: Console) -> Iterator[Path]:
    """Start an instance in a directory of its own, give the directory when it all runs, and end it."""
    with tempfile.TemporaryDirectory(prefix="watchclock-memory-") as name:
        home = Path(name) / "home"
        home.parent.chmod(0o711)  # The engines run as another user if we are root.
        kept = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
        output = home.parent / "output"
        with output.open("w") as file:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "project.local.supervisor"],
                cwd=BASE_DIR,
                env=kept | {"WATCHCLOCK_HOME": str(home), "WATCHCLOCK_PORT": str(free_port())},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            console.print("Starting an instance ...")
            deadline = time.monotonic() + START_SECONDS_MAX
            while GREETING_ENDS not in output.read_text() or "beat" not in pids_of(home):
                if supervisor.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"it does not start:\n{output.read_text()}")
                time.sleep(0.1)
            yield home
        finally:
            supervisor.send_signal(signal.SIGINT)
            supervisor.wait(STOP_SECONDS_MAX)


def pids_of(home: Path) -> dict[str, int]:
    """The pids that an instance has written down, by name."""
    pids: dict[str, int] = json.loads((home / "instance.json").read_text())["pids"]
    return pids


def measure(home: Path) -> list[Usage]:
    """What each process of an instance takes now, those of a part together."""
    pids = pids_of(home)
    parts = {pid: part_of(name) for name, pid in pids.items()}
    usages = [usage_of("supervisor", psutil.Process(pids["supervisor"]))]
    for name, pid in pids.items():
        if name == "supervisor":
            continue
        leader = psutil.Process(pid)
        everybody = (leader, *leader.children(recursive=True))
        usages += [usage_of(parts.get(one.pid, part_of(name)), one) for one in everybody]
    return sorted(usages, key=lambda usage: (PARTS.index(usage.part), -usage.pss))


def part_of(name: str) -> str:
    """To which part a child of the supervisor belongs: worker-2 is a worker."""
    return name.partition("-")[0]


def usage_of(part: str, process: psutil.Process) -> Usage:
    """What the kernel says about a process."""
    memory = process.memory_full_info()
    return Usage(part, " ".join(process.cmdline())[:70] or process.name(), memory.pss, memory.uss)


def as_table(usages: list[Usage]) -> Table:
    """The processes, and the sum of each part."""
    table = Table("part", "process", title="Memory at rest, MiB")
    for name in ("PSS", "private", "part"):
        table.add_column(name, justify="right")
    for number, usage in enumerate(usages):
        is_first = number == 0 or usages[number - 1].part != usage.part
        whole = f"{part_mib(usages, usage.part):.1f}" if is_first else ""
        table.add_row(
            usage.part if is_first else "", usage.process, f"{usage.pss / MIB:.1f}", f"{usage.uss / MIB:.1f}", whole
        )
    table.add_section()
    table.add_row("all", f"{len(usages)} processes", f"{total_mib(usages):.1f}", "", "")
    return table


def summed_up(usages: list[Usage]) -> dict[str, float | dict[str, float]]:
    """The figures for those who compare."""
    return {
        "total_mib": total_mib(usages),
        "by process": {part: part_mib(usages, part) for part in PARTS if any(one.part == part for one in usages)},
    }


def part_mib(usages: list[Usage], part: str) -> float:
    """The sum of one part."""
    return round(sum(usage.pss for usage in usages if usage.part == part) / MIB, 1)


def total_mib(usages: list[Usage]) -> float:
    """The sum of all."""
    return round(sum(usage.pss for usage in usages) / MIB, 1)


if __name__ == "__main__":
    main()
