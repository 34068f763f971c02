"""Times that the clock has to make up for: hours, months or ten years, with or without somebody who listened."""

import pytest
from django.db import transaction

from checkins.models import CheckIn, ListeningSpan
from clocktasks import ledger
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import write_ticks
from clocktasks.models import AppliedTick, ClockIncident, ShardClock, Tick
from clocktasks.shards import process_clock_task
from monitors.coverage import SUMMARISED_AFTER, DeafMinutes, DeafSpan
from monitors.models import MonitorEnvironment
from tests.clocktasks.shards import MINUTE, after, make_monitor_in, rows, tick_by_tick, tick_until
from tests.factories import NOW, ListeningSpanFactory, MonitorEnvironmentFactory

pytestmark = pytest.mark.django_db
HOUR, DAY, YEAR = 60, 1440, 525_600


@pytest.fixture(autouse=True)
def clock(db):
    """A clock that has come to 10:00."""
    advance_ledger(NOW, now=NOW)


def deaf(since, until):
    ListeningSpan.objects.update(until=after(since))
    ListeningSpanFactory(since=after(until))


def job(crontab="0 * * * *", **columns):
    return MonitorEnvironmentFactory(monitor=make_monitor_in(5, crontab=crontab, **columns))


def minutes_and_statuses(environment):
    found = environment.checkins.order_by("date_added").values_list("date_added", "status")
    return [((at - NOW) // MINUTE, status) for at, status in found]


def outcome(advance):
    """Let a clock advance, return the rows that come of it, and undo it."""
    with transaction.atomic():
        advance()
        result = rows()
        transaction.set_rollback(True)
    return result


def test_ten_years_without_a_listener_are_a_week_of_minutes_and_one_row():
    deaf(5, 10 * YEAR)
    write_ticks(after(10 * YEAR + 5), now=NOW)
    week = 7 * DAY
    assert Tick.objects.count() == 1 + 5 + week + 1 + 5
    gap = Tick.objects.get(covers_from__isnull=False)
    assert (gap.covers_from, gap.at, gap.is_listened) == (after(5 + week), after(10 * YEAR), False)
    incident = ClockIncident.objects.get()
    assert (incident.cause, incident.started_at, incident.ended_at) == ("deaf", after(5), after(10 * YEAR))


def test_ten_years_without_a_listener_leave_a_week_of_unknown_slots_and_a_job_that_is_judged_again():
    environment = job()
    deaf(5, 10 * YEAR)
    tick_until(after(10 * YEAR + HOUR))
    found = minutes_and_statuses(environment)
    assert found[:-1] == [(hour * HOUR, "unknown") for hour in range(1, 7 * 24 + 1)]
    # The slot in the very minute in which somebody listened again is judged as ever.
    assert found[-1] == (10 * YEAR, "missed")
    environment.refresh_from_db()
    assert environment.pending_slot == after(10 * YEAR + HOUR)
    assert not Tick.objects.filter(finished_at__isnull=True).exists()
    assert ClockIncident.objects.get().unknown_count == 7 * 24


def test_a_first_tick_in_1970_does_not_stop_the_clock():
    Tick.objects.all().delete()
    ShardClock.objects.all().delete()
    ListeningSpan.objects.update(since=NOW)
    environment = job()
    boot = NOW.replace(year=1970)
    advance_ledger(boot, now=boot)
    tick_until(after(61))
    assert Tick.objects.count() < 7 * DAY + 2 * HOUR + 10
    assert minutes_and_statuses(environment) == [(60, "missed")]


def test_nothing_that_is_due_in_a_long_gap_is_marked_twice_or_left_behind(monkeypatch):
    monkeypatch.setattr(ledger, "SUMMARISED_AFTER", 10 * MINUTE)
    wide, narrow = job("*/7 * * * *", checkin_margin=15), job("*/10 * * * *")
    deaf(15, 60)
    by_tick = outcome(lambda: tick_by_tick(after(1), after(80)))
    at_once = outcome(lambda: tick_until(after(80)))
    for name in ("CheckIn", "MonitorEnvironment", "Incident", "Occurrence", "AppliedTick"):
        assert by_tick[name] == at_once[name], name
    tick_until(after(80))
    assert minutes_and_statuses(narrow) == [(10, "missed"), (20, "unknown"), (60, "missed"), (70, "missed")]
    assert "missed" in dict(minutes_and_statuses(wide)).values()


def test_hours_without_a_listener_give_the_same_rows_late_as_in_time():
    job("* * * * *"), job("*/3 * * * *", checkin_margin=10)
    deaf(2, 30)
    by_tick = outcome(lambda: tick_by_tick(after(1), after(45)))
    at_once = outcome(lambda: tick_until(after(45)))
    assert by_tick == at_once


def test_ticks_at_which_nobody_is_judged_are_applied_together():
    environment = job("* * * * *")
    deaf(60, 180)
    tick_until(after(60))
    (task,) = advance_ledger(after(180), now=NOW)
    result = process_clock_task(task)
    assert (result.tick_count, result.marked_count) == (1, 120)
    assert AppliedTick.objects.filter(kind="unknown").count() == 120, "each is at its own tick all the same"
    assert CheckIn.objects.filter(monitor_environment=environment, status="unknown").count() == 120


def test_an_interrupted_ledger_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(ledger, "STEP_MINUTES", 10)
    insert = ledger._insert_ticks
    calls = []

    def fail_at_the_third(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("the power is gone")
        insert(*args, **kwargs)

    monkeypatch.setattr(ledger, "_insert_ticks", fail_at_the_third)
    with pytest.raises(RuntimeError):
        write_ticks(after(35), now=NOW)
    assert Tick.objects.latest("at").at == after(20)
    write_ticks(after(35), now=NOW)
    assert Tick.objects.count() == 1 + 35


def test_slots_that_fall_due_in_a_summarised_time_are_stepped_over_at_once():
    begin = NOW + SUMMARISED_AFTER
    deaf_time = DeafMinutes([DeafSpan(NOW, begin), DeafSpan(begin, begin + 10 * MINUTE, is_summarised=True)])
    assert deaf_time.summarised_until(begin) is None
    assert deaf_time.summarised_until(begin + MINUTE) == begin + 10 * MINUTE
    assert deaf_time.summarised_until(begin + 10 * MINUTE) == begin + 10 * MINUTE
    assert deaf_time.summarised_until(begin + 11 * MINUTE) is None
    assert deaf_time.count(NOW, begin + 20 * MINUTE) == 7 * DAY + 10


def test_an_environment_is_not_lost_in_a_gap():
    job()
    deaf(5, 2 * YEAR)
    tick_until(after(2 * YEAR - 5))  # Everybody is still away.
    tick_until(after(2 * YEAR + HOUR))
    assert MonitorEnvironment.objects.get().status == "error"
