"""The directory of `make run`: who holds it, what is left of a former run, what this one is."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from project.local import engines
from project.local.children import BASE_DIR, STOP_SECONDS_MAX, Child, end_group, say

HOST = "127.0.0.1"
_READ_BY_SETTINGS = re.compile(r'\benv\.\w+\(\s*"([A-Z_]+)"')
"""How `project/settings.py` reads a variable. The file cannot be imported here: the supervisor has no database yet."""


class CannotStartError(Exception):
    """Watchclock cannot start here and now; the message shows the person at the terminal why, and what to do."""


def make_home(home: Path) -> None:
    """Create the data directory; others may pass through root's, since the engines run as another user then."""
    if not home.exists():
        try:
            home.mkdir(parents=True)
        except OSError as error:
            raise CannotStartError(
                f"the data directory {home} (WATCHCLOCK_HOME) cannot be made: {error.strerror}."
            ) from None
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the data directory for one supervisor. Raises `CannotStartError` if another one holds it."""
    try:
        file = (home / "lock").open("a+")
    except OSError as error:
        raise CannotStartError(
            f"the data directory {home} (WATCHCLOCK_HOME) cannot be used: {error.strerror}."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            instance = read_instance(home)
            pid = instance.get("pids", {}).get("supervisor", "not known yet")
            raise CannotStartError(
                f"it is already running, pid {pid}, with the data in {home}.\n"
                "For a second one give it its own place: make run WATCHCLOCK_PORT=8001 WATCHCLOCK_HOME=/another/place"
            ) from None
        yield


def end_leftovers(home: Path) -> None:
    """End children of an earlier supervisor that was killed before it stopped them, known by pid and start time."""
    leftovers = []
    for pid, created in [*read_instance(home).get("created", {}).values(), *recorded_by_postgres(home)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                leftovers.append(process)
    if not leftovers:
        return
    say(f"An earlier Watchclock was killed; ending the {len(leftovers)} processes that it left.")
    for process in leftovers:
        # Already asked by the kernel when their parent died; SIGINT is PostgreSQL's fast shutdown.
        end_group(process.pid, signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(leftovers, timeout=STOP_SECONDS_MAX)
    for process in alive:
        end_group(process.pid, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_SECONDS_MAX)


def recorded_by_postgres(home: Path) -> list[tuple[int, float]]:
    """Pid and start time of a PostgreSQL that still owns the cluster: there before instance.json knows about it."""
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pid = int((home / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if str(home / "postgres" / "cluster") in process.cmdline():
            return [(pid, process.create_time())]
    return []


def settings_received() -> dict[str, str]:
    """The settings with which `make run` was started.

    A command in another terminal needs them too: with the defaults it would notify nobody, read no secret of a
    channel, or drop days that the instance keeps.
    """
    names = _READ_BY_SETTINGS.findall((BASE_DIR / "project" / "settings.py").read_text())
    received = {name: os.environ[name] for name in names if name in os.environ}
    return {name: value for name, value in received.items() if len(value.splitlines()) <= 1}


def child_environment(home: Path, port: int, *, database_url: str, redis_url: str) -> dict[str, str]:
    """The settings of this instance's processes; also written down for manage.py."""
    key_file = home / "secret_key"
    if not key_file.exists():
        engines.write_private(key_file, secrets.token_urlsafe(64))
    settings = {
        "SECRET_KEY": key_file.read_text(),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "CELERY_BROKER_URL": redis_url,
        "PUBLIC_URL": os.environ.get("PUBLIC_URL") or f"http://{HOST}:{port}",  # Mails link to what they are about.
        "HTTPS_ONLY": "false",  # It listens on this machine only, where there is no certificate.
        "SECOND_FACTOR_REQUIRED": os.environ.get("SECOND_FACTOR_REQUIRED") or "false",  # For the same reason.
        "WATCHCLOCK_HOME": str(home),  # Two instances of a checkout would store the spools of each other.
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    written = {**settings_received(), **settings}
    engines.write_private(home / "environment", "".join(f"{name}={value}\n" for name, value in written.items()))
    # Nobody else can reach the metrics, and somebody may be reading the logs.
    friendly = {"METRICS_OPEN": "true", "LOG_FORMAT": "console"}
    return {**friendly, **os.environ, **settings, "PYTHONUNBUFFERED": "1", "WATCHCLOCK_PORT": str(port)}


def describe_instance(port: int, account: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """What people and scripts need to reach this instance. A password is known only to the start that made it."""
    base_url = f"http://{HOST}:{port}"
    return {
        "base_url": base_url,
        "admin_url": f"{base_url}/admin/",
        "admin_user": account["admin_user"],
        "admin_password": account["admin_password"] or earlier.get("admin_password"),
        "dsn": f"http://{account['public_key']}@{HOST}:{port}/{account['project_id']}",
        "check_in_url": f"{base_url}/api/{account['project_id']}/cron/my-first-job/{account['public_key']}/",
    }


def write_instance(home: Path, instance: dict[str, Any], children: list[Child]) -> None:
    """Replace instance.json in one step. Without children it says that nothing runs, and keeps how to log in."""
    running = {child.name: child for child in children if child.process is not None}
    pids = {name: child.process.pid for name, child in running.items() if child.process}
    if children:
        pids["supervisor"] = os.getpid()
    created = {name: [pids[name], child.created] for name, child in running.items()}
    text = json.dumps({**instance, "pids": pids, "created": created}, indent=2)
    engines.write_private(home / "instance.json", text + "\n")


def read_instance(home: Path) -> dict[str, Any]:
    """What the last start wrote; empty if there was none."""
    try:
        instance: dict[str, Any] = json.loads((home / "instance.json").read_text())
    except FileNotFoundError:
        return {}
    return instance
