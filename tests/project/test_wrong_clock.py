"""D42 on a machine whose clock is wrong: nothing of today is removed, and the admin is told. PostgreSQL is as wrong."""

import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.core.management import call_command
from django.db import connection

from checkins import tasks as checkin_tasks
from checkins.models import ProcessingError
from checkins.partitions import FUTURE_MAX, existing_partitions, of_day
from clocktasks import setback
from clocktasks import tasks as clock_tasks
from clocktasks.dispatch import advance_ledger
from clocktasks.models import Tick
from clocktasks.setback import take_back_future
from health.facts import Facts, Part
from health.problems import find_problems
from health.queries import read_rows
from incidents.models import Incident
from monitors import pruning
from tests import factories
from tests.days import make_day
from tests.factories import NOW

pytestmark = pytest.mark.django_db

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
IN_2040 = datetime(2040, 1, 1, 10, tzinfo=UTC)
IN_1970 = datetime(1970, 1, 1, tzinfo=UTC)


class Machine:
    """The clock that all processes have, PostgreSQL too."""

    def __init__(self, monkeypatch):
        self.now = NOW
        for module in (checkin_tasks, clock_tasks):
            monkeypatch.setattr(module, "utcnow", lambda: self.now)
        monkeypatch.setattr("checkins.management.commands.ensure_partitions.utcnow", lambda: self.now)
        for module in (pruning, setback):
            monkeypatch.setattr(module, "database_now", lambda now: now)

    def keep_house(self, *, lasting=timedelta()):
        """Look at the clock for so long, as often as need be, and then do what beat has done every ten minutes."""
        until = self.now + lasting
        while self.now < until:
            pruning.time_to_prune(self.now)
            self.now += 20 * MINUTE
        checkin_tasks.keep_house()
        clock_tasks.keep_house()
        checkin_tasks.ensure_partitions()


@pytest.fixture
def machine(monkeypatch):
    made = Machine(monkeypatch)
    made.keep_house()
    return made


@pytest.fixture
def an_old_day():
    """A day that is just kept yet, with a check-in; and rows of other kinds."""
    day = of_day((NOW - 80 * DAY).date())
    make_day(day)
    environment = factories.MonitorEnvironmentFactory()
    factories.CheckInFactory(monitor_environment=environment, status="ok", date_added=NOW - 80 * DAY)
    factories.IncidentFactory(resolved=True)
    factories.ProcessingErrorFactory(last_received_at=NOW)
    factories.TickFactory(at=NOW)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # Or no table can be dropped in this transaction.
    return day


def days():
    return {day.name for day in existing_partitions() or ()}


def finding(now):
    facts = Facts(now=now, watched_since=now, rows=read_rows(now))
    return [found.what for found in find_problems(facts) if found.part is Part.CLOCK and "housekeeping" in found.what]


def test_d42_a_clock_that_says_2040_for_hours_removes_nothing_of_today(machine, an_old_day, caplog):
    machine.now = IN_2040
    machine.keep_house(lasting=6 * HOUR)
    assert an_old_day.name in days()
    assert (Incident.objects.count(), ProcessingError.objects.count(), Tick.objects.count()) == (1, 1, 1)
    assert caplog.text.count("nothing is removed by this clock") == 1
    assert [text[:61] for text in finding(machine.now)] == [
        "The clock of this machine is at 2040-01-01 16:00 UTC, 5,108 d"
    ]


def test_d42_when_the_clock_is_right_again_housekeeping_goes_on(machine, an_old_day):
    machine.now = IN_2040
    machine.keep_house(lasting=HOUR)
    machine.now = NOW + HOUR
    machine.keep_house()
    assert finding(machine.now) == []
    machine.now = NOW + 15 * DAY  # No worker ran for a fortnight. Nothing was lost by that, nor is now.
    machine.keep_house(lasting=6 * DAY)
    assert finding(machine.now)
    assert an_old_day.name in days()
    machine.keep_house(lasting=DAY + HOUR)
    assert an_old_day.name not in days()


def test_d42_a_machine_alone_in_2040_is_not_believed_against_postgresql(machine, an_old_day, monkeypatch):
    machine.now = IN_2040
    monkeypatch.setattr(pruning, "database_now", lambda _: NOW + HOUR)
    machine.keep_house(lasting=8 * DAY)
    assert an_old_day.name in days()


@pytest.mark.parametrize("wrong", [IN_2040, IN_1970], ids=["2040", "1970"])
def test_d42_a_wrong_clock_makes_few_partitions_however_often_it_jumps(machine, wrong):
    before = days()
    for jump in range(12):
        machine.now = wrong + jump * 100 * DAY
        machine.keep_house()
    assert len(days() - before) <= FUTURE_MAX


def test_d42_a_machine_that_was_off_for_five_days_has_its_days_at_once(machine):
    machine.now = NOW + 5 * DAY
    machine.keep_house()
    for _ in range(4):
        machine.keep_house(lasting=DAY)
    assert {of_day((NOW + number * DAY).date()).name for number in range(5, 12)} <= days()


def test_d42_one_run_drops_ten_days_at_most(machine, monkeypatch, settings):
    settings.CHECKIN_RETENTION_DAYS = 1
    for back in range(10, 35):
        make_day(of_day((NOW - back * DAY).date()))
    left = [len(days())]
    for _ in range(3):
        checkin_tasks.ensure_partitions()
        left.append(len(days()))
    assert [before - after for before, after in pairwise(left)] == [10, 10, 5]


def test_d42_the_command_does_not_believe_such_a_clock_either(machine, an_old_day):
    machine.now = IN_2040
    out = io.StringIO()
    call_command("ensure_partitions", "--json", stdout=out)
    assert json.loads(out.getvalue())["dropped"] == {}


def test_a_clock_in_1970_does_not_take_the_ledger_with_it(machine, caplog):
    advance_ledger(NOW, now=NOW)
    machine.now = IN_1970
    machine.keep_house()
    assert take_back_future(machine.now) is None
    assert Tick.objects.filter(at=NOW).exists()
    assert "nothing is judged or taken back" in caplog.text
    machine.keep_house(lasting=HOUR + 20 * MINUTE)
    assert take_back_future(machine.now) is not None, "an hour of it, and the clock goes on from here"


def test_a_clock_that_comes_back_from_2040_is_right_at_once(machine):
    advance_ledger(IN_2040, now=IN_2040)
    machine.now = IN_2040
    machine.keep_house(lasting=HOUR)
    assert take_back_future(NOW + HOUR) is not None
