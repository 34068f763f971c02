"""Random stories of a few environments, told to the services on PostgreSQL and to a naive model; after every step both
must agree, and the promises must hold.

`STATEFUL_EXAMPLES=500 .venv/bin/pytest tests/stateful` looks further, and elsewhere each time.
"""

import itertools
import os
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from checkins.models import CheckIn
from checkins.services import receive
from clocktasks.models import AppliedTick, ShardClock, Tick
from clocktasks.services import advance_ledger, process_clock_task
from incidents.models import Incident, Issue, Occurrence
from monitors.models import Monitor, MonitorEnvironment
from monitors.schedule import Schedule
from monitors.services import set_environments_muted, set_monitors_status, update_monitor
from monitors.state import MonitorStatus
from tests.factories import MonitorFactory, ProjectFactory
from tests.messages import make_message
from tests.stateful.naive import MINUTE, Job, Place, Run, minute_of

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
PLACES = [(0, "production"), (0, "staging"), (1, "production"), (1, "staging")]
RUN_NAMES = [None, 1, 2, 3, 4, 5, 6]  # None is the zero id.

schedules = st.tuples(st.sampled_from(SCHEDULES), st.sampled_from(ZONES))
places = st.sampled_from(PLACES)


def columns_of(schedule, timezone):
    columns = {"crontab": None, "interval": None, "interval_unit": None, "timezone": timezone, **schedule}
    return {**columns, "schedule_type": "crontab" if columns["crontab"] else "interval"}


