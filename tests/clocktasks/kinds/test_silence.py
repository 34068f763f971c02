"""D2, D3, D4: what the clock makes of minutes in which nobody listened, or in which far too little was heard."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from checkins.messages import CheckInStatus
from checkins.models import CheckIn, ListeningSpan, LostSpan, MinuteVolume
from checkins.nodes import advance, beat, record_losses, register_node
from checkins.processing.apply import receive
from clocktasks.clock import TaskKind
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import write_ticks
from clocktasks.models import AppliedTick, ClockIncident, ShardClock, Tick
from clocktasks.volume import VolumeDecision
from incidents.models import Incident, Occurrence
from tests.clocktasks.shards import after, drain, make_monitor_in, tick_by_tick, tick_until
from tests.factories import (
    NOW,
    CheckInFactory,
    ListeningSpanFactory,
    LostSpanFactory,
    MaintenanceWindowFactory,
    MinuteVolumeFactory,
    MonitorEnvironmentFactory,
    TickFactory,
)
from tests.messages import make_message, run_id

pytestmark = pytest.mark.django_db
NODE = uuid.UUID(int=1)


@pytest.fixture(autouse=True)
def clock(db):
    """A clock that has come to 10:00."""
    advance_ledger(NOW, now=NOW)


def deaf(since, until):
    """Nobody listens between these minutes after ten."""
    ListeningSpan.objects.update(until=after(since))
    ListeningSpanFactory(since=after(until))


def job(**columns):
    """A job every five minutes with a margin of one, which was well at 10:00."""
    return MonitorEnvironmentFactory(monitor=make_monitor_in(5, **columns))


def told(environment):
    """What is known of the runs of a job: minute after ten, and status."""
    rows = environment.checkins.order_by("date_added", "id").values_list("date_added", "status")
    return [((added - NOW) // timedelta(minutes=1), status) for added, status in rows]


# --- D2: minutes in which nobody listened -----------------------------------------------------------------------------


def test_d2_a_slot_whose_window_was_deaf_is_unknown_and_alarms_nobody():
    environment = job()
    deaf(5, 6)
    tick_by_tick(after(1), after(8))
    environment.refresh_from_db()
    assert told(environment) == [(5, "unknown")]
    assert (environment.status, environment.failure_streak) == ("ok", 0)
    assert environment.pending_slot == after(10)
    assert not Incident.objects.exists()
    assert not Occurrence.objects.exists()
    checkin = CheckIn.objects.get()
    assert (checkin.expected_time, checkin.date_updated, checkin.failed_at) == (after(5), after(6), None)


def test_d2_the_slots_before_and_after_an_outage_are_judged_as_ever():
    environment = job(crontab="* * * * *")
    deaf(3, 6)
    tick_by_tick(after(1), after(8))
    assert told(environment) == [
        (1, "missed"),
        (2, "missed"),
        (3, "unknown"),
        (4, "unknown"),
        (5, "unknown"),
        (6, "missed"),
        (7, "missed"),
    ]


def test_d5_unknown_neither_counts_nor_breaks_a_run_of_failures():
    environment = job(crontab="* * * * *", failure_threshold=3)
    deaf(3, 6)
    tick_by_tick(after(1), after(6))
    assert not Incident.objects.exists()
    tick_until(after(7))
    assert Incident.objects.get().started_at == after(1)
    assert Occurrence.objects.count() == 3
    environment.refresh_from_db()
    assert environment.failure_streak == 3


def test_d2_a_window_that_was_deaf_in_part_waits_for_a_whole_margin_of_listening():
    environment = job(checkin_margin=4)
    deaf(7, 12)  # The window of 10:05 is 10:05 to 10:09, of which two minutes were heard.
    tick_by_tick(after(1), after(13))
    environment.refresh_from_db()
    assert told(environment) == []
    assert (environment.pending_slot, environment.next_checkin_latest) == (after(5), after(14))
    tick_by_tick(after(14), after(14))
    assert told(environment) == [(5, "missed")]
    assert Incident.objects.get().opened_at == after(14)
    explanation = Occurrence.objects.get().explanation
    assert explanation["clock_decision"] == "postponed by 5 min: no listener during part of the margin"
    assert explanation["deadline_at"] == "2026-01-05T10:14:00Z"


@pytest.mark.parametrize("clock_is_late", [False, True], ids=["the clock came first", "the check-in came first"])
def test_d2_a_check_in_within_that_time_serves_the_slot(clock_is_late):
    environment = job(checkin_margin=4)
    deaf(7, 12)
    monitor = environment.monitor
    message = make_message(
        project_id=monitor.project_id, slug=monitor.slug, status=CheckInStatus.OK, received_at=after(12.5)
    )
    if not clock_is_late:
        tick_by_tick(after(1), after(12))
    receive([message], now=after(12.5))
    tick_by_tick(after(1), after(19))
    assert told(environment) == [(12, "ok"), (15, "missed")]


def test_d2_a_check_in_after_that_time_does_not():
    environment = job(checkin_margin=4)
    deaf(7, 12)
    monitor = environment.monitor
    receive([make_message(project_id=monitor.project_id, slug=monitor.slug, received_at=after(14.5))], now=after(14.5))
    tick_by_tick(after(1), after(16))
    assert told(environment) == [(5, "missed"), (14, "ok")]


def test_d2_a_run_whose_deadline_passed_while_deaf_is_unknown():
    environment = job(crontab="0 12 * * *")
    CheckInFactory(monitor_environment=environment, status="in_progress", date_added=after(1), timeout_at=after(6))
    deaf(5, 8)
    tick_by_tick(after(1), after(9))
    assert told(environment) == [(1, "unknown")]
    assert not Incident.objects.exists()


def test_d2_a_run_whose_deadline_was_listened_to_times_out():
    environment = job(crontab="0 12 * * *")
    CheckInFactory(monitor_environment=environment, status="in_progress", date_added=after(1), timeout_at=after(6))
    deaf(2, 5)
    tick_by_tick(after(1), after(9))
    assert told(environment) == [(1, "timeout")]


@pytest.mark.parametrize(
    ("end", "becomes"), [(7, "unknown"), (12, "timeout")], ids=["ends while nobody listens", "ends when somebody does"]
)
def test_d2_a_run_that_was_due_in_a_maintenance_window_is_judged_by_its_end(end, becomes):
    environment = job(crontab="0 12 * * *")
    MaintenanceWindowFactory(project=environment.monitor.project, starts_at=after(5), ends_at=after(end))
    CheckInFactory(monitor_environment=environment, status="in_progress", date_added=after(1), timeout_at=after(6))
    deaf(5, 8)
    tick_by_tick(after(1), after(13))
    assert told(environment) == [(1, becomes)]


def test_a_slot_that_is_deaf_and_in_maintenance_says_the_latter():
    environment = job()
    MaintenanceWindowFactory(project=environment.monitor.project, starts_at=after(4), ends_at=after(8))
    deaf(5, 6)
    tick_by_tick(after(1), after(8))
    assert CheckIn.objects.get().unknown_because == "maintained"


def test_an_unknown_run_that_ends_after_all_is_ok_with_all_that_follows():
    environment = job(crontab="0 12 * * *")
    run = CheckInFactory(
        monitor_environment=environment, status="in_progress", date_added=after(1), timeout_at=after(6)
    )
    deaf(5, 8)
    tick_by_tick(after(1), after(9))
    monitor = environment.monitor
    receive(
        [
            make_message(
                project_id=monitor.project_id,
                slug=monitor.slug,
                status=CheckInStatus.OK,
                check_in_id=run.guid,
                received_at=after(9.5),
            )
        ],
        now=after(9.5),
    )
    environment.refresh_from_db()
    assert told(environment) == [(1, "ok")]
    assert environment.last_ok_received_at == after(9.5)


@pytest.mark.parametrize("status", ["ok", "error"])
def test_d2_a_run_that_ended_before_the_clock_came_to_its_deaf_deadline_ends_all_the_same(status):
    """Found by the clock's drill, seed 8: the end came when the web was back, and the shard stood still for ever."""
    environment = job(crontab="0 12 * * *")
    CheckInFactory(
        monitor_environment=environment,
        status="in_progress",
        guid=run_id(1),
        date_added=after(1),
        timeout_at=after(6),
    )
    deaf(5, 8)
    receive([make_message(status, monitor=environment.monitor, run=1, at=after(8.2))], now=after(8.2))
    tick_by_tick(after(1), after(9))
    environment.refresh_from_db()
    assert set(ShardClock.objects.values_list("position", flat=True)) == {after(9)}
    assert told(environment) == [(1, status)]
    assert environment.status == status
    run = environment.checkins.get()
    assert (run.finished_status, run.date_updated) == (None, after(8.2))


