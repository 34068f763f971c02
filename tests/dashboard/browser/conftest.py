"""A real browser, and pages that it opens from a server of this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests import factories
from tests.dashboard.pages.conftest import environment as environment
from tests.dashboard.pages.conftest import incident as incident
from tests.dashboard.pages.conftest import monitor as monitor
from tests.e2e.browser import chromium

ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
expect.set_options(timeout=30_000)  # As all that Playwright awaits: five seconds are few on a busy machine.
WATCH_VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective + ' ' + e.blockedURI));
"""


@dataclass
class VirtualTime:
    """A clock that stands until the test sets it: in the place of `lib.wallclock.ClockSpeed`."""

    now: datetime
    speed: float = 1.0

    def at(self, wall: datetime) -> datetime:
        return self.now


@pytest.fixture
def time(settings) -> VirtualTime:
    """The time in which pages and services live, from `factories.NOW` on."""
    settings.TEST_CLOCK = VirtualTime(factories.NOW)
    return settings.TEST_CLOCK


@pytest.fixture(scope="module")
def browser(django_db_setup) -> Iterator[Browser]:
    """Chromium. Playwright keeps an event loop in this thread, in which Django would refuse the tests' statements."""
    program = chromium()
    if program is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield playwright.chromium.launch(executable_path=program, args=ARGUMENTS.split())


@pytest.fixture
def new_context(browser: Browser, live_server, incident):
    """Return a browser of a member with a role, in which every violation of the policy and every error is noted."""
    contexts: list[BrowserContext] = []

    def open_one(role: str = "editor", **options) -> BrowserContext:
        client = Client()
        member = factories.MembershipFactory(project=incident.monitor_environment.monitor.project, role=role)
        client.force_login(member.user)
        context = browser.new_context(base_url=live_server.url, **options)
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])
        context.add_init_script(WATCH_VIOLATIONS)
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()


def problems_of(page: Page) -> list[str]:
    """What axe finds on a page, each as its rule and the elements."""
    results = Axe().run(page)
    return [
        f"{violation['id']}: {[node['html'][:150] for node in violation['nodes']]}"
        for violation in results.response["violations"]
    ]
