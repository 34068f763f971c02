"""Whether an opening is told now or later, and behind what it is held."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.holds import HOLD_MAX, RECOVERY, WAIT_MAX, WAITS, Hold, Opening, Upstream, hold, holds

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
DB, NETWORK = 1, 2


def opening(*upstreams, **facts):
    return Opening(created_at=NOW, upstreams=upstreams or (DB,), **facts)


def upstream(name="db", **facts):
    return Upstream(name=name, **facts)


def told(name="db", **facts):
    return upstream(name, is_failing=True, is_notified=True, **facts)


def held(graph, now=NOW, **facts):
    return hold(opening(**facts), graph, now=now)


def test_without_dependencies_it_is_told_now():
    assert hold(Opening(created_at=NOW), {}, now=NOW) is None


def test_a_failure_behind_one_that_people_know_of_is_held_and_its_holder_named():
    assert held({DB: told()}) == Hold(NOW + MINUTE, "it depends on db, which is failing")


def test_behind_a_monitor_that_works_nothing_is_held():
    assert held({DB: upstream()}) is None


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"is_notified": False}, id="nobody was told: all messages failed, or it is held itself"),
        pytest.param({"is_quiet": True}, id="muted, snoozed, archived, in maintenance or disabled"),
    ],
)
def test_behind_a_failure_that_people_do_not_hear_of_nothing_is_held(facts):
    assert held({DB: upstream(**{"is_failing": True, "is_notified": True} | facts)}) is None


@pytest.mark.parametrize("facts", [{"is_notified": False}, {"is_notified": True, "is_quiet": True}])
def test_the_way_goes_on_to_the_root(facts):
    graph = {DB: upstream(is_failing=True, upstreams=(NETWORK,), **facts), NETWORK: told("network")}
    assert held(graph).by == "it depends on network, which is failing"


def test_of_two_failures_one_above_the_other_the_root_is_named():
    graph = {DB: told(upstreams=(NETWORK,)), NETWORK: told("network")}
    assert held(graph).by == "it depends on network, which is failing"


def test_a_monitor_that_works_in_between_cuts_the_way():
    assert held({DB: upstream(upstreams=(NETWORK,)), NETWORK: told("network")}) is None


def test_many_holders_are_counted():
    graph = {number: told(f"db-{number}") for number in range(8)}
    verdict = hold(opening(*graph), graph, now=NOW)
    assert verdict is not None
    assert verdict.by.endswith("and 3 more")


@pytest.mark.parametrize(("minutes", "is_held"), [(9, True), (10, False), (11, False)])
def test_it_is_released_ten_minutes_after_the_end_of_the_root(minutes, is_held):
    graph = {DB: upstream(is_notified=True, over_at=NOW - minutes * MINUTE)}
    assert (held(graph) is not None) is is_held


def test_a_root_that_has_just_recovered_is_named_as_such():
    assert held({DB: upstream(is_notified=True, over_at=NOW)}).by == "it depends on db, which has just recovered"


@pytest.mark.parametrize(
    ("after", "is_held"), [(HOLD_MAX - SECOND, True), (HOLD_MAX, False), (HOLD_MAX + SECOND, False)]
)
def test_after_six_hours_it_is_told_whatever_happens(after, is_held):
    verdict = held({DB: told()}, now=NOW + after)
    assert (verdict is not None) is is_held
    if verdict is not None:
        assert verdict.until == NOW + HOLD_MAX


class TestWaitingForAVerdict:
    def due(self, slot=NOW, margin=10 * MINUTE, **facts):
        return {DB: upstream(pending_slot=slot, judged_at=slot + margin, **facts)}

    def test_a_child_that_fails_first_waits_for_the_verdict_on_its_parent(self):
        assert held(self.due()) == Hold(NOW + MINUTE, WAITS)

    @pytest.mark.parametrize(("minutes", "waits"), [(10, True), (11, False)])
    def test_until_the_tick_after_its_deadline(self, minutes, waits):
        assert (held(self.due(), now=NOW + minutes * MINUTE) is not None) is waits

    @pytest.mark.parametrize(("after", "waits"), [(WAIT_MAX - SECOND, True), (WAIT_MAX, False)])
    def test_fifteen_minutes_at_most(self, after, waits):
        assert (held(self.due(margin=60 * MINUTE), now=NOW + after) is not None) is waits

    def test_not_for_a_slot_after_that(self):
        assert held(self.due(slot=NOW + WAIT_MAX + SECOND)) is None

    @pytest.mark.parametrize(("ok_at", "waits"), [(NOW - SECOND, True), (NOW, False), (NOW + SECOND, False)])
    def test_not_if_the_parent_has_been_ok_since(self, ok_at, waits):
        assert (held(self.due(ok_at=ok_at)) is not None) is waits

    def test_not_for_a_parent_that_nobody_would_hear_of(self):
        assert held(self.due(is_quiet=True)) is None

    def test_it_waits_while_the_message_about_the_parent_is_written(self):
        graph = {DB: upstream(is_failing=True, is_being_notified=True)}
        assert held(graph) == Hold(NOW + 5 * SECOND, WAITS)
        assert held(graph, now=NOW + WAIT_MAX) is None


def test_a_snoozed_opening_is_told_at_the_end_of_the_snooze():
    until = NOW + 5 * timedelta(days=1)
    assert held({}, snoozed_until=until) == Hold(until, "snoozed until 2027-03-06 12:00 UTC")
    assert held({}, snoozed_until=until, now=until) is None


flags = st.booleans()
instants = st.none() | st.integers(-30, 30).map(lambda minutes: NOW + minutes * MINUTE)
monitors = st.builds(
    Upstream,
    name=st.just("x"),
    upstreams=st.lists(st.integers(0, 5), max_size=3),
    is_failing=flags,
    is_notified=flags,
    is_being_notified=flags,
    is_quiet=flags,
    over_at=instants,
    pending_slot=instants,
    judged_at=instants,
    ok_at=instants,
)
graphs = st.lists(monitors, min_size=1, max_size=6).map(lambda found: dict(enumerate(found)))


@given(graphs, st.lists(st.integers(0, 5), max_size=4), st.integers(0, 7 * 60))
def test_nothing_is_held_for_ever_nor_behind_what_nobody_knows_of(graph, upstreams, minutes):
    """Also over graphs with cycles, which cannot be stored."""
    now = NOW + minutes * MINUTE
    verdict = hold(Opening(created_at=NOW, upstreams=upstreams), graph, now=now)
    if verdict is None:
        return
    assert now < verdict.until <= NOW + HOLD_MAX
    if verdict.by == WAITS:
        assert verdict.until <= NOW + WAIT_MAX
    else:
        assert any(holds(graph[id_], now=now) for id_ in reachable(upstreams, graph))


def reachable(upstreams, graph):
    found, waiting = set(), list(upstreams)
    while waiting:
        id_ = waiting.pop()
        if id_ in graph and id_ not in found:
            found.add(id_)
            waiting += graph[id_].upstreams
    return found


def test_recovery_takes_less_than_the_longest_hold():
    assert RECOVERY < HOLD_MAX