def test_an_outage_is_the_same_whether_it_is_applied_at_once_or_minute_by_minute():
    first, second = job(crontab="* * * * *", checkin_margin=3), job(crontab="*/2 * * * *")
    deaf(4, 11)
    tick_until(after(20))
    at_once = told(first), told(second)
    CheckIn.objects.all().delete()
    Incident.objects.all().delete()
    for row in (first, second):
        row.save()
    for model in (Tick, ShardClock, AppliedTick, ClockIncident):
        model.objects.all().delete()
    advance_ledger(NOW, now=NOW)
    tick_by_tick(after(1), after(20))
    assert (told(first), told(second)) == at_once


def test_the_unknown_are_counted_as_such():
    job()
    job(crontab="* * * * *")
    deaf(5, 6)
    tick_by_tick(after(1), after(7))
    assert list(Tick.objects.filter(at__in=[after(5), after(6)]).values_list("missed_count", "unknown_count")) == [
        (1, 0),
        (0, 2),
    ]
    assert AppliedTick.objects.filter(kind="unknown").get().marked_count == 2


# --- Who listened ----------------------------------------------------------------------------------------------------


def listened():
    return list(Tick.objects.order_by("at").values_list("is_listened", flat=True))


def test_a_node_listens_from_its_start_until_it_was_last_heard_of():
    ListeningSpan.objects.all().delete()
    register_node(NODE, watermark=after(2), now=after(2), host="web-1", pid=1)
    beat(NODE, watermark=after(4), now=after(4), spooled_count=0)
    advance_ledger(after(6), now=after(6))
    assert listened() == [True, False, False, True, True, False, False]


