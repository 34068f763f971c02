"""The audit of a drill notices what it is there for: every way in which an installation could break its promises."""

import itertools
import uuid
from datetime import timedelta

import pytest
from django.db import connection

from drills.audit import audit, uncaught
from drills.load import Kind, Sent, Watched
from tests.factories import NOW, CheckInFactory, IngestNodeFactory, MonitorEnvironmentFactory

pytestmark = pytest.mark.django_db(transaction=True)

MARGIN, RUNTIME = timedelta(minutes=1), timedelta(minutes=2)
FIGURES = ("lost", "duplicated", "misdated", "misplaced", "false_misses")
numbers = itertools.count(1)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def environment():
    return MonitorEnvironmentFactory(last_checkin=at(0.5))


def told(environment, kind=Kind.RID, *, begin=0.0, end=1.0, guid="new", status="ok", tries=1):
    """A check-in that was on its way from `begin` to `end`; without an `end` nobody knows what became of it."""
    monitor = environment.monitor
    if guid == "new":
        guid = None if kind in (Kind.PING, Kind.PUSH) else uuid.UUID(int=next(numbers))
    watched = Watched(monitor.id, monitor.guid, monitor.slug)
    return Sent(kind, watched, guid, status, at(begin), None if end is None else at(end), tries)


def store(environment, sent=None, *, seconds=0.5, source="healthchecks", **fields):
    if sent is not None and sent.guid is not None:
        fields["guid"] = sent.guid
    return CheckInFactory(
        monitor_environment=environment, date_added=at(seconds), received_at=at(seconds), source=source, **fields
    )


def found(sent, **options):
    account = audit(database_url(), sent, margin=MARGIN, runtime=RUNTIME, **options)
    assert account.is_clean == (account.findings == {})
    return {figure: count for figure in FIGURES if (count := getattr(account, figure))}


def database_url():
    database = connection.settings_dict
    return (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )


@pytest.mark.parametrize("kind", [Kind.RID, Kind.PING])
def test_what_is_stored_once_and_in_its_time_is_right(environment, kind):
    sent = told(environment, kind)
    store(environment, sent)
    account = audit(database_url(), [sent], margin=MARGIN, runtime=RUNTIME)
    assert (account.acknowledged, account.stored, account.is_clean) == (1, 1, True)


@pytest.mark.parametrize("kind", [Kind.RID, Kind.PING])
def test_what_was_acknowledged_and_is_not_there_is_lost(environment, kind):
    store(environment, other := told(environment, kind, begin=-5, end=-4), seconds=-4.5)
    environment.last_checkin = at(-4.5)
    environment.save()
    assert found([other, told(environment, kind)]) == {"lost": 1}


@pytest.mark.parametrize("kind", [Kind.RID, Kind.PING])
@pytest.mark.parametrize("is_stored", [True, False])
def test_what_was_not_acknowledged_may_be_stored_or_not(environment, kind, is_stored):
    sent = told(environment, kind, end=None)
    if is_stored:
        store(environment, sent)
    assert found([sent]) == {}


def test_a_ping_that_is_stored_twice_is_a_double(environment):
    sent = told(environment, Kind.PING)
    store(environment, seconds=0.4)
    store(environment, seconds=0.5)
    assert found([sent]) == {"duplicated": 1}


def test_a_ping_that_nobody_sent_at_that_time_is_a_double_and_the_one_that_somebody_sent_is_lost(environment):
    store(environment, seconds=0.5)
    assert found([told(environment, Kind.PING, begin=3, end=4)]) == {"lost": 1, "duplicated": 1}


def test_pings_that_were_on_their_way_together_are_told_apart(environment):
    sent = [
        told(environment, Kind.PING, begin=0, end=0.5),
        told(environment, Kind.PING, begin=0, end=None),
        told(environment, Kind.PING, begin=0, end=0.4),
    ]
    for seconds in (0.35, 0.45, 0.5):
        store(environment, seconds=seconds)
    assert found(sent) == {}


def test_the_last_word_of_a_run_must_be_there(environment):
    start = told(environment, status="in_progress", begin=0, end=1)
    end = told(environment, guid=start.guid, begin=2, end=3)
    store(environment, start, status="in_progress")
    assert found([start, end]) == {"lost": 1}


@pytest.mark.parametrize(("seconds", "is_right"), [(-0.001, False), (0, True), (1, True), (1.001, False)])
def test_a_time_at_which_the_request_was_not_on_its_way_is_wrong(environment, seconds, is_right):
    sent = told(environment)
    environment.last_checkin = at(seconds)
    environment.save()
    store(environment, sent, seconds=seconds)
    assert found([sent]) == ({} if is_right else {"misdated": 1})


@pytest.mark.parametrize(("nodes", "figures"), [(1, {"misdated": 1}), (2, {})])
def test_with_several_nodes_a_run_may_be_dated_by_its_end(environment, nodes, figures):
    start = told(environment, status="in_progress", begin=-3, end=-2)
    end = told(environment, guid=start.guid)
    store(environment, start, status="ok")
    assert found([start, end], nodes=nodes) == figures


def test_an_environment_that_does_not_show_its_newest_check_in_is_out_of_order(environment):
    sent = [told(environment), told(environment, begin=5, end=6)]
    store(environment, sent[0])
    store(environment, sent[1], seconds=5.5)
    assert found(sent) == {"misplaced": 1}


@pytest.mark.parametrize(("begin", "end", "is_false"), [(0, 59.9, True), (0, 60, False), (-0.1, 30, False)])
def test_a_miss_is_false_if_a_check_in_was_acknowledged_between_its_slot_and_its_end(environment, begin, end, is_false):
    sent = told(environment, begin=begin, end=end)
    store(environment, sent)
    store(environment, status="missed", source="clock", seconds=0)
    assert found([sent]) == ({"false_misses": 1} if is_false else {})


def test_the_end_of_a_run_that_began_before_the_slot_does_not_serve_it(environment):
    start = told(environment, status="in_progress", begin=-5, end=-4)
    last = told(environment, guid=start.guid, begin=10, end=11)
    store(environment, start, seconds=-4.5)
    environment.last_checkin = at(-4.5)
    environment.save()
    store(environment, status="missed", source="clock", seconds=0)
    assert found([start, last]) == {}


@pytest.mark.parametrize(("end", "is_false"), [(120.4, True), (120.5, False), (150, False)])
def test_a_timeout_is_false_if_the_end_was_acknowledged_before_the_deadline(environment, end, is_false):
    start = told(environment, status="in_progress")
    last = told(environment, guid=start.guid, begin=100, end=end)
    store(environment, start, seconds=0.5, status="timeout", failed_at=at(180))
    assert found([start, last]) == ({"false_misses": 1} if is_false else {})


def test_a_node_that_is_behind_or_holds_something_is_not_idle():
    assert uncaught(database_url(), at(0)) is None
    IngestNodeFactory(seen_at=at(10))
    IngestNodeFactory(state="left")
    assert uncaught(database_url(), at(10)) is None
    assert "1 nodes" in str(uncaught(database_url(), at(11)))
    IngestNodeFactory(seen_at=at(10), spooled_count=3)
    assert "3 in their spools" in str(uncaught(database_url(), at(5)))
