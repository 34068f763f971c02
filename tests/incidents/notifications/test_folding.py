"""Which openings are told together: by tick, by number, by quiet hours."""

from datetime import timedelta
from uuid import UUID

import pytest

from incidents.notifications.folding import ERRORS_MAX, Cause, Group, News, fold
from incidents.notifications.routing import Recipient
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
ROOM, PAGER = 1, 2


def news(number=1, *, tick=NOW, channel=ROOM, route=7, project=3, **columns):
    recipient = Recipient(f"guid-{channel}", channel, "a route", route)
    return News(number, UUID(int=number), project, tick, recipient, (number,), **columns)


def folded(*all_news, quiet=(), unfolded=(), begun=()):
    return fold(all_news, quiet=dict.fromkeys(quiet, NOW), unfolded=unfolded, begun=begun)


def sizes(groups):
    return sorted(map(len, groups.values()))


def test_one_opening_of_a_tick_has_a_message_of_its_own():
    assert folded(news()) == ([news()], {})


def test_two_openings_of_a_tick_have_one_message():
    alone, groups = folded(news(1), news(2))
    assert (alone, sizes(groups)) == ([], [2])
    [group] = groups
    assert group == Group(Cause.TICK, 3, "guid-1", ROOM, 7, NOW)


@pytest.mark.parametrize(
    "other", [{"tick": NOW + MINUTE}, {"channel": PAGER}, {"route": 8}, {"project": 4}], ids=lambda one: next(iter(one))
)
def test_openings_that_differ_in_this_are_told_apart(other):
    alone, groups = folded(news(1), news(2, **other))
    assert (len(alone), groups) == (2, {})


def test_few_errors_are_told_one_by_one_and_many_together():
    few = [news(number, tick=None) for number in range(ERRORS_MAX)]
    assert folded(*few) == (few, {})
    alone, groups = folded(*few, news(99, tick=None))
    assert (alone, sizes(groups)) == ([], [ERRORS_MAX + 1])


def test_a_straggler_joins_the_storm_whose_message_waits():
    storm = Group(Cause.TICK, 3, "guid-1", ROOM, 7, NOW)
    assert folded(news(), begun=[storm]) == ([], {storm: [news()]})


def test_a_channel_may_ask_for_a_message_for_each():
    alone, groups = folded(news(1), news(2), unfolded=[ROOM])
    assert (len(alone), groups) == (2, {})


def test_in_quiet_hours_all_is_one_digest_whatever_its_tick_and_route():
    alone, groups = folded(news(1), news(2, tick=None, route=8), news(3, is_over=True), quiet=[ROOM])
    assert (alone, sizes(groups)) == ([], [3])
    assert next(iter(groups)) == Group(Cause.QUIET, 3, "guid-1", ROOM)


def test_what_is_critical_is_told_in_quiet_hours():
    alone, groups = folded(news(1, is_critical=True), news(2), quiet=[ROOM])
    assert ([one.incident for one in alone], sizes(groups)) == ([1], [1])


def test_alert_email_to_has_no_quiet_hours_and_folds():
    alone, groups = folded(news(1, channel=None), news(2, channel=None), quiet=[ROOM], unfolded=[PAGER])
    assert (alone, sizes(groups)) == ([], [2])