def test_a_node_that_was_replaced_has_listened_all_the_same():
    ListeningSpan.objects.all().delete()
    register_node(NODE, watermark=NOW, now=NOW, host="web-1", pid=1)
    beat(NODE, watermark=after(2), now=after(2), spooled_count=0)
    register_node(NODE, watermark=after(4), now=after(4), host="web-1", pid=2)
    beat(NODE, watermark=after(5), now=after(5), spooled_count=0)
    advance_ledger(after(6), now=after(6))
    assert listened() == [True, True, True, False, False, True, False]


@pytest.mark.parametrize("by", ["beat", "batch"])
def test_a_process_that_was_frozen_has_not_listened_meanwhile(by):
    ListeningSpan.objects.all().delete()
    register_node(NODE, watermark=NOW, now=NOW, host="web-1", pid=1)
    beat(NODE, watermark=after(2), now=after(2), spooled_count=0, listening_since=NOW)
    known = {"watermark": after(6), "now": after(6), "spooled_count": 0, "listening_since": after(4)}
    if by == "beat":
        beat(NODE, **known)
    else:
        with transaction.atomic():
            advance(NODE, batch=1, **known)
    advance_ledger(after(6), now=after(6))
    assert listened() == [True, True, True, False, False, True, True]


def test_a_process_may_have_listened_before_it_could_register():
    ListeningSpan.objects.all().delete()
    register_node(NODE, watermark=after(1), now=after(3), host="web-1", pid=1, listening_since=after(1))
    advance_ledger(after(3), now=after(3))
    assert listened() == [True, False, True, True]


# --- D43: what was heard and lost -------------------------------------------------------------------------------------


def test_d43_a_minute_in_which_something_was_lost_is_deaf_whoever_listened():
    LostSpanFactory(since=after(2.5), until=after(2.5))
    LostSpanFactory(since=after(4.9), until=after(6))
    advance_ledger(after(8), now=after(8))
    assert listened() == [True, True, True, False, True, False, False, False, True]


def test_d43_a_loss_that_is_not_over_was_told_by_a_clock_that_was_wrong():
    """Or all would be unknown until 2040."""
    LostSpanFactory(since=after(1), until=after(60 * 24 * 365 * 14))
    advance_ledger(after(3), now=after(3))
    assert listened() == [True] * 4


