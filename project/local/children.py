"""The processes of `make run`: how each is started, revived and ended."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from project.local import engines
from project.local.nursery import CAN_FORK, Forked, Nursery

BASE_DIR = engines.BASE_DIR
Process = subprocess.Popen[bytes] | Forked


STOP_SECONDS_MAX = 5.0
"""How long web, worker and beat may finish what they do. Killing them after that loses nothing (P1, P3)."""


ENGINE_STOP_SECONDS_MAX = 30.0
"""How long the engines may take after that. Usually it is under a second; but PostgreSQL writes to the disk what it has
in memory, which takes a while if much has just been written, as by migrations, and others use the disk."""


RESTART_SECONDS = (0.5, 1, 2, 5, 10, 30)
"""Waits before the first, second, ... restart in a row; a child that has run long enough starts again at the front."""


WEB_RESTART_SECONDS = (0.0, 0.0, 0.0, 0.5, 1, 2)
"""Clients wait meanwhile, and few of them for long: at once a few times, and never seldom."""


STEADY_SECONDS = 60.0


WEB_STEADY_SECONDS = 5.0
"""A web that has served for so long does not fail at its start, which is all that waits are good for."""


REAP_SECONDS_MAX = 0.5
"""How long a process that was killed may take to be gone, if it is not in the middle of a write to the disk."""


@dataclass
class Child:
    """A process that is kept running.

    `process` is None before the first start and between an end and the restart that `restart_at` (monotonic) waits for.
    """

    name: str
    start: Callable[[], Process]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    restart_seconds: tuple[float, ...] = RESTART_SECONDS
    steady_seconds: float = STEADY_SECONDS
    process: Process | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    restarts_in_a_row: int = 0
    created: float = 0.0

    def launch(self) -> None:
        """Start the process."""
        self.process = self.start()
        self.started_at = time.monotonic()
        self.created = psutil.Process(self.process.pid).create_time()

    def revive(self) -> bool:
        """Notice an ended process and start it again when its wait is over. Returns whether the pid has changed."""
        if self.process is not None:
            exit_code = self.process.poll()
            if exit_code is None:
                return False
            end_group(self.process.pid, signal.SIGKILL)  # Its own children would hold on to port or database.
            reap_group(self.process.pid)
            now = time.monotonic()
            if now - self.started_at > self.steady_seconds:
                self.restarts_in_a_row = 0
            wait = self.restart_seconds[min(self.restarts_in_a_row, len(self.restart_seconds) - 1)]
            self.restarts_in_a_row += 1
            self.restart_at = now + wait
            self.process = None
            say(f"{self.name} ended ({describe_exit(exit_code)}); restarting it in {wait:g} s. Its log: {self.log}")
            return True
        if time.monotonic() < self.restart_at:
            return False
        try:
            self.launch()
        except OSError as error:  # No room for its log, no memory for another process: that may pass.
            wait = self.restart_seconds[-1]
            self.restart_at = time.monotonic() + wait
            say(f"{self.name} cannot be started: {explain_os_error(error)}; trying again in {wait:g} s.")
            return False
        say(f"{self.name} restarted.")
        return True


def program_arguments(*, worker_processes: int = 2) -> dict[str, list[str]]:
    """What to run besides the engines and the web: name and arguments to Python. Workers are worker, worker-2, ..."""

    def worker(name: str, queues: str) -> list[str]:
        return ["project.local.program", "worker", "--queues", queues, "--hostname", f"{name}@%h"]

    names = ("worker", *(f"worker-{number}" for number in range(2, worker_processes + 1)))
    return {
        **{name: worker(name, "clock,housekeeping,notifications") for name in names},
        # Apart from the clock, so that no mail server can keep it waiting. It waits in threads of its own.
        "delivery": worker("delivery", "delivery"),
        "beat": ["project.local.program", "beat"],
    }


def nursery_child(variables: dict[str, str], logs: Path) -> tuple[Child | None, Nursery | None]:
    """The nursery, and a child that keeps it running; None where programs do not fork."""
    if not CAN_FORK:
        return None, None
    nursery = Nursery(dict(variables), logs / "nursery.log")
    return Child(name="nursery", log=nursery.log, start=nursery.start, stop_signal=signal.SIGKILL), nursery


def program_child(
    name: str, arguments: list[str], variables: dict[str, str], logs: Path, nursery: Nursery | None = None
) -> Child:
    """A child that runs a Celery program, which receives SIGTERM and then waits for its broker.

    The broker has died with the same supervisor, so SIGKILL is what a program gets then. Nothing is lost: its work is
    in rows.
    """
    log = logs / f"{name}.log"
    return Child(
        name=name,
        log=log,
        start=lambda: start_python(arguments, variables, log, last_signal=signal.SIGKILL, nursery=nursery),
        restart_seconds=(0.0, *RESTART_SECONDS),  # What somebody has killed is missed at once.
    )


def web_child(listener: socket.socket, variables: dict[str, str], logs: Path, nursery: Nursery | None = None) -> Child:
    """A child that serves `listener`. It passes the signal of our death on to its own workers."""
    log = logs / "web.log"
    fd = listener.fileno()
    arguments = ["project.web", "--fd", str(fd)]

    def start() -> Process:
        return start_python(arguments, variables, log, last_signal=signal.SIGTERM, kept_files=(fd,), nursery=nursery)

    return Child(
        name="web",
        start=start,
        log=log,
        restart_seconds=WEB_RESTART_SECONDS,
        steady_seconds=WEB_STEADY_SECONDS,
    )


def start_python(
    arguments: list[str],
    variables: dict[str, str],
    log: Path,
    *,
    last_signal: signal.Signals,
    kept_files: tuple[int, ...] = (),
    nursery: Nursery | None = None,
) -> Process:
    """Run a Python module that gets `last_signal` when the supervisor dies, and keeps only these of its open files.

    As a fork of the nursery, if there is one that has the same variables.
    """
    with log.open("ab") as output:
        if nursery is not None and nursery.variables == variables:
            forked = nursery.fork(arguments, output.fileno(), last_signal=last_signal, kept_files=kept_files)
            if forked is not None:
                return forked
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=BASE_DIR,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=kept_files,
            preexec_fn=lambda: engines.die_with_parent(last_signal),
        )


def engine_child(engine: engines.Engine, logs: Path) -> Child:
    """A child that runs an embedded engine."""
    log = logs / f"{engine.name}.log"
    return Child(name=engine.name, start=lambda: engine.start(log), log=log, stop_signal=engine.stop_signal)


def stop(children: list[Child]) -> None:
    """Stop beat, worker and web together, then the engines that they use. What does not stop in time is killed."""
    engine_names = {"postgres", "valkey"}
    for part, seconds in (
        ([child for child in children if child.name not in engine_names], STOP_SECONDS_MAX),
        ([child for child in children if child.name in engine_names], ENGINE_STOP_SECONDS_MAX),
    ):
        running = [(child, child.process) for child in part if child.process is not None]
        for child, process in running:
            if process.poll() is None:
                process.send_signal(child.stop_signal)
        deadline = time.monotonic() + seconds
        for child, process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                say(f"{child.name} does not stop; killing it.")
            end_group(process.pid, signal.SIGKILL)
            process.wait()


def end_group(leader_pid: int, number: signal.Signals) -> None:
    """Signal what is left of a child's process group, if anything is."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader_pid, number)


def reap_group(leader_pid: int) -> None:
    """Take note of the end of those of a child's group that became ours when it died, as orphans do (nursery)."""
    deadline = time.monotonic() + REAP_SECONDS_MAX
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-leader_pid, os.WNOHANG)[0] == 0:
                time.sleep(0.005)


def explain_os_error(error: OSError) -> str:
    """The system's words, and what to do if the disk is full."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{error.strerror}. Make room on the disk; check-ins are refused with 503 meanwhile if they need it"
    return str(error.strerror or error)


def describe_exit(exit_code: int) -> str:
    """`exit code 3`, or the name of the signal that ended it."""
    return f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name


def say(text: str, *, file: Any = None) -> None:
    """Write to the terminal, at once even through a pipe. A closed one, or a full disk, is no reason to stop."""
    with contextlib.suppress(OSError):
        print(text, file=file, flush=True)
