"""The heartbeat to somebody else: only while the clock is on time, and no failure of it matters to the clock."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.conf import settings

from health import heartbeat, tasks
from health.heartbeat import HeartbeatResult, send_if_on_time
from project.local.children import BASE_DIR
from project.local.engines import free_port
from tests.clients.web_server import WebServer, client_environment, running_web_server
from tests.factories import NOW, MessageFactory, TickFactory

MINUTE = timedelta(minutes=1)


class Somebody:
    """A server that remembers what it was asked for, and answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []
        somebody = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                somebody.asked.append(self.path)
                self.send_response(somebody.status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the library
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ping/5b0a2f3c?from=here"


@pytest.fixture
def somebody() -> Iterator[Somebody]:
    listening = Somebody()
    thread = threading.Thread(target=listening.server.serve_forever)
    thread.start()
    yield listening
    listening.server.shutdown()
    thread.join()
    listening.server.server_close()


@pytest.mark.django_db
def test_a_clock_on_time_says_so(somebody):
    TickFactory(at=NOW - MINUTE)

    assert send_if_on_time(somebody.url, now=NOW) is HeartbeatResult.SENT
    assert somebody.asked == ["/ping/5b0a2f3c?from=here"]


@pytest.mark.django_db
def test_a_clock_that_is_late_or_has_never_ticked_says_nothing(somebody, caplog):
    assert send_if_on_time(somebody.url, now=NOW) is HeartbeatResult.WITHHELD
    TickFactory(at=NOW - 10 * MINUTE)
    TickFactory(at=NOW - 9 * MINUTE, finished_at=None)

    assert send_if_on_time(somebody.url, now=NOW) is HeartbeatResult.WITHHELD
    assert somebody.asked == []
    assert "heartbeat withheld: " in caplog.text
    assert "No tick was written since 09:51 UTC" in caplog.text


@pytest.mark.django_db
def test_a_watchclock_that_cannot_tell_people_says_nothing(somebody):
    TickFactory(at=NOW - MINUTE)
    MessageFactory(created_at=NOW - 10 * MINUTE, last_error="no route to host")

    assert send_if_on_time(somebody.url, now=NOW) is HeartbeatResult.WITHHELD
    assert somebody.asked == []


@pytest.mark.django_db
def test_a_failure_is_logged_without_the_address_and_the_next_one_is_sent(somebody, caplog):
    TickFactory(at=NOW - MINUTE)
    somebody.status = 503
    assert send_if_on_time(somebody.url, now=NOW) is HeartbeatResult.FAILED
    nobody = f"http://127.0.0.1:{free_port()}/ping/5b0a2f3c"
    assert send_if_on_time(nobody, now=NOW) is HeartbeatResult.FAILED
    somebody.status = 200
    assert send_if_on_time(somebody.url, now=NOW) is HeartbeatResult.SENT

    assert "it answers 503" in caplog.text
    assert "refused" in caplog.text
    assert "5b0a2f3c" not in caplog.text


@pytest.mark.django_db
def test_somebody_who_does_not_answer_is_not_waited_for(monkeypatch):
    TickFactory(at=NOW - MINUTE)
    monkeypatch.setattr(heartbeat, "ANSWER_SECONDS_MAX", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert send_if_on_time(f"http://127.0.0.1:{mute.getsockname()[1]}/", now=NOW) is HeartbeatResult.FAILED


def test_without_an_address_nothing_is_sent(monkeypatch):
    monkeypatch.setattr(settings, "HEARTBEAT_URL", "")

    assert tasks.send_heartbeat() == 0


# --- two instances ----------------------------------------------------------------------------------------------------

WORK = """
import sys
import django
django.setup()
from clocktasks.tasks import tick
from health.tasks import send_heartbeat
if "tick" in sys.argv:
    tick()
print(send_heartbeat())
"""


def work(instance: WebServer, *what: str, other: str) -> str:
    """Do what a worker of an instance does each minute, or a part of it; returns how many heartbeats it has sent."""
    ended = subprocess.run(
        [sys.executable, "-c", WORK, *what],
        cwd=BASE_DIR,
        env=client_environment(
            DATABASE_URL=instance.database_url,
            REDIS_URL=settings.REDIS_URL,
            SECRET_KEY="of a test",
            DJANGO_SETTINGS_MODULE="project.settings",
            HEARTBEAT_URL=other,
        ),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.long
@pytest.mark.xdist_group("supervisor")
def test_two_instances_watch_each_other(tmp_path, engines):
    with contextlib.ExitStack() as running:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        a, b = (
            running.enter_context(running_web_server(tmp_path / name, os.environ["DATABASE_URL"], settings.REDIS_URL))
            for name in ("a", "b")
        )
        at_a, at_b = a.ping_url("watchclock-b"), b.ping_url("watchclock-a")

        assert work(a, "tick", other=at_b) == "1"
        assert work(b, "tick", other=at_a) == "1"
        assert [run["status"] for run in (a.run("watchclock-b"), b.run("watchclock-a"))] == ["ok", "ok"]

        # No tick of A was finished for ten minutes, whatever the reason: B hears no more of it.
        a.rows(
            "UPDATE clocktasks_tick SET at = at - interval '10 minutes', "
            "finished_at = finished_at - interval '10 minutes' RETURNING at"
        )
        assert work(a, other=at_b) == "0"
        assert len(b.runs("watchclock-a")) == 1