def value_of(columns):
    if columns["crontab"]:
        return Schedule.from_crontab(columns["crontab"], columns["timezone"])
    return Schedule.from_interval(columns["interval"], columns["interval_unit"], columns["timezone"])


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
        self.now = self.ticked = start
        self.project = ProjectFactory()
        self.monitors, self.jobs, self.places, self.runs = [], [], {}, {}
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
            self.jobs.append(
                Job(
                    value_of(columns),
                    margin=margins[number] * MINUTE,
                    runtime=30 * MINUTE,
                    failures_to_open=thresholds[number],
                    oks_to_recover=thresholds[1 - number],
                )
            )
        self.the_clock_ticks()

    @rule(minutes=st.integers(1, 300))
    def minutes_pass(self, minutes):
        self.now = minute_of(self.now) + minutes * MINUTE + timedelta(seconds=2)
        self.the_clock_ticks()

    @rule(minutes=st.integers(1, 90))
    def minutes_pass_without_the_clock(self, minutes):
        self.now += minutes * MINUTE

    @rule(place=places, seconds_before=st.integers(-2, 8), with_clock=st.booleans())
    def it_is_almost_time(self, place, seconds_before, with_clock):
        slot = self.places[place].next_slot() if place in self.places else None
        if slot is not None:
            self._go_to(slot - timedelta(seconds=seconds_before), with_clock)

    @rule(place=places, seconds_after=st.integers(-1, 1), with_clock=st.booleans())
    def a_margin_is_about_to_end(self, place, seconds_after, with_clock):
        slot = self.places[place].next_slot() if place in self.places else None
        if slot is not None:
            self._go_to(slot + self.places[place].job.margin + timedelta(seconds=seconds_after), with_clock)

    @rule(name=st.sampled_from(RUN_NAMES[1:]), seconds_after=st.integers(-1, 1), with_clock=st.booleans())
    def a_deadline_is_about_to_pass(self, name, seconds_after, with_clock):
        run = self.runs.get(name)
        if run is not None and run.deadline is not None:
            self._go_to(run.deadline + timedelta(seconds=seconds_after), with_clock)

    def _go_to(self, instant, with_clock):
        if self.now < instant < self.now + timedelta(hours=12):
            self.now = instant
            if with_clock:
                self.the_clock_ticks()

    @rule(place=places, status=st.sampled_from(["in_progress", "ok", "error"]), name=st.sampled_from(RUN_NAMES))
    def the_job_reports(self, place, status, name):
        self.now += timedelta(seconds=1)
        number, environment = place
        monitor, job = self.monitors[number], self.jobs[number]
        message = make_message(status, monitor=monitor, at=self.now, environment=environment, run=name)
        [outcome] = receive([message], now=self.now)
        assert outcome.accepted is self._model_hears(job, place, status, name)

    @rule(place=places, statuses=st.lists(st.sampled_from(["in_progress", "ok", "error"]), min_size=2, max_size=4))
    def the_job_reports_several_runs_at_once(self, place, statuses):
        """One batch of messages without ids."""
        messages, expected = [], []
        for status in statuses:
            self.now += timedelta(seconds=1)
            messages.append(make_message(status, monitor=self.monitors[place[0]], at=self.now, environment=place[1]))
            expected.append(self._model_hears(self.jobs[place[0]], place, status, None))
        outcomes = receive(messages, now=self.now)
        assert [outcome.accepted for outcome in outcomes] == expected

    def _model_hears(self, job, place, status, name):
        if not job.enabled:
            return False
        if place not in self.places:
            # A monitor counts as muted when all that it has is muted (reference section 6.6).
            muted = bool(job.places) and all(other.muted for other in job.places)
            self.places[place] = Place(job, place[1], muted=muted)
            job.places.append(self.places[place])
        here = self.places[place]
        run: Run | None = here.newest_running(self.now) if name is None else self.runs.get(name)
        taken = here.hears(status, self.now, run, name)
        if taken and run is None and name is not None:
            self.runs[name] = here.runs[-1]
        return taken

    @rule(number=st.integers(0, 1), expected=schedules)
    def the_schedule_is_edited(self, number, expected):
        columns = columns_of(*expected)
        self._edit(number, columns, schedule=value_of(columns))

    @rule(number=st.integers(0, 1), margin=st.sampled_from(MARGINS))
    def the_margin_is_edited(self, number, margin):
        self._edit(number, {"checkin_margin": margin}, margin=margin * MINUTE)

    @rule(number=st.integers(0, 1), runtime=st.sampled_from(RUNTIMES))
    def the_runtime_is_edited(self, number, runtime):
        job = self.jobs[number]
        if job.runtime != runtime * MINUTE:
            for place in job.places:
                for run in place.runs:
                    if run.deadline is not None and run.finished is None:
                        run.deadline = minute_of(run.start) + runtime * MINUTE
        self._edit(number, {"max_runtime": runtime}, runtime=runtime * MINUTE)

    @rule(number=st.integers(0, 1), failures=st.sampled_from(THRESHOLDS), oks=st.sampled_from(THRESHOLDS))
    def the_thresholds_are_edited(self, number, failures, oks):
        columns = {"failure_threshold": failures, "recovery_threshold": oks}
        update_monitor(self.monitors[number].id, columns, now=self.now)
        self.jobs[number].failures_to_open, self.jobs[number].oks_to_recover = failures, oks

    @rule(number=st.integers(0, 1))
    def the_monitor_is_switched_on_or_off(self, number):
        job = self.jobs[number]
        job.enabled = not job.enabled
        status = MonitorStatus.ACTIVE if job.enabled else MonitorStatus.DISABLED
        set_monitors_status([self.monitors[number].id], status, now=self.now)
        for place in job.places:
            place.starts_anew(self.now)

    @precondition(lambda self: self.places)
    @rule(place=places, muted=st.booleans())
    def an_environment_is_muted_or_unmuted(self, place, muted):
        if place in self.places:
            set_environments_muted([self._row(place).id], muted)
            self.places[place].muted = muted

    def _edit(self, number, columns, **values):
        job = self.jobs[number]
        update_monitor(self.monitors[number].id, columns, now=self.now)
        changed = any(getattr(job, name) != value for name, value in values.items())
        for name, value in values.items():
            setattr(job, name, value)
        if changed:
            for place in job.places:
                place.starts_anew(self.now)

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

    def _row(self, place):
        number, environment = place
        return MonitorEnvironment.objects.get(monitor=self.monitors[number], environment__name=environment)

    @invariant()
    def p4_every_tick_is_applied_once_and_in_order(self):
        assert set(ShardClock.objects.values_list("position", flat=True)) == {self.ticked}
        ledger = list(Tick.objects.order_by("at").values_list("at", flat=True))
        assert all(later - earlier == MINUTE for earlier, later in itertools.pairwise(ledger))
        applied = list(AppliedTick.objects.values_list("shard", "kind", "tick"))
        assert len(applied) == len(set(applied))

    @invariant()
    def p5_status_and_open_incident_agree_and_there_is_one_of_each(self):
        open_incidents = list(
            Incident.objects.filter(resolved_at=None).values_list("monitor_environment_id", flat=True)
        )
        assert len(open_incidents) == len(set(open_incidents))
        assert set(open_incidents) == set(
            MonitorEnvironment.objects.filter(status="error").values_list("id", flat=True)
        )
        fingerprints = list(Issue.objects.values_list("project_id", "fingerprint"))
        assert len(fingerprints) == len(set(fingerprints))

    @invariant()
    def d1_every_elapsed_slot_is_served_or_missed_once(self):
        for key, place in self.places.items():
            stored = CheckIn.objects.filter(monitor_environment=self._row(key), status="missed")
            missed = list(stored.order_by("expected_time").values_list("expected_time", flat=True))
            assert missed == sorted(place.slots["missed"])
            assert len(missed) == len(set(missed))
            if place.reference is not None and not place.overdue and self.ticked == minute_of(self.now):
                coming = place.next_slot()
                assert (self._row(key).pending_slot, coming + place.job.margin > self.ticked) == (coming, True)

    @invariant()
    def streaks_and_status_are_what_the_history_says(self):
        for key, place in self.places.items():
            row = self._row(key)
            told = row.status, row.failure_streak, row.ok_streak
            assert told == (place.status, place.streak("failed"), place.streak("ok")), key

    @invariant()
    def runs_are_where_their_messages_and_deadlines_left_them(self):
        for key, place in self.places.items():
            stored = CheckIn.objects.filter(monitor_environment=self._row(key)).exclude(status="missed")
            rows = stored.order_by("date_added").values_list("date_added", "status", "timeout_at", "finished_status")
            assert list(rows) == [(run.start, run.status, run.deadline, run.finished) for run in place.runs]

    @invariant()
    def d5_incidents_and_occurrences_are_as_many_as_the_failures_say(self):
        for key, place in self.places.items():
            incidents = Incident.objects.filter(monitor_environment=self._row(key))
            occurrences = Occurrence.objects.filter(incident__in=incidents).count()
            assert (incidents.count(), occurrences) == (place.incidents, place.occurrences), key
            issue = Issue.objects.filter(monitor_environment=self._row(key)).first()
            assert (0 if issue is None else issue.occurrence_count) == place.occurrences

    @invariant()
    def what_is_switched_off_expects_nothing(self):
        for number, job in enumerate(self.jobs):
            rows = MonitorEnvironment.objects.filter(monitor=self.monitors[number])
            assert rows.count() == len(job.places)
            assert job.enabled or not rows.filter(next_checkin_latest__isnull=False).exists()
            assert Monitor.objects.get(id=self.monitors[number].id).rules().schedule == job.schedule


@pytest.mark.django_db
def test_random_stories_end_as_a_naive_account_says():
    examples = os.environ.get("STATEFUL_EXAMPLES")
    run_state_machine_as_test(
        ClockMachine,
        settings=settings(
            max_examples=int(examples or 40),
            stateful_step_count=25,
            deadline=None,
            # The same stories at every run, so that a failure in CI is a failure here.
            derandomize=examples is None,
            suppress_health_check=list(HealthCheck),
        ),
    )
