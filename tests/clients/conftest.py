"""Other people's clients, unchanged and with nothing but their address configured, against the real web."""

import os
from collections.abc import Generator, Iterator

import pytest
from django.conf import settings

from tests.clients.web_server import WebServer, running_web_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, engines: None) -> Iterator[WebServer]:
    """One web for all of them. Each test has monitors of its own."""
    home = tmp_path_factory.mktemp("clients-web")
    with running_web_server(home, os.environ["DATABASE_URL"], settings.REDIS_URL) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_misunderstood(server: WebServer) -> Iterator[None]:
    """What a real client sends is all of use: nothing is dropped, waits for ever, or was lost on its way."""
    yield
    # Read once: what one test has left is not the fault of the next.
    assert server.rows("DELETE FROM checkins_processingerror RETURNING kind, field, value, message, payload") == []
    assert server.rows("DELETE FROM checkins_waitingcheckin RETURNING slug, reason, error") == []
    assert server.rows("DELETE FROM checkins_clientlossreport RETURNING reason, quantity") == []
    assert '"level": "error"' not in server.log.read_text()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, WebServer):
        report.sections.append(("what the web wrote last", server.log.read_text()[-4000:]))
    return report
