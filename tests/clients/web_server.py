"""The web as production runs it, with a database of its own, and the programs that are its clients."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from project.local.children import BASE_DIR, start_python
from project.local.supervisor import manage
from tests.waiting import PATIENCE_SECONDS, wait_until

CLIENTS = Path(__file__).parent
PYTHON_CLIENTS = BASE_DIR / ".venv" / "clients" / "python"
NODE_CLIENTS = BASE_DIR / ".venv" / "clients" / "node"
"""For a loaded machine; every client here is done within seconds on an idle one."""

RUNS = """
    SELECT checkin.*, coalesce(checkin.received_at, checkin.date_added) AS received_at, monitor.guid AS monitor_guid,
           ARRAY(SELECT attempt.status FROM checkins_attempt AS attempt
                  WHERE attempt.checkin_id = checkin.id ORDER BY attempt.received_at, attempt.id) AS attempts,
           ARRAY(SELECT log.body FROM checkins_checkinlog AS log
                  WHERE log.monitor_environment_id = checkin.monitor_environment_id AND log.guid = checkin.guid
                  ORDER BY log.received_at, log.id) AS logs
      FROM checkins_checkin AS checkin
      JOIN monitors_monitorenvironment AS live ON live.id = monitor_environment_id
      JOIN monitors_monitor AS monitor ON monitor.id = live.monitor_id
      JOIN monitors_environment AS environment ON environment.id = live.environment_id
     WHERE monitor.slug = %(slug)s AND environment.name = %(environment)s ORDER BY checkin.date_added, checkin.id
"""
NOTES = """
    SELECT log.body FROM checkins_checkinlog AS log
      JOIN monitors_monitorenvironment AS live ON live.id = log.monitor_environment_id
      JOIN monitors_monitor AS monitor ON monitor.id = live.monitor_id
     WHERE monitor.slug = %(slug)s AND log.guid IS NULL ORDER BY log.received_at, log.id
"""


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its exit status, and what it wrote."""

    exit_status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """What it wrote to its standard output, without the last line feed."""
        return self.output.decode().rstrip("\n")

    def json(self) -> Any:
        """What it wrote to its standard output, if it did well."""
        assert self.exit_status == 0, self.errors
        return json.loads(self.output)


@dataclass(frozen=True)
class WebServer:
    """A running web, and what a client has to know of it: the address, and the project's id and key."""

    base_url: str
    project_id: int
    key: str
    database_url: str
    log: Path
    pid: int

    @property
    def dsn(self) -> str:
        """What a Sentry SDK is given."""
        return self.base_url.replace("//", f"//{self.key}@") + f"/{self.project_id}"

    def cron_url(self, slug: str) -> str:
        """The address for a monitor's check-ins by plain requests."""
        return f"{self.base_url}/api/{self.project_id}/cron/{slug}/{self.key}/"

    def ping_url(self, slug: str) -> str:
        """The address of a new monitor, which has been heard of in the environment "before" only."""
        config = {"schedule": {"type": "interval", "value": 1, "unit": "day"}}
        checkin = {"status": "ok", "environment": "before", "monitor_config": config}
        request = urllib.request.Request(
            self.cron_url(slug), data=json.dumps(checkin).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            assert response.status == 202
        return f"{self.base_url}/ping/{self.monitor(slug)['guid']}"

    def rows(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Ask its database."""
        with psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()

    def monitor(self, slug: str) -> dict[str, Any]:
        """The one monitor with this slug."""
        (monitor,) = self.rows("SELECT * FROM monitors_monitor WHERE slug = %(slug)s", slug=slug)
        return monitor

    def runs(self, slug: str, environment: str = "production") -> list[dict[str, Any]]:
        """A monitor's check-ins in order, each with its earlier `attempts` and its `logs`."""
        return self.rows(RUNS, slug=slug, environment=environment)

    def run(self, slug: str, environment: str = "production") -> dict[str, Any]:
        """A monitor's only check-in."""
        (run,) = self.runs(slug, environment)
        return run

    def wait_for_run(self, slug: str, status: str) -> dict[str, Any]:
        """A monitor's only check-in, as soon as it has this status: for clients that go on by themselves."""
        wait_until(lambda: [run for run in self.runs(slug) if run["status"] == status], f"{slug} is {status}")
        return self.run(slug)

    def notes(self, slug: str) -> list[bytes]:
        """Output that was sent for a monitor while none of its jobs ran."""
        return [row["body"] for row in self.rows(NOTES, slug=slug)]


def run_client(*arguments: str | Path, directory: Path = CLIENTS, stdin: bytes = b"", **variables: str) -> Ended:
    """Run a program to its end, as a process that knows nothing of the test run but what is said here."""
    ended = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=directory,
        env=client_environment(**variables),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode(errors="replace"))


def client_environment(**variables: str) -> dict[str, str]:
    """What a client's process inherits: no settings, and no proxy."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    return kept | {"PYTHONUNBUFFERED": "1"} | variables


@contextlib.contextmanager
def running_web_server(home: Path, server_url: str, redis_url: str, **settings: str) -> Iterator[WebServer]:
    """A web on a free port, with a new database on the PostgreSQL at `server_url` that goes with it."""
    with new_database(server_url) as database_url, socket.create_server(("127.0.0.1", 0)) as listener:
        variables = client_environment(
            WATCHCLOCK_HOME=str(home),
            SECRET_KEY="of a test",
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            HTTPS_ONLY="false",
            # What a busy machine stores late would go to the spool, and its rows come after its answer.
            INGEST_PATIENCE_SECONDS="60",
            DJANGO_SETTINGS_MODULE="project.settings",
            **settings,
        )
        account = json.loads(manage(["bootstrap", "--json"], variables, home / "bootstrap.log"))
        log = home / "web.log"
        process = start_python(
            ["project.web", "--fd", str(listener.fileno())],
            variables,
            log,
            last_signal=signal.SIGTERM,
            kept_files=(listener.fileno(),),
        )
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield WebServer(base_url, account["project_id"], account["public_key"], database_url, log, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """The address of an empty database, which is dropped at the end."""
    name = f"clients_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{server_url.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def python_client(script: str) -> tuple[Path | str, ...]:
    """Python with other people's clients, and one of our jobs that use them."""
    return python_clients("python"), CLIENTS / "python" / script


def python_clients(program: str) -> Path:
    """One of the programs that other people's clients in Python bring. Skips the test if nobody has installed them."""
    if not (PYTHON_CLIENTS / ".synced").exists():
        pytest.skip("the clients in Python are not installed: make clients")
    return PYTHON_CLIENTS / "bin" / program


def own_python(script: str) -> tuple[Path | str, ...]:
    """The Python of the tests, which has brotli and Celery, and one of our jobs."""
    return sys.executable, CLIENTS / "python" / script
