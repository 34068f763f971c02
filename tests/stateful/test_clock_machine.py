"""Random stories of a few environments, told to the services on PostgreSQL and to the account of all drills
(`drills.oracle`); after every step both must agree, and the promises must hold.

The times at which jobs are expected are those of `monitors.schedule`, which has tests of its own.

`STATEFUL_EXAMPLES=500 .venv/bin/pytest tests/stateful` looks further, and elsewhere each time.
"""

import os
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from checkins.editing import set_monitors_status, update_monitor
from checkins.models import CheckIn
from checkins.processing.apply import receive
from checkins.processing.counting import count_stranded
from clocktasks.dispatch import advance_ledger
from clocktasks.models import AppliedTick, ShardClock, Tick
from clocktasks.shards import process_clock_task
from drills.oracle.place import FAR, LIFE, Place
from drills.oracle.rules import MINUTE, Monitor, Rules
from incidents.models import Incident, Issue
from monitors import schedule as schedules_of
from monitors.models import MonitorEnvironment
from monitors.schedule import Schedule
from monitors.services import set_environments_muted
from monitors.state import MonitorStatus
from tests.factories import MonitorFactory, ProjectFactory
from tests.messages import make_message

STARTS = [
    datetime(2026, 1, 5, 10, 0, tzinfo=UTC),
    datetime(2026, 3, 8, 5, 30, tzinfo=UTC),  # New York leaves out an hour at 7:00
    datetime(2026, 10, 25, 0, 10, tzinfo=UTC),  # London repeats an hour from 1:00 on
]
ZONES = ["UTC", "America/New_York", "Europe/London"]
SCHEDULES = [
    {"crontab": "*/7 * * * *"},
    {"crontab": "0,20,30 * * * *"},
    {"crontab": "15 * * * *"},
    {"crontab": "30 1,2 * * *"},
    {"interval": 10, "interval_unit": "minute"},
    {"interval": 45, "interval_unit": "minute"},
    {"interval": 3, "interval_unit": "hour"},
    {"interval": 1, "interval_unit": "day"},
]
MARGINS = [1, 2, 5, 30, 100]  # The last ones are longer than most gaps.
RUNTIMES = [1, 8, 30, 400]
THRESHOLDS = [1, 2, 3]
TOLERANCE = timedelta(seconds=5)
RECEIVED_MAX = 6
"""In a minute, of an environment; ten times as many ends of runs and errors (D25)."""
PLACES = [(0, "production"), (0, "staging"), (1, "production")]
RUN_NUMBERS = [None, 1, 2, 3]  # of a place; None is the zero id
STATUSES = ["in_progress", "ok", "error"]

schedules = st.tuples(st.sampled_from(SCHEDULES), st.sampled_from(ZONES))
places = st.sampled_from(PLACES)
statuses = st.sampled_from(STATUSES)
edits = st.one_of(
    st.tuples(st.just("schedule"), schedules),
    st.tuples(st.just("margin"), st.sampled_from(MARGINS)),
    st.tuples(st.just("runtime"), st.sampled_from(RUNTIMES)),
    st.tuples(st.just("thresholds"), st.tuples(st.sampled_from(THRESHOLDS), st.sampled_from(THRESHOLDS))),
    st.tuples(st.just("status"), st.none()),
)


@dataclass(frozen=True)
class ListedSlots:
    """The times that a schedule lists, as the account asks for them."""

    schedule: Schedule

    def after(self, at, anchor):
        return schedules_of.next_slot(self.schedule, at, anchor)

    def anchor(self, at, before):
        return schedules_of.anchor_for(self.schedule, at, before)

    def early(self, at, waiting, anchor):
        return schedules_of.serves_early(self.schedule, at, waiting, anchor, TOLERANCE)


def minute_of(at):
    return at.replace(second=0, microsecond=0)


def columns_of(schedule, timezone):
    columns = {"crontab": None, "interval": None, "interval_unit": None, "timezone": timezone, **schedule}
    return {**columns, "schedule_type": "crontab" if columns["crontab"] else "interval"}


def slots_of(columns):
    if columns["crontab"]:
        return ListedSlots(Schedule.from_crontab(columns["crontab"], columns["timezone"]))
    return ListedSlots(Schedule.from_interval(columns["interval"], columns["interval_unit"], columns["timezone"]))


