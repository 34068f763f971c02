"""Beat on a machine whose clock is put wrong, and right again."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from celery.schedules import schedule

from project.celery import app
from project.scheduler import SteadyScheduler

NOW = datetime(2026, 1, 5, 10, 0, 5, tzinfo=UTC)


@pytest.fixture
def sent(monkeypatch):
    names = []
    monkeypatch.setattr(SteadyScheduler, "apply_async", lambda _, entry, **__: names.append(entry.name))
    return names


def beat(scheduler, seconds, traveller):
    """Let beat turn for so long, at two looks a second of its time."""
    for _ in range(seconds * 2):
        traveller.shift(0.5)
        while scheduler.tick() == 0:
            pass


@pytest.fixture
def scheduler(monkeypatch):
    """Beat's schedule with one entry a minute."""
    monkeypatch.setattr(SteadyScheduler, "setup_schedule", lambda _: None)
    made = SteadyScheduler(app=app)
    made.update_from_dict({"tick": {"task": "t", "schedule": schedule(60, relative=True)}})
    return made


@pytest.mark.parametrize("ahead", [timedelta(seconds=90), timedelta(days=5000)], ids=str)
def test_beat_goes_on_in_the_next_minute_when_its_clock_is_set_back(request, sent, ahead, caplog):
    with time_machine.travel(NOW, tick=False) as traveller:
        scheduler = request.getfixturevalue("scheduler")
        beat(scheduler, 120, traveller)
        traveller.shift(ahead)
        beat(scheduler, 120, traveller)
        before = len(sent)
        traveller.shift(-ahead)
        beat(scheduler, 120, traveller)
    assert before >= 4
    assert len(sent) - before == 2
    assert caplog.text.count("was set back") == 1


def test_a_fraction_of_a_second_changes_nothing(request, sent, caplog):
    with time_machine.travel(NOW, tick=False) as traveller:
        scheduler = request.getfixturevalue("scheduler")
        for _ in range(60):
            beat(scheduler, 3, traveller)
            traveller.shift(-0.2)
    assert len(sent) == 2, "168 seconds in all"
    assert "set back" not in caplog.text
