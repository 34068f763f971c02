"""A Watchclock under its supervisor, as `make run` starts it, and the jobs that report to it: all real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from lib.wallclock import utcnow
from project.local.children import BASE_DIR
from project.local.engines import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

CLIENTS = Path(__file__).parent / "clients"
SPEED = 60
"""A minute of the instance passes in a second."""
VIRTUAL_START = datetime(2026, 3, 2, 9, 0, 30, tzinfo=UTC)
"""What the clock of an instance shows when it starts: the same in every run, and not the time outside."""
"""For a loaded machine; nothing here takes longer than a few seconds on an idle one."""
TAIL_LINES = 40


def own_environment(**variables: str) -> dict[str, str]:
    """The environment of a process that knows nothing of the test run: not its engines, settings or proxies."""
    foreign = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE", "HTTPS_ONLY"}
    foreign |= {"SECOND_FACTOR_REQUIRED"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and not name.lower().endswith("_proxy") and not name.startswith("COV_")
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | variables


def clock_setting() -> str:
    """WATCHCLOCK_TEST_CLOCK for a clock that shows `VIRTUAL_START` now and runs `SPEED` times as fast as the wall's.

    A clock that agrees with the wall clock at `origin` shows origin + (now - origin) * speed; this solves for origin.
    """
    now = utcnow()
    origin = now + (now - VIRTUAL_START) / (SPEED - 1)
    return f"{origin.isoformat()}@{SPEED}"


@dataclass(frozen=True)
class Job:
    """A process that a Watchclock watches."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Watchclock:
    """A running instance. `stop` ends it and all jobs that were started through it."""

    process: "subprocess.Popen[bytes]"
    home: Path
    output: Path
    jobs: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    # The instance

    def instance(self) -> dict[str, Any]:
        """What the supervisor wrote for scripts; empty before it did."""
        try:
            written: dict[str, Any] = json.loads((self.home / "instance.json").read_text())
        except FileNotFoundError:
            return {}
        return written

    def said(self) -> str:
        """What the supervisor printed."""
        return self.output.read_text()

    def check_in(self, slug: str, **payload: Any) -> int:
        """Send one check-in over plain HTTP, and return the status code; 0 if nobody answers."""
        instance = self.instance()
        if "check_in_url" not in instance:
            return 0
        request = urllib.request.Request(
            instance["check_in_url"].replace("/my-first-job/", f"/{slug}/"),
            data=json.dumps(payload).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def processes(self) -> list[psutil.Process]:
        """Every process of the instance: the supervisor, the ones in instance.json, and what those have started."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def settings(self) -> dict[str, str]:
        """The settings that the supervisor keeps for manage.py."""
        return dict(line.split("=", 1) for line in (self.home / "environment").read_text().splitlines())

    def manage(self, *arguments: str) -> str:
        """Run a management command on the instance, and return what it printed."""
        command = [sys.executable, str(BASE_DIR / "manage.py"), *arguments]
        ended = subprocess.run(
            command, env=own_environment(**self.settings()), capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def rows(self, sql: str, **values: object) -> list[dict[str, Any]]:
        """Ask the instance's database, at the address that the supervisor keeps for manage.py."""
        with psycopg.connect(self.settings()["DATABASE_URL"], autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(sql, values).fetchall()

    def wait_until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait, but not for a supervisor that has ended."""

        def found() -> Any:
            assert self.process.poll() is None, f"the supervisor ended while waiting until {what}:\n{self.said()}"
            return condition()

        return wait_until(found, what, seconds=seconds)

    def wait_for_rows(self, what: str, sql: str, **values: object) -> list[dict[str, Any]]:
        """Wait until a query finds something, and return it."""
        found: list[dict[str, Any]] = self.wait_until(lambda: self.rows(sql, **values), what)
        return found

    # The jobs that it watches

    def start(self, name: str, *arguments: str, **variables: str) -> "Job":
        """Start Python with these arguments, in `clients/`, as a process that knows nothing of the test run."""
        log = self.home.parent / f"job-{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=CLIENTS,
                env=own_environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.jobs.append(process)
        return Job(process, log)

    def report(self, slug: str, config: dict[str, Any], *statuses: str) -> "Job":
        """Start a job that reports one run through sentry-sdk's `capture_checkin`."""
        return self.start(
            f"{slug}-{len(self.jobs)}", "report.py", self.instance()["dsn"], slug, json.dumps(config), *statuses
        )

    # The end

    def tails(self) -> str:
        """The last lines of everything that was written, for whoever has to find out what went wrong."""
        logs = [self.output, *sorted((self.home / "logs").glob("*.log")), *sorted(self.home.parent.glob("job-*.log"))]
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]) for log in logs
        )

    def stop(self) -> None:
        """End the jobs and the instance, whatever state they are in."""
        for job in self.jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def running_watchclock(directory: Path, **variables: str) -> Iterator[Watchclock]:
    """A new Watchclock on a free port, with its data in `directory` and its clock at `VIRTUAL_START`.

    `variables` are settings of its own.
    """
    home, output = directory / "data", directory / "supervisor.log"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "project.local.supervisor"],
            cwd=BASE_DIR,
            env=own_environment(
                WATCHCLOCK_HOME=str(home),
                WATCHCLOCK_PORT=str(free_port()),
                WATCHCLOCK_TEST_CLOCK=clock_setting(),
                WATCHCLOCK_ALLOW_TEST_CLOCK="true",
                CLOCK_GRACE_SECONDS="30",  # Half a second outside: a busy machine may take that long to store one.
                **variables,
            ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    watchclock = Watchclock(process, home, output)
    try:
        yield watchclock
    finally:
        watchclock.stop()
