"""What surrounds each page: what is wrong with Watchclock itself, for those whom it concerns."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from health import poller
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words
from tests.health.test_problems import with_rows

pytestmark = pytest.mark.django_db
UNSENT = "12 notifications not sent yet"
CHANNEL = "Channel room of shop fails: 404"
NOBODY = "3 notifications reached nobody"


@pytest.fixture
def in_trouble(monkeypatch):
    """Alerts do not get out, one channel fails, and some notifications have nobody to go to."""
    facts = with_rows(
        unsent_count=12,
        oldest_unsent_at=factories.NOW - timedelta(hours=1),
        failing_channels=[("room of shop", "404")],
        has_routes=True,
        unnotified_count=3,
    )
    monkeypatch.setattr(poller, "running", SimpleNamespace(facts=lambda: facts))


@pytest.mark.usefixtures("in_trouble")
def test_administrators_see_on_each_page_what_is_wrong_with_watchclock(admin_client):
    for address in ("/", "/wall/", "/projects/"):
        page = words(admin_client.get(address))
        assert UNSENT in page
        assert CHANNEL in page
        assert NOBODY in page


@pytest.mark.usefixtures("in_trouble")
def test_others_see_what_stops_its_work_and_no_names_of_projects():
    page = words(client_of(factories.UserFactory()).get("/"))
    assert UNSENT in page
    assert CHANNEL not in page
    assert NOBODY not in page


def test_the_clock_page_names_something_of_a_project_to_administrators_only(admin_client, engines):
    factories.ChannelFactory(
        name="room", project__slug="shop", open_since=factories.NOW, probe_at=factories.NOW, last_error="404"
    )
    assert CHANNEL in words(admin_client.get("/clock/"))
    assert CHANNEL not in words(client_of(factories.UserFactory()).get("/clock/"))


@pytest.mark.usefixtures("in_trouble")
def test_whoever_has_not_logged_in_sees_nothing_of_it(client):
    assert UNSENT not in words(client.get("/login/"))


def test_nothing_is_said_while_all_is_well(admin_client):
    assert 'id="findings" hidden' in admin_client.get("/").text
