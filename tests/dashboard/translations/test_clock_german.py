"""The page of the clock is in the reader's language in whatever state the clock is; the admin's stays in English."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import translation

from checkins.node_facts import NodeStanding
from clocktasks.models import ClockIncident
from clocktasks.volume import VolumeDecision
from dashboard.texts import said
from dashboard.vocabulary import word
from health.clock.timeline import TickState
from health.facts import Severity
from tests import factories
from tests.dashboard.pages.conftest import words
from tests.dashboard.translations.test_translations import bare
from tests.dashboard.translations.test_translations import in_brackets as in_brackets
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
TICKS: list[dict[str, object]] = [
    {"volume": 912, "deviation_percent": -24.0, "decision": "abnormal", "decided_at": None, "finished_at": None},
    {"volume": 1_204, "decision": "recovering", "decided_at": None, "finished_at": None},
    {"volume": 1, "decision": "incident", "unknown_count": 1_204, "finished_at": None},
    {"is_listened": False, "finished_at": None},
    {"volume": 1_000, "missed_count": 3, "timeout_count": 2, "unknown_count": 1},
    {"volume": 1_000, "finished_at": None},
]
"""Ticks in every state, the newest first."""
INCIDENTS: list[dict[str, object]] = [
    {"cause": "volume", "ended_at": None},
    {"environment_count": 0, "unknown_count": 0},
    {},
    {"told_at": NOW},
]
"""Incidents of both causes, of which people know, will know and need not know."""


@pytest.fixture
def troubled(engines, db):
    """A clock that has everything that its page can show."""
    for number, columns in enumerate(TICKS):
        at = NOW - number * MINUTE
        factories.TickFactory(at=at, **columns)
    for state in ("live", "silent", "dropped", "left"):
        factories.IngestNodeFactory(state=state, spooled_count=0 if state == "left" else 7)
    for kind in ("missed", "timeout", "unknown"):
        factories.ShardClockFactory(kind=kind, position=NOW - 8 * MINUTE)
    for number, columns in enumerate(INCIDENTS):
        started_at = NOW - (number + 1) * timedelta(hours=1)
        factories.ClockIncidentFactory(started_at=started_at, **columns)
    factories.WaitingCheckInFactory()
    with time_machine.travel(NOW + timedelta(seconds=30), tick=False):
        yield


@pytest.mark.usefixtures("troubled", "in_brackets")
def test_every_text_of_a_clock_in_trouble_can_be_translated(admin_client):
    assert list(bare(admin_client.get("/clock/").content.decode())) == []


@pytest.mark.usefixtures("troubled")
def test_its_tables_are_in_german_and_those_of_the_admin_in_english(admin_client):
    admin_client.cookies["watchclock_language"] = "de"
    page, of_admin = words(admin_client.get("/clock/")), words(admin_client.get("/admin/clock/"))
    for german, english in (
        ("Die neuesten 15 Ticks des Journals", "The newest 15 ticks of the ledger"),
        ("weit weniger Check-ins als üblich", "far fewer check-ins than usual"),
        ("Nachrichten in der Queue clock", "messages in the queue clock"),
        ("3 von 3 Uhren liegen hinter 09:58 UTC zurück", "3 of 3 clocks are behind 09:58 UTC"),
        ("1.204", "1,204"),
    ):
        assert german in page
        assert english not in page
        assert english in of_admin


@pytest.mark.parametrize(
    "text",
    [
        *(state.meaning for state in TickState),
        *(text for standing in NodeStanding for text in (standing.word, standing.meaning)),
        *ClockIncident.Cause.labels,
    ],
)
def test_a_state_of_the_clock_has_a_german_text(text):
    with translation.override("de"):
        assert said(text) != text


@pytest.mark.parametrize("text", [*Severity, *VolumeDecision, "finished", "deaf", "missed", "timeout", "unknown"])
def test_a_word_of_the_clock_is_known(text):
    with translation.override("de"):
        assert word(text) != text or text == "normal"
