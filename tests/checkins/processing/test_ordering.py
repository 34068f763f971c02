"""D17: the messages of one run are applied in the order in which its job said them, whatever order they came in (pure).

Only the places that a run's messages have are shared among them; nothing of any other run moves.
"""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.messages import LogMessage, LossReport, RefusedCheckIn, RunLog, Source
from checkins.processing.ordering import causal_order
from tests.messages import NOW, make_message, run_id

STATUSES = ("in_progress", "ok", "error")


def said(second):
    """The client's clock at this second."""
    return NOW + timedelta(seconds=second)


def story(*messages):
    """Return what is applied, in order: each message as (run, status)."""
    made = [
        make_message(status, run=run, at=NOW + timedelta(milliseconds=place), sent_at=None if at is None else said(at))
        for place, (run, status, at) in enumerate(messages)
    ]
    return [messages[index][:2] for index in causal_order(made)]


# --- One run ----------------------------------------------------------------------------------------------------------


def test_d17_without_the_clients_clock_the_beginning_comes_first():
    assert story((1, "error", None), (1, "in_progress", None)) == [(1, "in_progress"), (1, "error")]


def test_words_of_the_same_rank_stay_as_they_came():
    words = [(1, "error", None), (1, "ok", None), (1, "error", None)]
    assert story(*words) == [(1, "error"), (1, "ok"), (1, "error")]


def test_d17_where_every_message_has_the_clients_clock_it_decides():
    """Celery's third attempt was faster than its second, and beat's opening message was the slowest of all."""
    came = [(1, "ok", 30), (1, "error", 20), (1, "error", 10), (1, "in_progress", 0)]
    assert story(*came) == [(1, "in_progress"), (1, "error"), (1, "error"), (1, "ok")]


def test_a_heartbeat_stays_between_what_was_said_around_it():
    came = [(1, "in_progress", 0), (1, "error", 10), (1, "in_progress", 5)]
    assert story(*came) == [(1, "in_progress"), (1, "in_progress"), (1, "error")]


def test_one_message_without_the_clients_clock_leaves_only_their_ranks():
    assert story((1, "ok", 5), (1, "error", None), (1, "in_progress", 9)) == [
        (1, "in_progress"),
        (1, "ok"),
        (1, "error"),
    ]


def test_messages_said_in_the_same_instant_stay_as_they_came():
    assert story((1, "error", 5), (1, "ok", 5)) == [(1, "error"), (1, "ok")]


# --- Among others -----------------------------------------------------------------------------------------------------


def test_the_places_of_a_run_are_shared_and_the_others_keep_theirs():
    came = [(1, "ok", None), (2, "ok", None), (1, "in_progress", None), (3, "error", None), (2, "in_progress", None)]
    assert story(*came) == [(1, "in_progress"), (2, "in_progress"), (1, "ok"), (3, "error"), (2, "ok")]


def test_the_same_id_in_another_project_is_another_run():
    messages = [make_message("ok", run=1, project_id=1), make_message("in_progress", run=1, project_id=2)]
    assert causal_order(messages) == [0, 1]


def test_messages_without_an_id_say_nothing_about_their_order():
    messages = [make_message("ok", sent_at=said(9)), make_message("in_progress", sent_at=said(0))]
    assert causal_order(messages) == [0, 1]


@pytest.mark.parametrize(
    "other",
    [
        LogMessage(
            project_id=1,
            slug="job",
            raw_slug="job",
            environment="production",
            check_in_id=run_id(1),
            received_at=NOW,
            source=Source.HEALTHCHECKS,
            log=RunLog(b"", 0),
            payload={},
        ),
        LossReport(
            project_id=1,
            reason="network_error",
            quantity=1,
            reported_at=None,
            received_at=NOW,
            source=Source.SENTRY_ENVELOPE,
        ),
        RefusedCheckIn(
            project_id=1,
            slug="job",
            environment="production",
            received_at=NOW,
            source=Source.REST,
            problems=(),
            payload={},
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_no_word_of_a_run_keeps_its_place(other):
    messages = [make_message("ok", run=1), other, make_message("in_progress", run=1)]
    assert causal_order(messages) == [2, 1, 0]


def test_an_empty_batch_has_an_order():
    assert causal_order([]) == []


# --- Always -----------------------------------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.builds(
        make_message,
        st.sampled_from(STATUSES),
        run=st.sampled_from([None, 1, 2, 3]),
        project_id=st.sampled_from([1, 2]),
        sent_at=st.none() | st.integers(0, 5).map(said),
    ),
    max_size=12,
)


def run_of(message):
    """Return which run a message is certainly about; its own if it does not say."""
    return id(message) if message.check_in_id is None else (message.project_id, message.check_in_id)


@given(MESSAGES)
def test_every_message_is_applied_exactly_once(messages):
    assert sorted(causal_order(messages)) == list(range(len(messages)))


@given(MESSAGES)
def test_each_place_stays_with_the_run_that_had_it(messages):
    assert [run_of(messages[index]) for index in causal_order(messages)] == [run_of(message) for message in messages]


@given(MESSAGES)
def test_within_a_run_the_clients_clock_decides_or_else_the_beginning_comes_first(messages):
    ordered = [messages[index] for index in causal_order(messages)]
    for run in {run_of(message) for message in messages}:
        words = [message for message in ordered if run_of(message) == run]
        if all(word.sent_at is not None for word in words):
            ranks = [word.sent_at for word in words]
        else:
            ranks = [word.status != "in_progress" for word in words]
        assert ranks == sorted(ranks)


@given(MESSAGES, st.data())
def test_a_run_is_put_in_the_same_order_whatever_stands_between_its_messages(messages, data):
    """Other runs are left out at will: those that stay are applied in the same order as before."""
    kept = data.draw(st.sets(st.sampled_from([1, 2, 3])))
    ids = {run_id(number) for number in kept}
    fewer = [message for message in messages if message.check_in_id in ids]
    before = [messages[index] for index in causal_order(messages)]
    after = [fewer[index] for index in causal_order(fewer)]
    for run in {run_of(message) for message in fewer}:
        assert [id(m) for m in after if run_of(m) == run] == [id(m) for m in before if run_of(m) == run]


@given(MESSAGES)
def test_what_is_in_order_stays_as_it_is(messages):
    ordered = [messages[index] for index in causal_order(messages)]
    assert causal_order(ordered) == list(range(len(ordered)))
