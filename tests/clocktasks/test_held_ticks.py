"""P2: a minute is not judged before every live ingest node has stored what it received in it; the wait can be seen."""

import heapq
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from checkins.models import IngestNode
from checkins.nodes import advance, beat, deregister, register_node
from checkins.processing.apply import receive
from clocktasks import setback, tasks
from clocktasks.clock import ClockTask
from clocktasks.dispatch import advance_ledger
from clocktasks.models import HeldTick, Tick
from clocktasks.shards import process_clock_task
from tests.clocktasks.shards import SHARD, make_monitor_in
from tests.factories import NOW, HeldTickFactory, MonitorEnvironmentFactory
from tests.messages import make_message

NODE = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)

pytestmark = pytest.mark.django_db


def at(minutes=0, seconds=0.0):
    return NOW + timedelta(minutes=minutes, seconds=seconds)


class Celery:
    """Beat, a broker and one worker in a time of their own: every message is done at its time."""

    def __init__(self, monkeypatch):
        self.now = NOW
        self.waiting = []
        self.ran = []
        self.sent = 0
        monkeypatch.setattr(tasks, "utcnow", lambda: self.now)
        monkeypatch.setattr(tasks.tick, "apply_async", self.send)
        monkeypatch.setattr(tasks, "send", self.work)

    def send(self, *, kwargs, countdown, expires):
        assert countdown < expires
        self.sent += 1
        heapq.heappush(self.waiting, (self.now + timedelta(seconds=countdown), self.sent, kwargs))

    def work(self, task):
        wake = task
        while wake is not None:
            wake = process_clock_task(wake).wake

    def beats(self, *, first, last, beats=1):
        """Beat sends the tick a second after each of these minutes."""
        for minute in range(first, last + 1):
            for _ in range(beats):
                self.sent += 1
                heapq.heappush(self.waiting, (at(minute, 1), self.sent, {}))

    def run_until(self, until):
        while self.waiting and self.waiting[0][0] <= until:
            self.now, _, kwargs = heapq.heappop(self.waiting)
            tasks.tick(**kwargs)
            self.ran.append(self.now)
        self.now = until


@pytest.fixture
def celery(db, monkeypatch):
    advance_ledger(NOW, now=NOW)
    return Celery(monkeypatch)


def register(node_id=NODE, *, watermark=NOW):
    register_node(node_id, watermark=watermark, now=watermark, host="web-1", pid=12)


def store(messages, *, watermark, batch=1, node_id=NODE):
    with transaction.atomic():
        receive(messages, now=watermark)
        advance(node_id, batch=batch, watermark=watermark, now=watermark, spooled_count=0)


def newest():
    return Tick.objects.latest("at").at


def make_environment():
    """A job every five minutes with a margin of one, which was well at 10:00."""
    return MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))


def statuses(environment):
    return list(environment.checkins.order_by("date_added", "id").values_list("status", flat=True))


# --- Waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watermark", "tick"),
    [(at(5, 59.999_999), at(5)), (at(6), at(6)), (at(6, 0.000_001), at(6))],
    ids=["just before the minute", "at the minute", "just after it"],
)
def test_p2_a_minute_is_applied_when_the_watermark_has_reached_it(celery, watermark, tick):
    register(watermark=watermark)
    celery.beats(first=6, last=6)
    celery.run_until(at(6, 1))
    assert newest() == tick


def test_p2_a_check_in_that_is_stored_late_is_not_missed(celery):
    environment = make_environment()
    register()
    beat(NODE, watermark=at(5, 50), now=at(6), spooled_count=0)  # Received at 10:05:55, and still in memory.
    celery.beats(first=6, last=6)
    celery.run_until(at(6, 20))
    assert newest() == at(5)
    assert statuses(environment) == []
    store([make_message("ok", monitor=environment.monitor, at=at(5, 55))], watermark=at(6, 20))
    celery.run_until(at(6, 22))
    assert newest() == at(6)
    assert statuses(environment) == ["ok"]


def test_a_job_that_stayed_silent_is_missed_as_soon_as_the_watermark_says_so(celery):
    environment = make_environment()
    register()
    celery.beats(first=6, last=6)
    celery.run_until(at(6, 20))
    assert statuses(environment) == []
    beat(NODE, watermark=at(6, 20), now=at(6, 20), spooled_count=0)
    celery.run_until(at(6, 21.5))
    assert statuses(environment) == ["missed"]


