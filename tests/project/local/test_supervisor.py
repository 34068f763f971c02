"""`make run` with real processes: what it promises to the person who typed it."""

import contextlib
import http.cookiejar
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urljoin

import psutil
import pytest

from drills.disk import fill, small_disk
from project.local.children import BASE_DIR
from project.local.engines import free_port
from tests.waiting import PATIENCE_SECONDS

# One worker runs them all and starts the shared instance once.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("supervisor")]

GREETING_ENDS = "Ctrl-C stops it."
STOP_SECONDS_MAX = 60
"""It takes ten at most where nobody else uses the machine."""


@dataclass(frozen=True)
class Supervisor:
    process: subprocess.Popen
    home: Path
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def instance(self) -> dict:
        return json.loads((self.home / "instance.json").read_text())

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_SECONDS)


def supervise(home: Path, *, port: int, **variables: str) -> Supervisor:
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    output = home.parent / f"{home.name}.{uuid.uuid4().hex}.output"  # One home may be started more than once.
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "project.local.supervisor"],
            cwd=BASE_DIR,
            env=environment | {"WATCHCLOCK_HOME": str(home), "WATCHCLOCK_PORT": str(port)} | variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Supervisor(process, home, output)


def eventually(condition: Callable[[], object], supervisor: Supervisor) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain; it said:\n{supervisor.said()}"
        time.sleep(0.05)


def started(home: Path, *, port: int) -> Supervisor:
    supervisor = supervise(home, port=port)
    try:
        eventually(lambda: GREETING_ENDS in supervisor.said() or supervisor.process.poll() is not None, supervisor)
    except AssertionError:
        supervisor.stop()
        raise
    assert supervisor.process.poll() is None, supervisor.said()
    return supervisor


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Supervisor]:
    """A Watchclock that all tests share; whoever disturbs it waits until it is well again."""
    supervisor = started(open_directory(tmp_path_factory.mktemp("a place")) / "data", port=free_port())
    yield supervisor
    supervisor.stop()


def open_directory(path: Path) -> Path:
    """pytest closes its directories to others, among whom is the user that root's engines run as."""
    for directory in (path, path.parent):
        directory.chmod(0o711)
    return path


def outcome_of_a_start(home: Path, *, port: int) -> tuple[int, str]:
    supervisor = supervise(home, port=port)
    return supervisor.process.wait(PATIENCE_SECONDS), supervisor.said()


def pids_of_all(supervisor: Supervisor) -> dict[str, int]:
    """The process id of every part, once all run: one that an earlier test killed may be on its way back."""
    parts = {"supervisor", "postgres", "valkey", "nursery", "web", "worker", "worker-2", "delivery", "beat"}
    eventually(lambda: supervisor.instance()["pids"].keys() == parts, supervisor)
    pids: dict[str, int] = supervisor.instance()["pids"]
    return pids


def test_instance_json_is_private_and_tells_scripts_everything(running):
    instance = running.instance()

    assert stat.S_IMODE((running.home / "instance.json").stat().st_mode) == 0o600
    assert {"base_url", "admin_url", "admin_user", "admin_password", "dsn", "pids"} <= instance.keys()
    assert all(psutil.pid_exists(pid) for pid in pids_of_all(running).values())


@pytest.mark.parametrize("name", ["secret_key", "environment", "postgres/password", "valkey/password"])
def test_secrets_are_for_their_owner_alone(running, name):
    assert stat.S_IMODE((running.home / name).stat().st_mode) == 0o600


def test_the_greeting_tells_address_login_dsn_and_a_first_check_in(running):
    instance, said = running.instance(), running.said()

    for name in ("base_url", "admin_url", "admin_user", "admin_password", "dsn"):
        assert instance[name] in said
    assert f'curl "{instance["check_in_url"]}"' in said


def test_the_printed_check_in_is_accepted(running):
    body = b'{"status": "ok", "monitor_config": {"schedule": {"type": "crontab", "value": "*/5 * * * *"}}}'
    request = urllib.request.Request(
        running.instance()["check_in_url"], data=body, headers={"Content-Type": "application/json"}
    )

    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        assert response.status in {200, 201, 202}


