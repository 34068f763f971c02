"""Decisions of pages: what runs long, when clocks change, when a snooze ends, how an instant is shown."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from dashboard.moments import READER_ZONE, moment, roughly_from_now
from dashboard.pages.monitor.clock_changes import clock_changes
from dashboard.pages.monitor.state import Situation, State, state_of
from dashboard.pages.now.runs import is_long
from dashboard.pages.snoozes import snooze_end

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("minutes", "known", "is_so"),
    [
        pytest.param(49, [], True, id="most of the time after which it is a timeout"),
        pytest.param(47, [], False, id="nothing is known of others"),
        pytest.param(5, [60_000] * 20, True, id="more than twice as long as usual"),
        pytest.param(2, [60_000] * 20, False, id="twice as long"),
        pytest.param(5, [60_000] * 19, False, id="too few are known"),
        pytest.param(0.9, [1_000] * 20, False, id="under a minute"),
    ],
)
def test_when_a_run_takes_long(minutes, known, is_so):
    assert is_long(timedelta(minutes=minutes), limit=HOUR, durations_ms=known) == is_so


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("Europe/Vienna", [("2026-03-29T01:00", 60), ("2026-10-25T01:00", -60)]),
        ("Australia/Lord_Howe", [("2026-04-04T15:00", -30), ("2026-10-03T15:30", 30)]),
        ("UTC", []),
    ],
)
def test_the_next_changes_of_the_clocks(zone, expected):
    changes = list(islice(clock_changes(ZoneInfo(zone), now=NOW), 2))
    assert [(f"{one.at:%Y-%m-%dT%H:%M}", one.by / timedelta(minutes=1)) for one in changes] == expected


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (Situation(True, "error", NOW, NOW, True), State.DISABLED),
        (Situation(False, "error", NOW, NOW + HOUR, True), State.FAILING),
        (Situation(False, "ok", NOW, NOW + HOUR, True), State.LATE),
        (Situation(False, "ok", NOW + HOUR, NOW + 2 * HOUR, True), State.RUNNING),
        (Situation(False, "ok", NOW + HOUR, NOW + 2 * HOUR, False), State.OK),
        (Situation(False, "active", None, None, False), State.WAITING),
    ],
)
def test_the_state_of_an_environment(situation, expected):
    assert state_of(situation, now=NOW) == expected


@pytest.fixture
def reader_in_vienna():
    token = READER_ZONE.set(ZoneInfo("Europe/Vienna"))
    yield
    READER_ZONE.reset(token)


@pytest.mark.usefixtures("reader_in_vienna")
@pytest.mark.parametrize(
    ("now", "end"), [("2026-03-01T07:59", "2026-03-01T08:00"), ("2026-03-01T08:00", "2026-03-02T08:00")]
)
def test_until_the_morning_is_nine_on_the_wall_clock_of_the_reader(now, end):
    at = datetime.fromisoformat(f"{now}+00:00")
    assert snooze_end("morning", now=at) == datetime.fromisoformat(f"{end}+00:00")


@pytest.mark.usefixtures("reader_in_vienna")
def test_an_instant_is_shown_on_the_clock_of_the_reader_with_the_others_beside():
    shown = moment(NOW - HOUR, "Asia/Tokyo", now=NOW)
    assert ">12:00</time>" in shown
    assert "12:00:00 Europe/Vienna · 2026-03-01 20:00:00 Asia/Tokyo · 2026-03-01 11:00:00 UTC · 1 hour ago" in shown


def test_a_rough_distance_has_one_unit():
    assert roughly_from_now(NOW + timedelta(hours=2, minutes=6), now=NOW) == "in 2 hours"
    assert roughly_from_now(NOW - timedelta(days=3, hours=1), now=NOW) == "3 days ago"
    assert roughly_from_now(NOW - timedelta(minutes=5), now=NOW) == "5 minutes ago"


def test_an_instant_of_another_year_has_its_year():
    assert ">2025-02-01 12:00</time>" in moment(datetime(2025, 2, 1, 12, tzinfo=UTC), now=NOW)