def causally(words):
    """Indices of a batch's words, those of each named run with its openings first, in the places of that run (D17)."""
    order = list(range(len(words)))
    for run in {name for _, name in words if name is not None}:
        places = [index for index, (_, name) in enumerate(words) if name == run]
        openings = [index for index in places if words[index][0] == "in_progress"]
        for place, index in zip(places, openings + [i for i in places if i not in openings], strict=True):
            order[place] = index
    return order


class ClockMachine(RuleBasedStateMachine):
    """Two monitors with two environments each, one clock, and a story that Hypothesis makes up."""

    def __init__(self):
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    def teardown(self):
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    # --- the story

    @initialize(
        start=st.sampled_from(STARTS),
        expected=st.tuples(schedules, schedules),
        margins=st.tuples(st.sampled_from(MARGINS), st.sampled_from(MARGINS)),
        thresholds=st.tuples(st.sampled_from(THRESHOLDS), st.sampled_from(THRESHOLDS)),
    )
    def two_monitors_are_created(self, start, expected, margins, thresholds):
        self.now = self.ticked = self.started = start
        self.project = ProjectFactory()
        self.monitors, self.accounts, self.places, self.runs = [], [], {}, {}
        self.receptions = defaultdict(list)
        for number in range(2):
            columns = columns_of(*expected[number])
            self.monitors.append(
                MonitorFactory(
                    project=self.project,
                    checkin_margin=margins[number],
                    failure_threshold=thresholds[number],
                    recovery_threshold=thresholds[1 - number],
                    **columns,
                )
            )
            rules = Rules(slots_of(columns), margins[number], 30, thresholds[number], thresholds[1 - number])
            self.accounts.append(Monitor(rules))
        self.the_clock_ticks()

    @rule(minutes=st.integers(1, 300))
    def minutes_pass(self, minutes):
        self.now = minute_of(self.now) + minutes * MINUTE + timedelta(seconds=2)
        self.the_clock_ticks()

    @rule(minutes=st.integers(1, 90))
    def minutes_pass_without_the_clock(self, minutes):
        self.now += minutes * MINUTE

    @rule(place=places, seconds=st.integers(-8, 2), with_clock=st.booleans())
    def it_is_almost_time(self, place, seconds, with_clock):
        self._go_to(self._coming(place), seconds, with_clock)

    @rule(place=places, seconds=st.integers(-1, 1), with_clock=st.booleans())
    def a_margin_is_about_to_end(self, place, seconds, with_clock):
        slot = self._coming(place)
        margin = self.accounts[place[0]].rules.margin * MINUTE
        self._go_to(None if slot is None else slot + margin, seconds, with_clock)

    def _coming(self, place):
        """The slot that is waited for by the rules of now."""
        if place not in self.places or not self.accounts[place[0]].is_active:
            return None
        return next(self.places[place].stretches[-1].coming(FAR), None)

    @rule(seconds=st.integers(-1, 1), with_clock=st.booleans())
    def a_deadline_is_about_to_pass(self, seconds, with_clock):
        runs = [run for place in self.places.values() for run in place.runs.values()]
        deadlines = [run.deadline for run in runs if run.deadline is not None]
        self._go_to(min(deadlines, default=None), seconds, with_clock)

    def _go_to(self, instant, seconds, with_clock):
        if instant is not None and self.now < instant + timedelta(seconds=seconds) < self.now + timedelta(hours=12):
            self.now = instant + timedelta(seconds=seconds)
            if with_clock:
                self.the_clock_ticks()

    @rule(place=places, status=statuses, number=st.sampled_from(RUN_NUMBERS))
    def the_job_reports(self, place, status, number):
        self._receive(place, [(status, None if number is None else (place, number))])

    @rule(place=places, words=st.lists(st.tuples(statuses, st.sampled_from(RUN_NUMBERS)), min_size=2, max_size=5))
    def the_job_reports_several_times_in_one_batch(self, place, words):
        self._receive(place, [(status, None if number is None else (place, number)) for status, number in words])

    @rule(place=places, status=statuses, owner=places, number=st.sampled_from(RUN_NUMBERS[1:]))
    def an_id_is_used_again(self, place, status, owner, number):
        self._receive(place, [(status, (owner, number))])

    def _receive(self, place, words):
        monitor, messages = self.monitors[place[0]], []
        for status, name in words:
            self.now += timedelta(seconds=1)
            number = None if name is None else 10 * PLACES.index(name[0]) + name[1]
            messages.append(make_message(status, monitor=monitor, at=self.now, environment=place[1], run=number))
        expected = {}
        for index in causally(words):
            status, name = words[index]
            expected[index] = self._account_hears(place, status, name, messages[index].received_at)
        outcomes = receive(messages, now=self.now)
        assert dict(enumerate(outcome.accepted for outcome in outcomes)) == expected

    def _account_hears(self, place, status, name, now):
        """Whether the message is taken, by the account."""
        monitor = self.accounts[place[0]]
        if place not in self.places:
            if not monitor.is_active:
                return False
            # A monitor counts as muted when all that it has is muted (docs/reference/behaviour.md, section 6.6).
            others = self._places_of(place[0])
            self.places[place] = Place(monitor, now)
            self.places[place].verdicts.is_muted = bool(others) and all(one.verdicts.is_muted for one in others)
        here = self.places[place]
        run = here.newest_running(now) if name is None else self.runs.get(name)
        if name is None and run is not None and status == "in_progress" and here.begins_anew(run, now, TOLERANCE):
            run = None
        spared = status != "in_progress" and (run is not None or status == "error")
        received = sum(minute_of(at) == minute_of(now) for at in self.receptions[place])
        if received >= RECEIVED_MAX * (10 if spared else 1):
            return False
        if not monitor.is_active and (run is None or status == "in_progress"):
            return False
        self.receptions[place].append(now)
        if run is None:
            run_id = name or object()
        elif run.id in here.runs and now < run.start + LIFE:
            run_id = run.id
        else:
            return False
        taken = here.hears(run_id, status, now, counts=monitor.is_active)
        if name is not None:
            self.runs.setdefault(name, here.runs[run_id])
        return taken

    def _places_of(self, number):
        return [place for (owner, _), place in self.places.items() if owner == number]

    @rule(number=st.integers(0, 1), edit=edits)
    def the_monitor_is_edited(self, number, edit):
        what, value = edit
        if what == "schedule":
            columns = columns_of(*value)
            self._edit(number, columns, slots=slots_of(columns))
        elif what == "margin":
            self._edit(number, {"checkin_margin": value}, margin=value)
        elif what == "runtime":
            self._edit(number, {"max_runtime": value}, runtime=value)
        elif what == "thresholds":
            columns = {"failure_threshold": value[0], "recovery_threshold": value[1]}
            self._edit(number, columns, failures_to_open=value[0], oks_to_recover=value[1])
        else:
            is_active = not self.accounts[number].is_active
            status = MonitorStatus.ACTIVE if is_active else MonitorStatus.DISABLED
            set_monitors_status([self.monitors[number].id], status, now=self.now)
            self._account_edits(number, is_active=is_active)

    def _edit(self, number, columns, **changes):
        update_monitor(self.monitors[number].id, columns, now=self.now)
        rules = self.accounts[number].rules
        changed = rules._replace(**changes)
        self._account_edits(number, rules=None if changed == rules else changed)

    def _account_edits(self, number, **edit):
        while count_stranded():
            pass
        before, was_active = self.accounts[number].edit(self.now, **edit)
        for place in self._places_of(number):
            place.is_edited(self.now, before, was_active=was_active)
            place.count_what_waits()

    @rule(place=places, muted=st.booleans())
    def an_environment_is_muted_or_unmuted(self, place, muted):
        if place in self.places:
            rows = MonitorEnvironment.objects.filter(monitor=self.monitors[place[0]], environment__name=place[1])
            set_environments_muted(list(rows.values_list("id", flat=True)), muted)
            self.places[place].verdicts.is_muted = muted

    def the_clock_ticks(self):
        """Apply every minute up to now, as beat and a worker do."""
        until = minute_of(self.now)
        tasks = advance_ledger(until, now=self.now)
        while tasks:
            woken = process_clock_task(tasks.pop(0)).wake
            tasks += [] if woken is None else [woken]
        advance_ledger(until, now=self.now)
        while self.ticked < until:
            self.ticked += MINUTE
            for place in self.places.values():
                place.tick(self.ticked)

    # --- the promises

    @invariant()
    def the_rows_agree_with_the_account(self):
        """Read everything once, then look at it from all sides."""
        numbers = {monitor.id: number for number, monitor in enumerate(self.monitors)}
        environments = {
            (numbers[row.monitor_id], row.environment.name): row
            for row in MonitorEnvironment.objects.select_related("environment")
        }
        assert environments.keys() == self.places.keys()
        checkins: dict[int, list[CheckIn]] = defaultdict(list)
        incidents: dict[int, list[Incident]] = defaultdict(list)
        issues: dict[int, list[Issue]] = defaultdict(list)
        for checkin in CheckIn.objects.order_by("date_added", "id"):
            checkins[checkin.monitor_environment_id].append(checkin)
        for incident in Incident.objects.all():
            incidents[incident.monitor_environment_id].append(incident)
        for issue in Issue.objects.all():
            issues[issue.monitor_environment_id].append(issue)
        self.p4_every_tick_is_applied_once_and_in_order()
        for key, place in self.places.items():
            row = environments[key]
            own = incidents[row.id]
            self.p5_status_and_open_incident_agree(row, own, issues[row.id])
            self.d1_every_elapsed_slot_is_served_or_missed_once(row, place, checkins[row.id])
            self.runs_are_where_messages_and_deadlines_left_them(place, checkins[row.id])
            self.streaks_are_what_the_history_says(row, place)
            self.d5_occurrences_are_as_many_as_the_failures_say(place, own, issues[row.id])

    def p4_every_tick_is_applied_once_and_in_order(self):
        positions = set(ShardClock.objects.values_list("position", flat=True))
        assert positions == {self.ticked}
        applied = list(AppliedTick.objects.values_list("shard", "kind", "tick"))
        assert len(applied) == len(set(applied))
        assert Tick.objects.count() == (self.ticked - self.started) // MINUTE + 1

    def p5_status_and_open_incident_agree(self, row, incidents, issues):
        assert len([incident for incident in incidents if incident.resolved_at is None]) == (row.status == "error")
        assert len(issues) <= 1

    def d1_every_elapsed_slot_is_served_or_missed_once(self, row, place, checkins):
        for status in ("missed", "unknown"):
            found = [c.expected_time for c in checkins if c.status == status and c.source == "clock"]
            assert found == sorted(slot for slot, (judged, _) in place.judged.items() if judged == status)
        waiting = [stretch for stretch in place.stretches if stretch.next_deadlines(self.ticked)]
        assert (row.pending_slot is None) == (waiting == [])
        is_late = self.ticked < minute_of(self.now) or any(stretch.overdue for stretch in waiting)
        if waiting == place.stretches[-1:] and place.monitor.is_active and not is_late:
            coming = next(place.stretches[-1].coming(FAR))
            assert (row.pending_slot, coming + place.monitor.rules.margin * MINUTE > self.ticked) == (coming, True)

    def runs_are_where_messages_and_deadlines_left_them(self, place, checkins):
        runs = sorted(place.runs.values(), key=lambda run: run.start)
        told = [(c.date_added, c.status, c.timeout_at, c.finished_status) for c in checkins if c.source != "clock"]
        assert told == [(run.start, run.status, run.deadline, run.finished) for run in runs]

    def streaks_are_what_the_history_says(self, row, place):
        told = row.status, row.failure_streak, row.ok_streak
        assert told == (place.verdicts.status, len(place.verdicts.failures), place.verdicts.oks)

    def d5_occurrences_are_as_many_as_the_failures_say(self, place, incidents, issues):
        occurrences = sum(incident.occurrence_count for incident in incidents)
        assert (len(incidents), occurrences) == (len(place.verdicts.stories), place.verdicts.occurrences)
        assert sum(issue.occurrence_count for issue in issues) == place.verdicts.occurrences


@pytest.mark.django_db
@pytest.mark.parametrize("count", [6, pytest.param(30, marks=pytest.mark.long)])
def test_random_stories_end_as_the_account_says(count):
    examples = os.environ.get("STATEFUL_EXAMPLES")
    run_state_machine_as_test(
        ClockMachine,
        settings=settings(
            max_examples=int(examples or count),
            stateful_step_count=40,
            deadline=None,
            # The same stories at every run, so that a failure in CI is a failure here.
            derandomize=examples is None,
            suppress_health_check=list(HealthCheck),
        ),
    )