def test_management_commands_find_the_running_instance_by_themselves(running):
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    outcomes = []

    def succeeds() -> bool:
        outcomes.append(
            subprocess.run(
                [sys.executable, "manage.py", "bootstrap", "--json"],
                cwd=BASE_DIR,
                env=environment | {"WATCHCLOCK_HOME": str(running.home), "DJANGO_SETTINGS_MODULE": "project.settings"},
                capture_output=True,
                text=True,
                check=False,
            )
        )
        assert "cannot be reached" in outcomes[-1].stderr or not outcomes[-1].returncode, outcomes[-1].stderr
        return outcomes[-1].returncode == 0

    eventually(succeeds, running)  # Where the machine is busy, PostgreSQL may not answer in time.

    assert json.loads(outcomes[-1].stdout)["public_key"] in running.instance()["dsn"]


def test_a_second_start_says_that_one_is_running_and_exits_1(running):
    exit_code, said = outcome_of_a_start(running.home, port=free_port())

    assert exit_code == 1
    assert f"already running, pid {running.process.pid}" in said


def test_a_port_in_use_is_named_with_a_way_out(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        exit_code, said = outcome_of_a_start(tmp_path / "data", port=port)

    assert exit_code == 1
    assert f"port {port} is in use" in said
    assert "WATCHCLOCK_PORT=" in said


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda home: home.symlink_to("nowhere"), "cannot be made: File exists."),
        (lambda home: home.write_text("a file"), "cannot be used: Not a directory."),
        (lambda home: (home / "lock").mkdir(parents=True), "cannot be used: Is a directory."),
    ],
    ids=["a link to a disk that is not there", "a file", "a directory in the place of its lock"],
)
def test_a_data_directory_that_cannot_be_used_is_one_line_that_names_the_setting(tmp_path, spoil, problem):
    home = tmp_path / "data"
    spoil(home)

    exit_code, said = outcome_of_a_start(home, port=free_port())

    assert exit_code == 1
    assert said.splitlines() == [f"Watchclock cannot start: the data directory {home} (WATCHCLOCK_HOME) {problem}"]


def test_a_port_that_is_no_number_is_refused_plainly(tmp_path):
    supervisor = supervise(tmp_path / "data", port=0, WATCHCLOCK_PORT="eight thousand")

    assert supervisor.process.wait(PATIENCE_SECONDS) == 1
    assert "WATCHCLOCK_PORT='eight thousand' is not a whole number" in supervisor.said()
    assert "Traceback" not in supervisor.said()


@pytest.mark.parametrize("name", ["nursery", "web", "worker", "worker-2", "delivery", "beat", "valkey", "postgres"])
def test_a_child_that_dies_is_restarted_with_a_message(running, name):
    killed = pids_of_all(running)[name]
    before = len(running.said())

    os.kill(killed, signal.SIGKILL)

    eventually(lambda: f"{name} restarted" in running.said()[before:], running)
    assert f"{name} ended (SIGKILL)" in running.said()[before:]
    eventually(lambda: running.instance()["pids"].get(name, killed) != killed, running)
    eventually(lambda: takes_check_ins(running), running)


def ask(supervisor: Supervisor, path: str) -> str:
    """What the web answers, also if that is a refusal."""
    try:
        with urllib.request.urlopen(supervisor.instance()["base_url"] + path, timeout=PATIENCE_SECONDS) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def admin_pages(supervisor: Supervisor, *paths: str) -> list[str]:
    """Pages of the admin as its first account sees them."""
    instance = supervisor.instance()
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    login = urljoin(instance["admin_url"], "/login/")
    opener.open(login, timeout=PATIENCE_SECONDS).close()
    [token] = [cookie.value for cookie in cookies if cookie.name == "csrftoken"]
    form = {
        "login": instance["admin_user"],
        "password": instance["admin_password"],
        "csrfmiddlewaretoken": token or "",
        "next": "/admin/",
    }
    opener.open(login, urlencode(form).encode(), timeout=PATIENCE_SECONDS).close()
    pages = []
    for path in paths:
        with opener.open(instance["admin_url"] + path, timeout=PATIENCE_SECONDS) as page:
            pages.append(page.read().decode())
    return pages


def test_metrics_tell_of_every_process(running):
    wanted = (
        r'watchclock_heard_seconds\{process="beat"\}',
        r'watchclock_heard_seconds\{process="worker"\}',
        r'watchclock_clock_task_seconds_count\{part="dispatch"\} [1-9]',
        r'watchclock_ingest_requests_total\{outcome="stored"\} [1-9]',
        r"watchclock_clock_lag_seconds \d",
    )

    def all_told() -> bool:
        assert takes_check_ins(running)  # More than once: after a kill, first ones go to the spool.
        metrics = ask(running, "/metrics")
        return all(re.search(f"^{pattern}", metrics, re.MULTILINE) for pattern in wanted)

    eventually(all_told, running)


