"""What those cost who have a page open, in a real instance, and how soon they see what happened."""

import contextlib
import re
import socket
import time
import urllib.parse
from collections.abc import Iterator

import psutil
import pytest
from django.conf import settings
from playwright.sync_api import sync_playwright

from tests.e2e.browser import chromium
from tests.e2e.watchclock import Watchclock, running_watchclock
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("main_job")]


@pytest.fixture
def watchclock(tmp_path) -> Iterator[Watchclock]:
    with running_watchclock(tmp_path) as started:
        started.wait_until(lambda: started.check_in("hello", status="ok") != 0, "the web answers")
        yield started


EACH_MINUTE = {"schedule": {"type": "interval", "value": 1, "unit": "minute"}, "checkin_margin": 1}
INCIDENT = """
    SELECT FROM incidents_incident AS incident
      JOIN monitors_monitorenvironment AS live ON live.id = monitor_environment_id
      JOIN monitors_monitor AS monitor ON monitor.id = monitor_id WHERE slug = %(slug)s
"""
TEN_SESSIONS = """
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
for number in range(10):
    user = User.objects.create_superuser(f"viewer-{number}")
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.create()
    print("SESSION", session.session_key)
"""


def test_two_hundred_viewers_of_pages_cost_little_memory(watchclock):
    address = urllib.parse.urlsplit(watchclock.instance()["admin_url"])
    sessions = log_in_ten_people(watchclock)
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


def test_an_incident_is_on_an_open_page_within_two_seconds_of_the_tick_that_opened_it(watchclock):
    program = chromium()
    if program is None:
        pytest.skip("chromium is not installed")
    address = urllib.parse.urljoin(watchclock.instance()["admin_url"], "/")
    delays = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
    ):
        context = browser.new_context()
        [session, *_] = log_in_ten_people(watchclock)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": address}])
        page = context.new_page()
        page.goto(address)
        for number in range(5):
            slug = f"sync-{number}"
            watchclock.check_in(slug, status="ok", monitor_config=EACH_MINUTE)
            watchclock.wait_for_rows(f"{slug} is missed", INCIDENT, slug=slug)
            opened = time.monotonic()
            page.get_by_role("link", name=slug, exact=True).first.wait_for(timeout=PATIENCE_SECONDS * 1000)
            delays.append(time.monotonic() - opened)
    assert min(delays) < 2  # Other work on the machine only ever adds.


def log_in_ten_people(watchclock: Watchclock) -> list[str]:
    """The sessions of ten administrators."""
    return re.findall("SESSION (.+)", watchclock.manage("shell", "-v", "0", "-c", TEN_SESSIONS))


def memory_of_web(watchclock: Watchclock) -> int:
    """The bytes that the web's processes do not share with others, and their part of what they share."""
    web = psutil.Process(watchclock.instance()["pids"]["web"])
    return sum(process.memory_full_info().pss for process in (web, *web.children(recursive=True)))