def test_d43_nothing_is_lost_of_what_came_before_the_watermark():
    register_node(NODE, watermark=after(2), now=after(4), host="web-1", pid=1)
    for _ in range(2):
        record_losses(NODE, [(datetime(1970, 1, 1, tzinfo=UTC), after(4)), (after(3), after(4))])
    assert sorted(LostSpan.objects.values_list("since", "until")) == [(after(2), after(4)), (after(3), after(4))]
    record_losses(uuid.UUID(int=2), [(after(1), after(4))])  # One that never had a row.
    assert LostSpan.objects.get(node_id=uuid.UUID(int=2)).since == after(1)


# --- Volume -----------------------------------------------------------------------------------------------------------


def test_a_batch_says_how_many_messages_came_in_which_minute():
    register_node(NODE, watermark=NOW, now=NOW, host="web-1", pid=1)
    for batch, volume in enumerate([{after(1): 3}, {after(1): 4, after(2): 1}], start=1):
        with transaction.atomic():
            advance(NODE, batch=batch, watermark=after(2), now=after(2), spooled_count=0, volume=volume)
    assert dict(MinuteVolume.objects.values_list("minute", "count")) == {after(1): 7, after(2): 1}


def test_the_ledger_keeps_the_volume_of_each_minute():
    MinuteVolumeFactory(minute=NOW, count=3)
    MinuteVolumeFactory(minute=NOW, count=4, node_id=NODE)
    MinuteVolumeFactory(minute=after(2), count=5)
    deaf(1, 2)
    advance_ledger(after(4), now=after(4))
    volumes = Tick.objects.filter(at__gt=NOW).order_by("at").values_list("volume", flat=True)
    assert list(volumes) == [7, None, 5, 0], "silence while somebody listens is 0 (D3), what nobody counted is not"


def a_month_of(volume, *, minutes):
    """The same volume in each of the first minutes after ten, on thirty days, and in the three hours before."""
    days = [
        TickFactory.build(at=after(minute) - timedelta(days=day), volume=volume)
        for day in range(1, 31)
        for minute in range(-180, minutes + 1)
    ]
    today = [TickFactory.build(at=after(minute), volume=volume) for minute in range(-180, 0)]
    Tick.objects.bulk_create([*days, *today])
    Tick.objects.filter(at=NOW).update(volume=volume)


def hear(volumes):
    """What comes in the minutes from ten on."""
    for minute, volume in enumerate(volumes):
        if volume:
            MinuteVolumeFactory(minute=after(minute), count=volume)


def decisions():
    return "".join(
        decision[0] for (decision,) in Tick.objects.filter(at__gt=NOW).order_by("at").values_list("decision")
    )


def test_d3_total_silence_is_an_incident_and_what_falls_due_is_unknown():
    environment = job()
    a_month_of(1000, minutes=20)
    hear([1000, 1000, 1000, 1000, 0, 0, 0, 1000, 1000, 1000, 1000, 1000, 1000])
    tick_by_tick(after(1), after(13))
    assert decisions() == "nnnniii" + "nnnnnn"
    assert Tick.objects.get(at=after(5)).deviation_percent == -100
    assert told(environment) == [(5, "unknown"), (10, "missed")]


def test_d4_while_it_recovers_the_clock_waits():
    environment = job()
    a_month_of(1000, minutes=20)
    hear([0, 0, 0, 1000, 1000, 1000, 1000, 1000, 1000, 1000])
    tick_by_tick(after(1), after(7))
    assert decisions() == "iiirrrr"
    assert told(environment) == []
    assert set(ShardClock.objects.values_list("position", flat=True)) == {after(3)}
    tick_until(after(8))
    assert decisions() == "iiinnnnn"
    assert told(environment) == [(5, "missed")]
    assert set(ShardClock.objects.values_list("position", flat=True)) == {after(8)}
    assert not Tick.objects.filter(finished_at__isnull=True).exists()


def test_d4_a_suspicion_that_is_confirmed_makes_the_minutes_before_it_unknown_too():
    environment = job(crontab="* * * * *")
    a_month_of(1000, minutes=20)
    hear([1000, 800, 800, 300, 300, *[1000] * 6])
    tick_by_tick(after(1), after(3))
    assert (decisions(), told(environment)) == ("naa", [])
    tick_until(after(4))
    assert decisions() == "niii"
    tick_by_tick(after(5), after(11))
    assert decisions() == "niiii" + "nnnnnn"
    assert told(environment) == [(slot, "unknown" if slot <= 4 else "missed") for slot in range(1, 11)]