def eventually_answers(supervisor: Supervisor, path: str, *texts: str) -> None:
    """Wait until the answer at this path has these texts; twice as long, since silence counts after a minute."""
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not all(text in (answer := ask(supervisor, path)) for text in texts):
        assert time.monotonic() < deadline, f"waited in vain for {texts}; it answers:\n{answer}\n{supervisor.said()}"
        time.sleep(0.05)


def heard_of(supervisor: Supervisor) -> set[str]:
    return set(re.findall(r'^watchclock_heard_seconds\{process="(\w+)"\}', ask(supervisor, "/metrics"), re.MULTILINE))


def test_beat_and_workers_that_hang_are_told_by_the_web_on_every_page_of_the_admin(running):
    eventually_answers(running, "/readyz/all", '"ok"')
    # Who was never heard of is not missed so soon.
    eventually(lambda: {"beat", "worker"} <= heard_of(running), running)
    hanging = [psutil.Process(pids_of_all(running)[name]) for name in ("beat", "worker", "worker-2")]
    for process in hanging:
        process.suspend()
    try:
        eventually_answers(running, "/readyz/all", "No worker runs", "No beat runs")
        assert '"takes_check_ins": true' in ask(running, "/readyz")
        for page in admin_pages(running, "", "monitors/monitor/", "checkins/checkin/"):
            assert "No beat runs" in page
            assert "No worker runs" in page
    finally:
        for process in hanging:
            process.resume()
    eventually_answers(running, "/readyz/all", '"ok"')


def takes_check_ins(supervisor: Supervisor) -> bool:
    """The web is there, and so is the database behind it."""
    try:
        with urllib.request.urlopen(supervisor.instance()["check_in_url"] + "?status=ok", timeout=5) as response:
            return response.status == 202
    except OSError:
        return False


def still_alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended. What has ended may wait for the system's first process to take note of it."""
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of its own with room for an instance and not for much more."""
    path = open_directory(tmp_path) / "disk"
    with small_disk(path, mib=400) as problem:
        if problem:
            pytest.skip(f"only root can mount a small disk here: {problem}")
        yield path


def test_a_full_disk_ends_nothing_is_reported_and_passes(disk):
    supervisor = started(disk / "data", port=free_port())
    try:
        filler = disk / "filler"
        fill(filler)
        killed = pids_of_all(supervisor)["worker"]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: "instance.json cannot be written: No space left on device" in supervisor.said(), supervisor)
        assert "Make room on the disk" in supervisor.said()
        assert supervisor.process.poll() is None

        filler.unlink()

        eventually(lambda: supervisor.instance()["pids"].get("worker", killed) != killed, supervisor)
        eventually(lambda: takes_check_ins(supervisor), supervisor)
        assert supervisor.process.poll() is None
    finally:
        supervisor.stop()


def test_a_life_a_stop_while_it_migrates_or_later_leaves_nothing_a_kill_is_recovered_from_and_data_stay(tmp_path):
    home, port = open_directory(tmp_path) / "data", free_port()

    stopped = supervise(home, port=port)
    eventually(lambda: "Bringing the database up to date" in stopped.said(), stopped)
    eventually(lambda: (home / "logs" / "bootstrap.log").exists(), stopped)
    children = stopped.descendants()
    stopped.process.send_signal(signal.SIGINT)
    assert stopped.process.wait(PATIENCE_SECONDS) == 0
    assert "Stopping after the migration that runs" in stopped.said()
    assert "Watchclock is running" not in stopped.said()
    assert "killing" not in stopped.said()
    assert still_alive(children) == []

    first = started(home, port=port)
    login = {name: first.instance()[name] for name in ("admin_password", "dsn")}
    children = first.descendants()
    assert len(children) >= 5
    asked_at = time.monotonic()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(PATIENCE_SECONDS) == 0, first.said()
    assert time.monotonic() - asked_at < STOP_SECONDS_MAX
    assert still_alive(children) == []
    assert first.instance()["pids"] == {}

    second = started(home, port=port)
    assert {name: second.instance()[name] for name in login} == login
    children = second.descendants()
    second.process.kill()  # No chance to stop anything: the kernel tells the children.
    second.process.wait()

    third = started(home, port=port)
    assert {name: third.instance()[name] for name in login} == login
    assert still_alive(children) == []
    third.process.terminate()
    assert third.process.wait(PATIENCE_SECONDS) == 0
