from datetime import UTC, datetime, timedelta, timezone

import pytest

from lib.wallclock import ClockSpeed, utcnow

ORIGIN = datetime(2026, 1, 5, tzinfo=UTC)


def test_without_a_test_clock_it_is_the_wall_clock(settings):
    settings.TEST_CLOCK = None
    before = datetime.now(UTC)

    assert before <= utcnow() <= datetime.now(UTC)


def test_a_test_clock_speeds_up_the_wall_clock(settings):
    settings.TEST_CLOCK = ClockSpeed(datetime.now(UTC) - timedelta(minutes=10), speed=60)
    wall = datetime.now(UTC)

    assert utcnow() - wall >= 59 * timedelta(minutes=10)


@pytest.mark.parametrize(
    ("wall", "shown"),
    [
        pytest.param(ORIGIN, ORIGIN, id="both agree at the origin"),
        pytest.param(ORIGIN + timedelta(seconds=1), ORIGIN + timedelta(minutes=1), id="a second is a minute"),
        pytest.param(ORIGIN - timedelta(seconds=1), ORIGIN - timedelta(minutes=1), id="also before the origin"),
    ],
)
def test_speed_60_makes_a_minute_of_every_second(wall, shown):
    assert ClockSpeed(ORIGIN, speed=60).at(wall) == shown


def test_the_origin_may_be_in_any_zone_and_the_answer_is_in_utc():
    nepal = timezone(timedelta(hours=5, minutes=45))

    shown = ClockSpeed(ORIGIN.astimezone(nepal), speed=2).at(ORIGIN)

    assert shown == ORIGIN
    assert shown.tzinfo is UTC


def test_a_clock_is_written_as_instant_and_speed():
    assert ClockSpeed.parse("2026-01-05T00:00:00Z@60") == ClockSpeed(ORIGIN, speed=60)


@pytest.mark.parametrize(
    "text", ["", "60", "2026-01-05T00:00:00Z", "2026-01-05T00:00:00@60", "never@60", f"{ORIGIN}@0", f"{ORIGIN}@nan"]
)
def test_an_unreadable_clock_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        ClockSpeed.parse(text)