def test_d4_a_suspicion_that_nothing_confirms_holds_no_tick_longer_than_the_window():
    environment = job()
    a_month_of(1000, minutes=40)
    hear([800] * 30)
    for minute in range(1, 31):
        tick_until(after(minute))
        undecided = Tick.objects.filter(decided_at__isnull=True).order_by("at").first()
        assert undecided is None or after(minute) - undecided.at < timedelta(minutes=5)
    assert told(environment) == [(5, "missed"), (10, "missed"), (15, "missed"), (20, "missed")]


def test_two_bad_days_are_not_what_later_days_expect():
    a_month_of(1000, minutes=20)
    bad_days = Tick.objects.filter(at__lt=NOW - timedelta(hours=12), at__gt=NOW - timedelta(days=2, hours=12))
    bad_days.update(decision="incident", volume=1)
    hear([1000] * 5)
    tick_by_tick(after(1), after(5))
    assert decisions() == "nnnnn"
    deviation = Tick.objects.get(at=after(3)).deviation_percent
    assert deviation is not None
    assert abs(deviation) < 5


def test_the_decision_belongs_to_who_writes_the_minute_first():
    write_ticks(after(1), now=after(1), decide_as=lambda _: VolumeDecision.INCIDENT)
    write_ticks(after(1), now=after(1), decide_as=lambda _: VolumeDecision.NORMAL)
    assert Tick.objects.get(at=after(1)).decision == "incident"


# --- Clock incidents --------------------------------------------------------------------------------------------------


def incidents():
    return [
        (
            row.cause,
            (row.started_at - NOW) // timedelta(minutes=1),
            row.ended_at and (row.ended_at - NOW) // timedelta(minutes=1),
        )
        for row in ClockIncident.objects.order_by("started_at")
    ]


def test_an_outage_is_one_clock_incident_from_its_first_minute_to_its_last():
    deaf(3, 6)
    tick_by_tick(after(1), after(5))
    assert incidents() == [("deaf", 3, None)]
    tick_by_tick(after(6), after(9))
    assert incidents() == [("deaf", 3, 6)]


def test_a_clock_incident_is_summed_up_when_all_of_it_is_applied():
    for _ in range(3):
        job(crontab="*/2 * * * *")
    job()
    job(crontab="0 12 * * *")
    deaf(3, 8)
    tasks = advance_ledger(after(9), now=after(9))
    assert ClockIncident.objects.get().summarised_at is None
    drain(tasks)
    summary = ClockIncident.objects.get()
    assert (summary.unknown_count, summary.environment_count) == (3 * 2 + 1, 4)
    assert summary.told_at is None


def test_two_outages_are_two_clock_incidents():
    ListeningSpan.objects.all().delete()
    for since, until in ((-60, 2), (4, 6), (8, 60)):
        ListeningSpanFactory(since=after(since), until=after(until))
    tick_by_tick(after(1), after(10))
    assert incidents() == [("deaf", 2, 4), ("deaf", 6, 8)]


def test_another_cause_is_another_clock_incident():
    a_month_of(1000, minutes=20)
    hear([1000, 1000, 0, 0, 1000, 1000, 1000, 1000, 1000, 1000])
    deaf(4, 6)
    tick_by_tick(after(1), after(12))
    assert incidents()[:2] == [("volume", 2, 4), ("deaf", 4, 6)]


def test_the_first_minute_of_an_installation_is_no_clock_incident():
    Tick.objects.all().delete()
    ListeningSpan.objects.update(since=NOW)
    tick_by_tick(NOW, after(2))
    assert incidents() == []


def test_there_is_one_clock_incident_at_a_time():
    ClockIncident.objects.create(cause="deaf", started_at=NOW)
    with pytest.raises(IntegrityError, match="clock_incident_one_at_a_time"), transaction.atomic():
        ClockIncident.objects.create(cause="volume", started_at=after(1))


def test_every_kind_has_a_clock_in_every_shard():
    kinds = set(ShardClock.objects.filter(shard=0).values_list("kind", flat=True))
    assert kinds == {kind.value for kind in TaskKind}