def test_the_slowest_of_two_nodes_holds_the_clock_until_it_leaves(celery):
    register(OTHER)
    register(NODE)
    beat(NODE, watermark=at(6, 1), now=at(6, 1), spooled_count=0)
    celery.beats(first=6, last=6)
    celery.run_until(at(6, 30))
    assert newest() == NOW
    deregister(OTHER, now=at(6, 30))
    celery.run_until(at(6, 32))
    assert newest() == at(6)


def test_a_dead_node_is_dropped_after_the_setting_and_the_minutes_are_made_up_for(celery, settings, caplog):
    settings.INGEST_NODE_SILENT_SECONDS = 90
    environment = make_environment()
    register(watermark=at(4, 30))
    celery.beats(first=5, last=8)
    celery.run_until(at(6, 30.5))
    assert (newest(), statuses(environment)) == (at(4), [])
    celery.run_until(at(6, 31.5))
    assert (newest(), statuses(environment)) == (at(6), ["missed"])
    assert [record.levelname for record in caplog.records if "is dropped" in record.getMessage()] == ["WARNING"]
    assert IngestNode.objects.get().dropped_at == at(6, 31)


def test_an_outage_of_the_database_drops_nobody(celery):
    """Clock and node are away for ten minutes. The clock is back first, and ticks nothing that it cannot know."""
    environment = make_environment()
    register()
    beat(NODE, watermark=at(5, 1), now=at(5, 1), spooled_count=0)
    celery.beats(first=5, last=5)
    celery.run_until(at(5, 1))
    assert newest() == at(5)
    celery.beats(first=15, last=15)
    celery.run_until(at(15, 30))
    assert IngestNode.objects.get().dropped_at is None
    assert statuses(environment) == []
    store([make_message("ok", monitor=environment.monitor, at=at(m, 20)) for m in (5, 10)], watermark=at(15, 30))
    celery.run_until(at(15, 32))
    assert newest() == at(15)
    assert statuses(environment) == ["ok", "ok"]


def test_the_ledger_stays_where_it_is_when_a_dropped_node_comes_back(celery):
    register(watermark=at(4))
    IngestNode.objects.update(silent_since=at(4), silence_seen_at=at(6), dropped_at=at(6))
    make_environment()
    celery.now = at(6, 1)
    assert tasks.tick() == 1
    beat(NODE, watermark=at(4, 30), now=at(6, 30), spooled_count=7)
    celery.now = at(7, 1)
    tasks.tick()
    assert newest() == at(6)


def test_what_is_allowed_already_is_done_while_the_clock_waits(celery, monkeypatch):
    """The message for a shard is lost; then a dropped node is back, and the clock waits for it at an older minute."""
    environment = make_environment()
    lost: list[ClockTask] = []
    monkeypatch.setattr(tasks, "send", lost.append)
    celery.now = at(6, 1)
    assert tasks.tick() == 1
    register(watermark=at(4, 30))
    celery.now = at(7, 1)
    monkeypatch.setattr(tasks, "send", celery.work)
    assert tasks.tick() == 1
    assert statuses(environment) == ["missed"]


# --- Looking again ----------------------------------------------------------------------------------------------------


def test_nobody_looks_again_when_nothing_waits(celery):
    celery.beats(first=1, last=3)
    celery.run_until(at(4))
    assert celery.ran == [at(minute, 1) for minute in (1, 2, 3)]


def test_a_clock_that_waits_looks_four_times_a_second_and_after_a_while_every_second(celery):
    register()
    celery.beats(first=1, last=1)
    celery.run_until(at(1, 30))
    soon = [at(1, 1 + quarter / 4) for quarter in range(4 * 5)]
    assert celery.ran == [*soon, *(at(1, second) for second in range(6, 31))]


def test_waiting_for_long_does_not_multiply_the_messages(celery, settings):
    settings.INGEST_NODE_SILENT_SECONDS = 86_400
    register()
    celery.beats(first=1, last=4, beats=3)
    celery.run_until(at(5))
    for minute in range(1, 5):
        per_second = [celery.ran.count(at(minute, second)) for second in range(1, 60)]
        assert max(per_second[:6]) <= 4, "three of beat, and the one that goes on from the minute before"
        assert set(per_second[6:]) == {1}
    assert len(celery.waiting) == 1


