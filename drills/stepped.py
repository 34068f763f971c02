"""A program on a host whose clock is wrong, and is put wrong while it runs: `python -m drills.stepped FILE MODULE ...`.

The file says by how many seconds the wall clock of this process and its children is ahead, and is read all the time.
Whatever asks for the time of day is told so; `time.monotonic` is left alone, as it is when a clock is really set.
"""

import os
import runpy
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

LOOK_SECONDS = 0.05


def main() -> None:
    """Run the module as `python -m` does, on a clock that the file steps."""
    path = Path(sys.argv[1])
    now = datetime.now(UTC)  # noqa: TID251 - it is this very clock that is put wrong
    with time_machine.travel(now, tick=True) as traveller:
        traveller.time_ns()  # From its first reading on it runs.
        steps = Steps(path, traveller)
        steps.follow()
        steps.watch()
        os.register_at_fork(after_in_child=steps.watch)
        sys.argv = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


class Steps:
    """What the file says, and what the clock has been told of it."""

    def __init__(self, path: Path, traveller: time_machine.Traveller) -> None:
        self._path = path
        self._traveller = traveller
        self._seconds = 0.0

    def follow(self) -> None:
        """Step the clock to where the file wants it."""
        seconds = float(self._path.read_text())
        if seconds != self._seconds:
            self._traveller.shift(timedelta(seconds=seconds - self._seconds))
            self._seconds = seconds

    def watch(self) -> None:
        """Follow the file from now on, in a thread, which a fork does not take along."""
        threading.Thread(target=self._watch, name="steps", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.follow()


def write_step(path: Path, seconds: float) -> None:
    """Say by how much a clock is wrong, so that no reader sees half of it."""
    new = path.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(path)


if __name__ == "__main__":
    main()
