"""The web with real processes: what its clients notice of deploys and crashes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import urllib3

from project.local.children import BASE_DIR, Child, web_child
from project.local.engines import free_port
from project.version import VERSION
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("processes")]

PATH = "/admin/"
ANSWER = 302
"""From Django, which asks no database about a visitor without a session."""
START_AS_SYSTEMD_DOES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "project.web"])
"""


def settings(home: Path, **variables: str) -> dict[str, str]:
    nowhere = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere", "REDIS_URL": "redis://127.0.0.1:1/0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    return {
        **kept,
        **nowhere,
        "SECRET_KEY": "of a test",
        "HTTPS_ONLY": "false",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "WATCHCLOCK_HOME": str(home),
        "WEB_RESPAWN_SECONDS": "0.5",
        "WEB_DRAIN_SECONDS": "0.5",
        **variables,
    }


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", free_port())) as opened:
        yield opened


@dataclass(frozen=True)
class Web:
    process: subprocess.Popen
    port: int
    log: Path

    def workers(self) -> set[int]:
        return workers_of(self.process.pid)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)


def workers_of(pid: int) -> set[int]:
    """The pids of the workers of a main process: all its children but multiprocessing's own."""
    pids = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # A zombie is one that has just ended.
                if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline()):
                    pids.add(child.pid)
    return pids


def ask(connection: http.client.HTTPConnection, path: str = PATH) -> http.client.HTTPResponse:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response


@pytest.fixture
def web(listener, tmp_path) -> Iterator[Web]:
    """A web with one worker, on a socket that it got as systemd gives it, and that has answered."""
    log = tmp_path / "web.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", START_AS_SYSTEMD_DOES, str(listener.fileno())],
            cwd=BASE_DIR,
            env=settings(tmp_path, PYTHONPATH=str(tmp_path)),
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Web(process, listener.getsockname()[1], log)
    try:
        with contextlib.closing(started.connect()) as connection:
            assert ask(connection).status == ANSWER, log.read_text()
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- Clients ----------------------------------------------------------------------------------------------------------


