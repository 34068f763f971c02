"""How many messages a service takes: never more than its limit, however the times fall, and nothing waits in vain."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.channels import SENDERS
from incidents.notifications.rates import RATES, Rate, paced_after, rate_of, tokens

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RATE = Rate(burst=5, every=timedelta(seconds=2))
LIMITS = {
    "slack": [(60, 65)],
    "teams": [(3_600, 100), (7_200, 150), (86_400, 1_800)],
    "discord": [(2, 5), (60, 30)],
    "telegram": [(60, 20)],
    "pagerduty": [(60, 120)],
    "grafana_oncall": [(300, 300)],
}
"""By kind: in so many seconds at most so many, as the vendors say. Of Slack `short bursts` are taken for five."""


def test_a_new_channel_has_a_full_bucket():
    assert tokens(RATE, None, now=NOW) == RATE.burst


def test_who_has_taken_all_waits_for_one():
    state = paced_after(RATE, None, RATE.burst, now=NOW)
    assert tokens(RATE, state, now=NOW) == 0
    assert state == NOW + RATE.every
    assert tokens(RATE, state, now=state) == 1


def test_a_bucket_is_never_more_than_full():
    assert tokens(RATE, NOW, now=NOW + timedelta(days=400)) == RATE.burst
    again = paced_after(RATE, NOW, RATE.burst, now=NOW + timedelta(days=400))
    assert tokens(RATE, again, now=NOW + timedelta(days=400)) == 0


ASKED = st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 9)), max_size=60)


@given(ASKED, st.integers(1, 9), st.integers(1, 9))
def test_in_no_time_more_is_taken_than_the_burst_and_what_comes_back(asked, burst, seconds):
    rate = Rate(burst, timedelta(seconds=seconds))
    state, now, taken = None, NOW, []
    for wait, wanted in asked:
        now += timedelta(milliseconds=wait)
        count = min(wanted, tokens(rate, state, now=now))
        if count:
            state = paced_after(rate, state, count, now=now)
        taken.append((now, count))
    for first, (begin, _) in enumerate(taken):
        for last, (end, _) in enumerate(taken[first:], first):
            assert sum(count for _, count in taken[first : last + 1]) <= burst + (end - begin) // rate.every + 1


@pytest.mark.parametrize(("kind", "seconds", "most"), [(kind, *limit) for kind, own in LIMITS.items() for limit in own])
def test_whoever_sends_as_fast_as_it_may_stays_below_what_the_vendor_allows(kind, seconds, most):
    rate = RATES[kind]
    assert rate.burst + timedelta(seconds=seconds) // rate.every <= most + 1


def test_rates_are_of_kinds_that_there_are():
    assert RATES.keys() <= SENDERS.keys()


@pytest.mark.parametrize("kind", sorted(SENDERS))
def test_no_kind_is_sent_more_than_ten_a_second_for_long(kind):
    rate = rate_of(kind, 10)
    assert rate.burst <= 50
    assert rate.every >= timedelta(seconds=0.1)


def test_whose_service_publishes_no_limit_is_sent_what_is_set():
    assert rate_of("webhook", 1_000) == Rate(5_000, timedelta(milliseconds=1))
    assert rate_of("slack", 1_000) == RATES["slack"]
