"""When a job flaps, and when it has settled: the formula of Nagios, and a rule by time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.flapping import OPENINGS_MAX, RUNS, History, has_settled, percent, starts

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def after_changes(count, steady=0):
    """Runs that were ok, then changed so often in a row, then stayed as they were."""
    states = [False] * RUNS
    for _ in range(count):
        states.append(not states[-1])
    return [*states, *[states[-1]] * steady][-RUNS:]


def history(failed, period=MINUTE, newest=NOW, openings=0):
    began = [newest - period * number for number in range(len(failed))][::-1]
    return History(failed=failed, began=began, openings=openings)


@pytest.mark.parametrize(("changes", "expected"), [(4, 24), (5, 29.9), (6, 35.5), (10, 57), (20, 100)])
def test_changes_in_a_row_at_the_newest_end(changes, expected):
    assert percent(after_changes(changes)) == pytest.approx(expected, abs=0.5)
    assert (f"{percent(after_changes(5)):.1f}", f"{percent(after_changes(6)):.1f}") == ("29.9", "35.5")


@pytest.mark.parametrize(("changes", "flaps"), [(5, False), (6, True)])
def test_it_starts_at_thirty_percent(changes, flaps):
    assert starts(history(after_changes(changes))) is flaps


@pytest.mark.parametrize(("below", "steady"), [(20, 16), (10, 18), (5, 19)])
def test_steady_runs_needed_after_many_changes(below, steady):
    """The vectors of the formula: after 6 or more changes in a row."""
    for changes in (16, 20):
        assert percent(after_changes(changes, steady)) < below
    assert percent(after_changes(20, steady - 1)) >= below


def test_an_unchanging_job_does_not_flap_however_few_runs_there_are():
    assert percent([]) == percent([True]) == percent([True] * RUNS) == 0


def test_few_runs_weigh_as_the_newest_of_many():
    assert percent([False, True]) == percent(after_changes(1))


@given(st.lists(st.booleans(), max_size=60))
def test_it_is_a_percentage_and_only_the_last_runs_matter(failed):
    assert 0 <= percent(failed) <= 100 + 1e-9
    assert percent(failed) == percent(failed[-RUNS:])


@pytest.mark.parametrize(("openings", "flaps"), [(OPENINGS_MAX, False), (OPENINGS_MAX + 1, True)])
def test_more_than_five_incidents_within_a_day_are_flapping_too(openings, flaps):
    assert starts(history([False] * RUNS, openings=openings)) is flaps


class TestSettling:
    def settled(self, failed, **facts):
        now = facts.pop("now", NOW)
        return has_settled(history(failed, **facts), now=now)

    @pytest.mark.parametrize(("steady", "has"), [(15, False), (16, True)])
    def test_below_twenty_percent(self, steady, has):
        assert self.settled(after_changes(20, steady)) is has

    def test_not_while_there_are_many_incidents_a_day_and_it_works(self):
        assert not self.settled(after_changes(20, 20), openings=OPENINGS_MAX + 1)

    def test_one_that_fails_for_good_is_told_in_spite_of_many_incidents(self):
        assert self.settled(after_changes(19, 20), openings=OPENINGS_MAX + 1)

    @pytest.mark.parametrize(("after", "has"), [(DAY - MINUTE, False), (DAY, True)])
    def test_after_a_day_without_a_change(self, after, has):
        assert self.settled(after_changes(20), now=NOW + after, openings=9) is has

    @pytest.mark.parametrize(("after", "has"), [(5 * DAY - MINUTE, False), (5 * DAY, True)])
    def test_of_a_daily_job_after_five_days_without_a_change(self, after, has):
        assert self.settled(after_changes(20), period=DAY, now=NOW + after) is has

    def test_if_nothing_is_known_of_its_runs_any_more(self):
        assert self.settled([])