@dataclass
class Clients:
    """Threads that ask all the time: some with a new connection each time, some as urllib3 keeps connections."""

    port: int
    answers: Counter = field(default_factory=Counter)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def with_new_connections(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            return ask(connection).status

    def with_kept_connections(self) -> Callable[[], int]:
        pool = urllib3.HTTPConnectionPool("127.0.0.1", self.port, timeout=PATIENCE_SECONDS, retries=False)
        return lambda: pool.request("GET", PATH, redirect=False).status

    def run(self, kind: str, request: Callable[[], int]) -> None:
        while not self.stopped.wait(0.005):  # The processor is also needed by what starts.
            try:
                self.answers[kind, request()] += 1
            except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
                self.failures.append((kind, error))

    def refused(self) -> list[tuple[str, Exception]]:
        kinds = (ConnectionRefusedError, urllib3.exceptions.NewConnectionError)
        return [failure for failure in self.failures if isinstance(failure[1], kinds)]


@contextlib.contextmanager
def clients_of(port: int) -> Iterator[Clients]:
    clients = Clients(port)
    threads = [
        threading.Thread(target=clients.run, args=arguments)
        for arguments in (
            ("new", clients.with_new_connections),
            ("new", clients.with_new_connections),
            ("kept", clients.with_kept_connections()),
            ("kept", clients.with_kept_connections()),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stopped.set()
        for thread in threads:
            thread.join()


# --- Deploys ----------------------------------------------------------------------------------------------------------


def test_deploys_under_load_refuse_no_connection_and_answer_every_request(web):
    with clients_of(web.port) as clients:
        for _ in range(3):
            before, answered = web.workers(), clients.answers.total()
            web.process.send_signal(signal.SIGHUP)
            eventually(lambda: web.workers() and not web.workers() & before, "another worker serves")  # noqa: B023
            eventually(lambda: clients.answers.total() > answered + 20, "it answers")  # noqa: B023

    assert clients.failures == []
    assert clients.answers.keys() == {("new", ANSWER), ("kept", ANSWER)}
    assert web.process.poll() is None


def test_a_deploy_brings_the_code_that_is_on_the_disk_into_the_same_main_process(web, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.path.insert(0, {str(BASE_DIR)!r})\nimport project.version\nproject.version.VERSION = '77.7'\n"
    )
    before = web.workers()

    web.process.send_signal(signal.SIGHUP)

    eventually(lambda: "Watchclock 77.7 serves" in web.log.read_text(), "the new code serves")
    eventually(lambda: not web.workers() & before, "the old workers end")
    assert web.process.poll() is None
    with contextlib.closing(web.connect()) as connection:
        assert ask(connection).status == ANSWER


def test_a_deploy_and_a_stop_that_come_together_end_new_workers_and_old(web):
    started = psutil.Process(web.process.pid).children(recursive=True)
    web.process.send_signal(signal.SIGHUP)
    web.process.terminate()

    assert web.process.wait(PATIENCE_SECONDS) == 0
    eventually(lambda: not any(process.is_running() for process in started), "all are gone")


def test_a_batcher_that_is_killed_takes_its_worker_with_it_and_both_are_back(web):
    [worker] = web.workers()
    [batcher] = psutil.Process(worker).children()

    batcher.kill()

    eventually(lambda: web.workers() and worker not in web.workers(), "another worker is there")
    with contextlib.closing(web.connect()) as connection:
        assert ask(connection).status == ANSWER
    assert len(psutil.Process(web.workers().pop()).children()) == 1


def test_a_deploy_of_code_that_cannot_be_imported_leaves_the_old_code_serving(web, tmp_path):
    before = web.workers()
    (tmp_path / "whitenoise.py").write_text("this is no Python\n")  # PYTHONPATH finds it before the package.

    web.process.send_signal(signal.SIGHUP)

    eventually(lambda: "cannot be imported" in web.log.read_text(), "the web refuses the deploy")
    assert web.workers() == before
    with contextlib.closing(web.connect()) as connection:
        assert ask(connection).status == ANSWER


def test_a_web_that_is_told_to_end_says_goodbye_on_kept_connections(web):
    with contextlib.closing(web.connect()) as connection:
        assert ask(connection).getheader("Connection") is None
        kept = connection.sock

        web.process.terminate()
        eventually(lambda: ask(connection).getheader("Connection") == "close", "it says goodbye")

    assert kept is not None
    assert web.process.wait(PATIENCE_SECONDS) == 0


def test_who_comes_while_a_web_ends_waits_for_the_next_one(web, listener):
    with contextlib.closing(web.connect()) as kept, contextlib.closing(web.connect()) as late:
        assert ask(kept).status == ANSWER
        web.process.terminate()
        eventually(lambda: ask(kept).getheader("Connection") == "close", "it drains")
        late.request("GET", PATH)
        assert web.process.wait(PATIENCE_SECONDS) == 0

        accepted, _ = listener.accept()  # The test is the next one.
        with accepted:
            assert accepted.recv(4).decode() == "GET "


def test_a_request_line_of_16_kib_is_taken_and_one_without_end_is_not(web):
    with contextlib.closing(web.connect()) as connection:
        assert ask(connection, f"/unknown?q={'x' * 16 * 1024}").status == 404
    with contextlib.closing(web.connect()) as connection:
        assert ask(connection, f"/unknown?q={'x' * 128 * 1024}").status in {414, 431}


# --- Crashes ----------------------------------------------------------------------------------------------------------


@dataclass
class Watch(threading.Thread):
    """Does for one child what the supervisor's loop does."""

    child: Child
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            self.child.revive()


@pytest.fixture
def supervised(listener, tmp_path) -> Iterator[Child]:
    """The web as `make run` starts and restarts it."""
    child = web_child(listener, settings(tmp_path), tmp_path)
    child.launch()
    watch = Watch(child)
    watch.start()
    yield child
    watch.stopped.set()
    watch.join()
    if child.process is not None:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def main_pid(child: Child) -> set[int]:
    process = child.process
    return {process.pid} if process is not None and process.poll() is None else set()


def worker_pids(child: Child) -> set[int]:
    return {worker for pid in main_pid(child) for worker in workers_of(pid)}


def test_a_web_that_is_killed_again_and_again_refuses_no_connection(supervised, listener):
    with clients_of(listener.getsockname()[1]) as clients:
        for pids in (worker_pids, main_pid):
            answered = clients.answers.total()
            eventually(lambda: clients.answers.total() > answered + 20, "it answers")  # noqa: B023
            kill(pids, supervised)
        for _ in range(5):  # In quick succession: they hardly come to serve in between.
            kill(main_pid, supervised)
        answered = clients.answers.total()
        eventually(lambda: clients.answers.total() > answered + 20, "it answers after all")

    assert clients.refused() == []
    assert clients.answers.keys() == {("new", ANSWER), ("kept", ANSWER)}


def kill(pids: Callable[[Child], set[int]], child: Child) -> None:
    """Kill one of them once it is there, and wait until it is gone."""
    eventually(lambda: pids(child), "there is something to kill")
    victim = min(pids(child))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in pids(child), "it is dead")


# --- A start that fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "Address already in use"),
        ({"WEB_PROCESSES": "many"}, "WEB_PROCESSES='many' is not a whole number"),
        ({"WEB_DRAIN_SECONDS": "soon"}, "WEB_DRAIN_SECONDS='soon' is not a number of seconds"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        (
            {"SPOOL_DIRECTORY": "/dev/null/spool"},
            "SPOOL_DIRECTORY is /dev/null/spool, where no spool can be made: Not a directory.",
        ),
    ],
)
def test_a_start_that_cannot_succeed_says_why_in_one_line(listener, tmp_path, variables, complaint):
    port = listener.getsockname()[1] if not variables else free_port()

    outcome = subprocess.run(
        [sys.executable, "-m", "project.web"],
        cwd=BASE_DIR,
        env=settings(tmp_path, WATCHCLOCK_PORT=str(port), **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )

    [line] = outcome.stderr.splitlines()
    assert outcome.returncode == 1
    assert line.startswith("The web cannot start: ")
    assert complaint in line


def test_a_web_that_serves_says_its_version_and_where(web):
    said = [json.loads(line) for line in web.log.read_text().splitlines()]
    assert f"Watchclock {VERSION} serves http://127.0.0.1:{web.port}/" in [line["event"] for line in said]


# --- Probes -----------------------------------------------------------------------------------------------------------


def test_a_web_whose_engines_are_away_takes_check_ins_and_says_what_is_wrong(web):
    def probe(path: str) -> tuple[int, dict]:
        with contextlib.closing(web.connect()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    assert probe("/healthz") == (200, {"status": "alive"})
    eventually(lambda: probe("/readyz")[0] == 200, "the poller has polled")
    _, said = probe("/readyz")
    assert (said["status"], said["takes_check_ins"]) == ("degraded", True)
    bad = {finding["part"] for finding in said["findings"] if finding["severity"] == "bad"}
    assert {"postgres", "valkey", "broker"} == bad
    assert "spool" in {finding["part"] for finding in said["findings"]}
    assert probe("/readyz/all") == (503, probe("/readyz/all")[1])
    assert probe("/metrics") == (403, {"detail": "send METRICS_TOKEN as a bearer token"})


def test_every_line_of_the_web_and_its_batcher_is_json(web):
    os.kill(web.process.pid, signal.SIGHUP)
    before = web.workers()
    eventually(lambda: before.isdisjoint(web.workers()) and web.workers(), "the worker is replaced")
    os.kill(web.process.pid, signal.SIGTERM)
    web.process.wait(PATIENCE_SECONDS)

    lines = [json.loads(line) for line in web.log.read_text().splitlines()]
    assert all({"event", "level", "logger", "timestamp", "process"} <= line.keys() for line in lines)
