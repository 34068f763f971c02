"""When a channel that fails is left alone, and when it is tried again."""

from datetime import UTC, datetime, timedelta

from incidents.notifications.breaker import (
    FAILURES,
    OVER,
    PAUSE,
    PROBES,
    REFUSED_PROBE,
    SLOW,
    SLOW_MAX,
    Breaker,
    Result,
    after,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def failing(count, *, every=timedelta(seconds=20)):
    breaker = Breaker()
    for number in range(count):
        breaker = after(breaker, Result.FAILS, now=NOW + number * every)
    return breaker


def test_failures_in_a_row_over_a_minute_open_it():
    assert failing(FAILURES - 1).open_since is None
    assert failing(FAILURES).open_since == NOW + (FAILURES - 1) * timedelta(seconds=20)


def test_many_failures_within_a_minute_do_not_open_it():
    assert failing(50, every=SECOND).open_since is None
    assert failing(62, every=SECOND).open_since == NOW + OVER


def test_a_success_closes_it_and_forgets_the_failures():
    assert after(failing(FAILURES), Result.WORKS, now=NOW) == Breaker()


def test_a_refusal_of_the_channel_opens_it_at_once_for_an_hour():
    breaker = after(Breaker(), Result.REFUSES, now=NOW)
    assert breaker.open_since == NOW
    assert not breaker.lets(NOW + REFUSED_PROBE - SECOND)
    assert breaker.lets(NOW + REFUSED_PROBE)


def test_probes_of_an_open_one_are_further_and_further_apart():
    breaker, now, waits = failing(FAILURES), NOW, []
    for _ in range(len(PROBES) + 1):
        assert breaker.probe_at is not None
        now = breaker.probe_at
        breaker = after(breaker, Result.FAILS, now=now)
        waits.append((breaker.probe_at - now).total_seconds())
    assert waits == [*PROBES[1:], PROBES[-1], PROBES[-1]]


def test_an_open_one_lets_nothing_through_before_its_probe():
    breaker = failing(FAILURES)
    assert not breaker.lets(breaker.probe_at - SECOND)
    assert breaker.lets(breaker.probe_at)


def test_a_service_that_asks_for_fewer_requests_is_left_alone_as_long_as_it_asks():
    breaker = after(Breaker(), Result.FAILS, now=NOW, slows=True, retry_after=timedelta(minutes=2))
    assert breaker.open_since is None
    assert not breaker.lets(NOW + timedelta(seconds=119))
    assert breaker.lets(NOW + timedelta(minutes=2))


def test_a_service_that_asks_without_a_time_is_left_alone_for_half_a_minute():
    assert after(Breaker(), Result.FAILS, now=NOW, slows=True).slow_until == NOW + SLOW


def test_after_a_failure_it_is_left_alone_for_a_moment_and_not_after_a_success():
    failed = after(Breaker(), Result.FAILS, now=NOW)
    assert not failed.lets(NOW + PAUSE - timedelta(milliseconds=1))
    assert failed.lets(NOW + PAUSE)
    assert after(failed, Result.WORKS, now=NOW).lets(NOW)


def test_nobody_is_left_alone_for_longer_than_an_hour_because_he_asks():
    breaker = after(Breaker(), Result.FAILS, now=NOW, slows=True, retry_after=timedelta(days=30))
    assert breaker.slow_until == NOW + SLOW_MAX