def test_a_hundred_late_messages_of_beat_end_in_one_that_goes_on(celery):
    register()
    for _ in range(100):
        celery.send(kwargs={}, countdown=70, expires=300)
    celery.run_until(at(1, 20))
    assert len(celery.waiting) == 1


def test_a_lost_message_is_made_up_for_by_the_next_beat(celery):
    register()
    celery.beats(first=1, last=1)
    celery.run_until(at(1, 20))
    celery.waiting.clear()
    celery.beats(first=2, last=2)
    celery.run_until(at(2, 20))
    assert celery.ran[-1] == at(2, 20)


def test_a_faster_clock_looks_again_as_often_in_its_own_time(celery, settings):
    from lib.wallclock import ClockSpeed

    settings.TEST_CLOCK = ClockSpeed(NOW, 20)
    register()
    celery.now = at(1, 1)
    tasks.tick()
    assert celery.waiting[0][0] == at(1, 1.0125)


# --- Seeing it --------------------------------------------------------------------------------------------------------


def test_a_wait_is_logged_and_recorded_once_a_minute(celery, caplog):
    register()
    beat(NODE, watermark=at(0, 59), now=at(1), spooled_count=12)
    celery.beats(first=1, last=2, beats=2)
    celery.run_until(at(2, 30))
    warnings = [record.getMessage() for record in caplog.records if record.name == "clocktasks.dispatch"]
    assert len(warnings) == 2
    assert warnings[0] == (
        f"the clock waits with 2026-01-05 10:01 (UTC): ingest node web-1 pid 12 ({NODE}) has stored its check-ins up "
        "to 10:00:59, has 12 in its spool and was last seen at 10:01:00"
    )
    assert list(HeldTick.objects.order_by("at").values_list("at", "noticed_at")) == [
        (at(1), at(1, 6)),
        (at(2), at(2, 6)),
    ]
    assert str(NODE) in HeldTick.objects.get(at=at(1)).reason


def test_a_wait_of_a_few_seconds_is_nobodys_business(celery, caplog):
    register()
    celery.beats(first=1, last=1)
    celery.run_until(at(1, 5.5))
    beat(NODE, watermark=at(1, 5.5), now=at(1, 5.5), spooled_count=0)
    celery.run_until(at(1, 30))
    assert newest() == at(1)
    assert not HeldTick.objects.exists()
    assert caplog.records == []


def test_a_clock_that_was_a_minute_ahead_takes_no_poll_from_the_minute_that_really_comes(celery, monkeypatch):
    monkeypatch.setattr(setback, "database_now", lambda now: now)
    register()
    HeldTickFactory(at=at(1), noticed_at=at(1, 10), reason="noticed at 10:00:10 by a clock that was a minute ahead")
    celery.beats(first=0, last=1)
    celery.run_until(at(1, 20))
    assert newest() == at(0)
    beat(NODE, watermark=at(1, 20), now=at(1, 20), spooled_count=0)
    celery.run_until(at(1, 22))
    assert newest() == at(1)


def test_only_who_is_waited_for_is_named(celery):
    register(NODE)
    register(OTHER)
    beat(OTHER, watermark=at(1), now=at(1), spooled_count=0)
    celery.beats(first=1, last=1)
    celery.run_until(at(1, 10))
    assert str(OTHER) not in HeldTick.objects.get().reason


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_a_replay_by_hand_does_not_pass_a_watermark_and_drops_nobody(celery, monkeypatch):
    monkeypatch.setattr("clocktasks.management.commands.replay_ticks.utcnow", lambda: at(30))
    register(watermark=at(6, 30))
    with pytest.raises(CommandError, match="newest minute that may be applied is 2026-01-05T10:06Z"):
        call_command("replay_ticks", since="2026-01-05T10:01Z", until="2026-01-05T10:07Z")
    call_command("replay_ticks", since="2026-01-05T10:01Z", until="2026-01-05T10:06Z")
    assert newest() == at(6)
    assert IngestNode.objects.get().silent_since is None
