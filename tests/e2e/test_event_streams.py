"""What those cost who have a page open, in a real instance."""

import contextlib
import re
import socket
import urllib.parse
from collections.abc import Iterator

import psutil
import pytest
from django.conf import settings

from tests.e2e.watchclock import Watchclock, running_watchclock
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("main_job")]


@pytest.fixture
def watchclock(tmp_path) -> Iterator[Watchclock]:
    with running_watchclock(tmp_path) as started:
        started.wait_until(lambda: started.check_in("hello", status="ok") != 0, "the web answers")
        yield started


TEN_SESSIONS = """
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
for number in range(10):
    user = User.objects.create_user(f"viewer-{number}")
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.create()
    print("SESSION", session.session_key)
"""


def test_two_hundred_viewers_of_pages_cost_little_memory(watchclock):
    address = urllib.parse.urlsplit(watchclock.instance()["admin_url"])
    sessions = re.findall("SESSION (.+)", watchclock.manage("shell", "-v", "0", "-c", TEN_SESSIONS))
    before = memory_of_web(watchclock)
    with contextlib.ExitStack() as stack:
        for number in range(200):
            viewer = stack.enter_context(socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS))
            cookie = f"{settings.SESSION_COOKIE_NAME}={sessions[number % 10]}"
            viewer.sendall(f"GET /events?since=0 HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
            answer = b""
            while b"data:" not in answer:
                piece = viewer.recv(65_536)
                assert piece, answer
                answer += piece
        grown = memory_of_web(watchclock) - before
        assert grown < 100_000_000


def memory_of_web(watchclock: Watchclock) -> int:
    """The bytes that the web's processes do not share with others, and their part of what they share."""
    web = psutil.Process(watchclock.instance()["pids"]["web"])
    return sum(process.memory_full_info().pss for process in (web, *web.children(recursive=True)))
