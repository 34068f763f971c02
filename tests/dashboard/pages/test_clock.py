"""The clock's page for people: the sentence first, then what it depends on."""

import re
from datetime import timedelta

import pytest
import time_machine

from health import liveness
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def show(engines):
    """Return the words of the page half a minute after ten, for an account without any project."""
    for minutes in range(30):
        at = NOW - minutes * MINUTE
        factories.TickFactory(at=at, volume=1000, deviation_percent=2.0, finished_at=at + 2 * SECOND)
    for kind in liveness.Kind:
        liveness.mark_alive(kind, NOW + 30 * SECOND)

    def read(shard_at=NOW, **node) -> str:
        factories.ShardClockFactory(shard=0, kind="missed", position=shard_at)
        factories.IngestNodeFactory(seen_at=NOW + 30 * SECOND, pid=12, **node)
        with time_machine.travel(NOW + 30 * SECOND, tick=False):
            response = client_of(factories.UserFactory()).get("/clock/")
        assert response.status_code == 200
        assert b"style=" not in response.content
        return words(response)

    return read


def test_a_clock_on_time_says_so_first(show):
    page = show()
    assert page.index("on time The clock is at 10:00 UTC") < page.index("The last two hours")


def test_a_late_clock_names_what_it_waits_for_and_what_waits(show):
    page = show(NOW - 5 * MINUTE, spooled_count=1_204, watermark=NOW - 5 * MINUTE)
    assert "late The clock waits at 09:55 UTC, 5 minutes behind: shard 0 is behind" in page
    assert "What delays it, in the order to fix it" in page
    assert "check-ins in spools 1,204" in page
    assert "messages to people that are not sent 0" in page


@pytest.mark.usefixtures("show")
@pytest.mark.parametrize("language", ["en", "de"])
def test_a_suspicious_bar_has_a_sign_above_it_beside_its_colour(language):
    factories.TickFactory(at=NOW + MINUTE, is_listened=False)
    with time_machine.travel(NOW + MINUTE, tick=False):
        page = client_of(factories.UserFactory()).get("/clock/", headers={"Accept-Language": language}).content.decode()
    plot = page[page.index('<svg class="volume"') :].partition("</svg>")[0]
    assert plot.count('<path class="low"') == 1
    assert plot.count('<rect class="low"') == 1
    assert not re.search('="[0-9]+,', plot), "numbers of a drawing are not written as in a text"
    assert {"en": "has a triangle above it", "de": "ein Dreieck"}[language] in page
