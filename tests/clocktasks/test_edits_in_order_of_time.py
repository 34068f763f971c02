"""D32: the same history of words and edits gives the same rows, however late the clock looked."""

from dataclasses import dataclass, replace

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkins.editing import set_monitors_status, update_monitor
from checkins.models import CheckIn, ListeningSpan
from checkins.processing.apply import receive
from incidents.models import Incident
from monitors.models import Monitor, MonitorEnvironment
from monitors.state import MonitorStatus
from tests.clocktasks.test_order_of_time import a_monitor, at, held_minutes, rows, tick
from tests.factories import ListeningSpanFactory, MaintenanceWindowFactory
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db


def every(minutes):
    """The schedule columns of "every so many minutes of the hour"."""
    return {"schedule_type": "crontab", "crontab": f"*/{minutes} * * * *", "interval": None, "interval_unit": None}


def apart(minutes):
    """The schedule columns of "so many minutes after the last run"."""
    return {"schedule_type": "interval", "crontab": None, "interval": minutes, "interval_unit": "minute"}


@dataclass(frozen=True)
class Word:
    """A message of run number `run`, perhaps with a configuration."""

    status: str
    seconds: float
    run: int | None
    config: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True)
class Edit:
    """What a person changes of the monitor: its columns, or whether it is active."""

    seconds: float
    columns: tuple[tuple[str, object], ...] = ()
    is_active: bool | None = None

    def happen(self, monitor):
        if self.is_active is None:
            update_monitor(monitor.id, dict(self.columns), now=at(self.seconds))
        else:
            status = MonitorStatus.ACTIVE if self.is_active else MonitorStatus.DISABLED
            set_monitors_status([monitor.id], status, now=at(self.seconds))


def message(monitor, word):
    config = None
    if word.config is not None:
        crontab, margin, runtime = (value for _, value in word.config)
        config = make_config(f"*/{crontab} * * * *", checkin_margin_minutes=margin, max_runtime_minutes=runtime)
    return make_message(
        word.status, monitor=monitor, at=at(word.seconds), run=word.run, sent_at=at(word.seconds), config=config
    )


# A message at the instant of an edit is judged by the new rules: it comes after.
instants = st.integers(1, 1_300).map(lambda half: half / 2)
wholes = st.integers(1, 10).map(lambda minute: minute * 60.0)
configurations = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)).map(
    lambda values: tuple(zip(("crontab", "margin", "runtime"), values, strict=True))
)
words = st.builds(
    Word,
    st.sampled_from(["in_progress", "ok", "error"]),
    instants,
    st.sampled_from([None, 1, 2, 3, 4, 5, 6]),
    st.none() | st.none() | st.none() | configurations,
)
columns = st.fixed_dictionaries(
    {},
    optional={
        "checkin_margin": st.integers(1, 4),
        "max_runtime": st.integers(1, 3),
        "failure_threshold": st.integers(1, 2),
        "recovery_threshold": st.integers(1, 2),
    },
)
schedules: st.SearchStrategy[dict[str, object]] = (
    st.just({}) | st.integers(1, 4).map(every) | st.integers(1, 4).map(apart)
)
edits = st.builds(
    lambda seconds, fields, schedule: Edit(seconds, tuple((fields | schedule).items())),
    instants | wholes,
    columns,
    schedules,
)
switches = st.builds(lambda seconds, is_active: Edit(seconds, is_active=is_active), instants, st.booleans())


def in_order(words, edits, switches):
    """The parts of a story as they happen. Of words at one instant none brings a configuration: which was first?"""
    instants = [word.seconds for word in words]
    words = [replace(word, config=None) if instants.count(word.seconds) > 1 else word for word in words]
    return sorted([*words, *edits, *switches], key=lambda one: (one.seconds, isinstance(one, Word)))


stories = st.builds(
    in_order,
    st.lists(words, min_size=2, max_size=10),
    st.lists(edits, min_size=1, max_size=5),
    st.lists(switches, max_size=2),
)


def maintain(monitor, begin, minutes):
    """Have maintenance for so many minutes from a minute on, planned before anything happens."""
    MaintenanceWindowFactory(
        project=monitor.project, starts_at=at(begin * 60), ends_at=at((begin + minutes) * 60), created_at=at(0)
    )


def told(monitor, story, *, ticks, batches, held=()):
    """Tell a story with words in batches of so many and the clock at rest but at some of them; then it catches up.

    A person's edit happens at once, also while words that came before it wait to be stored. Two exceptions: whether a
    monitor is active decides when words are stored which of them it takes, and of two edits the one holds that is
    stored last. There the words are stored before.
    """
    waiting: list[Word] = []
    size, number = batches[0] + 1, 0

    def store():
        nonlocal waiting, size, number
        if not waiting:
            return
        number += 1
        if ticks is None or ticks[number % len(ticks)] == 0:
            tick(int(waiting[0].seconds // 60), held=held)  # As far as the watermark lets it (P2).
        receive([message(monitor, word) for word in waiting], now=at(waiting[-1].seconds))
        waiting, size = [], batches[number % len(batches)] + 1

    for one in story:
        if isinstance(one, Edit):
            if one.is_active is not None or any(word.config for word in waiting):
                store()
            if ticks is None:
                tick(int(one.seconds // 60), held=held)
            one.happen(monitor)
        else:
            waiting.append(one)
            if len(waiting) >= size:
                store()
    store()
    tick(16)


def everything():
    """All that people see, and what is still to be judged by which rules."""
    checkins = CheckIn.objects.order_by("date_added", "status", "date_updated")
    return [
        *rows(),
        list(checkins.values_list("unknown_because")),
        list(MonitorEnvironment.objects.values_list("spans", "anchor_at", "served_ahead")),
        list(Monitor.objects.values_list("config__config", "rules_since")),
    ]


# The slot of 13:01 came by rules that two edits have replaced since: the start at 13:02:23 begins a run all the same.
OLDER_RULES = [
    Word("in_progress", 0.5, None),
    Word("in_progress", 21.5, None, (("crontab", 1), ("margin", 1), ("runtime", 1))),
    Edit(60.0),
    Word("in_progress", 65.5, None),
    Word("ok", 103.0, None, (("crontab", 3), ("margin", 1), ("runtime", 3))),
    Word("in_progress", 143.0, None),
]

# The slot of 13:07 waits by rules that an edit has replaced when the monitor is disabled, and falls due while it is.
OFF_AFTER_AN_EDIT = [
    Word("in_progress", 413.0, None),
    Edit(420.0, (("max_runtime", 1),)),
    Edit(438.5, is_active=False),
    Edit(598.5, is_active=True),
]

# An edit that leaves alone what is expected, while the second run waits to be stored: it is still the one of 13:01.
NOTHING_COUNTED_ANEW = [
    Word("in_progress", 0.5, None),
    Word("in_progress", 0.5, None),
    Word("in_progress", 102.0, None),
    Edit(490.0, (("failure_threshold", 2),)),
]

# The run at 13:00:11 is the one of 13:03, by the rules of then, though the slot of 13:02 by later ones still waits.
NOT_BY_LATER_RULES = [
    Word("in_progress", 4.5, None),
    Word("in_progress", 11.0, 3, (("crontab", 3), ("margin", 1), ("runtime", 1))),
    Word("in_progress", 67.5, None, (("crontab", 2), ("margin", 2), ("runtime", 3))),
    Word("in_progress", 141.5, None, (("crontab", 3), ("margin", 1), ("runtime", 1))),
    Edit(172.0, (("checkin_margin", 2),)),
]

# The extra run at 13:02:32 is stored with the configuration that replaced its rules: it counts from the edit before.
COUNTED_FROM_THE_EDIT_BEFORE = [
    Word("in_progress", 59.5, None, (("crontab", 4), ("margin", 1), ("runtime", 1))),
    Word("in_progress", 61.5, None),
    Word("ok", 65.0, None),
    Edit(120.0, (("checkin_margin", 3), *apart(3).items())),
    Word("in_progress", 152.5, None),
    Word("in_progress", 153.0, None, (("crontab", 4), ("margin", 1), ("runtime", 1))),
]

# The ok ends the first run, since the second one has run too long by then, though no tick has found that yet.
NOT_THE_OVERDUE_ONE = [
    Word("in_progress", 3.5, None),
    Edit(14.5, (("max_runtime", 3),)),
    Edit(14.5, (("max_runtime", 1),)),
    Word("in_progress", 46.5, 6),
    Word("ok", 122.0, None),
]

# The slot of 13:04 is missed by the time of the ok, though no tick has found that yet: it is the one of 13:06.
NOT_THE_MISSED_ONE = [
    Word("ok", 154.0, None),
    Word("ok", 308.5, 1),
    Word("ok", 318.0, 2, (("crontab", 4), ("margin", 3), ("runtime", 3))),
]

# The slots are counted from when the monitor was enabled, also for a run that is stored after the edit that followed.
COUNTED_FROM_ENABLING = [
    Word("in_progress", 0.5, None),
    Edit(39.0, is_active=False),
    Edit(67.5, is_active=True),
    Word("in_progress", 87.0, 4),
    Word("in_progress", 152.0, None, (("crontab", 1), ("margin", 1), ("runtime", 1))),
]

# Both errors open the incident, whether they are counted in one batch or one after the other.
TWO_ERRORS = [
    Edit(0.5, (("failure_threshold", 2),)),
    Word("in_progress", 0.5, None),
    Word("in_progress", 60.0, None),
    Word("error", 72.0, None),
    Word("error", 145.5, None),
    Word("in_progress", 153.5, None),
]


# The run falls due at 13:04, at the end of maintenance, while the monitor is disabled: the ok of 13:04:10 counts.
MAINTAINED_UNTIL_DISABLED = [
    Word("in_progress", 20.0, 1),
    Edit(185.0, is_active=False),
    Edit(250.0, is_active=True),
    Word("ok", 250.0, 1),
]

# Its deadline at 13:03 is in maintenance until 13:06, when the monitor is enabled again: it is a timeout then.
MAINTAINED_UNTIL_ENABLED = [
    Word("in_progress", 60.0, 1),
    Edit(150.0, is_active=False),
    Edit(250.0, is_active=True),
]

# The second start is early for 13:01, and stored after an edit that came before that slot, or with it.
EARLY_BEFORE_AN_EDIT = [
    Word("in_progress", 50.5, None),
    Word("in_progress", 57.0, None),
    Edit(58.0, tuple(every(2).items())),
]
EARLY_BEFORE_AN_EDIT_WITH_THE_SLOT = [*EARLY_BEFORE_AN_EDIT[:2], Edit(60.0, tuple(every(2).items()))]

windows = st.none() | st.tuples(st.integers(1, 9), st.integers(1, 4))


@pytest.mark.long
@example(story=OLDER_RULES, lag=[0], batches=[3], held=set(), first={}, window=None)
@example(story=OFF_AFTER_AN_EDIT, lag=[0], batches=[0, 0], held=set(), first={}, window=None)
@example(story=NOTHING_COUNTED_ANEW, lag=[0], batches=[1], held=set(), first={}, window=None)
@example(story=NOT_BY_LATER_RULES, lag=[0], batches=[0, 4], held=set(), first={}, window=None)
@example(story=COUNTED_FROM_THE_EDIT_BEFORE, lag=[0], batches=[0, 1, 2], held=set(), first={}, window=None)
@example(story=NOT_THE_OVERDUE_ONE, lag=[1], batches=[0], held=set(), first={}, window=None)
@example(story=NOT_THE_MISSED_ONE, lag=[1], batches=[0, 1], held=set(), first=apart(2), window=None)
@example(story=COUNTED_FROM_ENABLING, lag=[0], batches=[4], held=set(), first=apart(4), window=None)
@example(story=TWO_ERRORS, lag=[0], batches=[0, 2], held=set(), first={}, window=None)
@example(story=MAINTAINED_UNTIL_DISABLED, lag=[1], batches=[0], held=set(), first=every(4), window=(1, 3))
@example(story=MAINTAINED_UNTIL_ENABLED, lag=[1], batches=[0], held=set(), first=every(4), window=(2, 4))
@example(story=EARLY_BEFORE_AN_EDIT, lag=[0], batches=[0, 3], held=set(), first={}, window=None)
@example(story=EARLY_BEFORE_AN_EDIT_WITH_THE_SLOT, lag=[0], batches=[0, 3], held=set(), first={}, window=None)
@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    story=stories,
    lag=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    batches=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    held=held_minutes,
    first=schedules,
    window=windows,
)
def test_d32_the_same_history_with_edits_gives_the_same_rows_whatever_the_lag(story, lag, batches, held, first, window):
    seen = []
    for ticks, sizes, waiting in ((None, [0], ()), (lag, batches, held)):
        with transaction.atomic():
            monitor = a_monitor(**first)
            if window is not None:
                maintain(monitor, *window)
            told(monitor, story, ticks=ticks, batches=sizes, held=waiting)
            seen.append(everything())
            transaction.set_rollback(True)
    in_time, late = seen
    assert late == in_time


# --- words that wait while a monitor is disabled and enabled again --------------------------------------------------


def outcomes():
    return list(CheckIn.objects.order_by("date_added").values_list("status", "unknown_because"))


def switch(monitor, *seconds):
    """Disable the monitor, enable it again, and so on."""
    for number, second in enumerate(seconds):
        Edit(second, is_active=number % 2 == 1).happen(monitor)


def test_d23_slots_that_came_while_the_monitor_was_disabled_are_not_expected_of_a_job_heard_of_only_later():
    monitor = a_monitor()
    switch(monitor, 90, 230)
    receive([message(monitor, Word("ok", 30, 1))], now=at(231))
    tick(6)
    # 13:01 was not due before the monitor was disabled; 13:04 is the first slot since it was enabled.
    assert outcomes() == [("ok", None), ("unknown", "disabled"), ("missed", None), ("missed", None)]
    assert list(CheckIn.objects.filter(status="missed").values_list("date_added", flat=True)) == [at(240), at(300)]


def test_d23_a_deadline_in_the_time_that_a_monitor_was_disabled_is_unknown_if_its_run_is_stored_only_later():
    monitor = a_monitor(crontab="0 * * * *")
    switch(monitor, 60, 230)
    receive([message(monitor, Word("in_progress", 30, 1))], now=at(231))
    tick(6)
    assert outcomes() == [("unknown", "disabled")]


def test_d23_the_end_of_such_a_run_counts_if_it_came_when_the_monitor_was_enabled_again():
    monitor = a_monitor(crontab="0 * * * *")
    switch(monitor, 60, 230)
    receive([message(monitor, Word(*word)) for word in (("in_progress", 30, 1), ("error", 240, 1))], now=at(241))
    tick(6)
    assert (outcomes(), Incident.objects.count()) == ([("error", None)], 1)


def test_d23_the_end_of_a_run_counts_that_fell_due_after_maintenance_while_the_monitor_was_disabled():
    monitor = a_monitor(crontab="0 * * * *", max_runtime=1)
    maintain(monitor, 1, 3)
    receive([message(monitor, Word("in_progress", 20, 1))], now=at(20))
    switch(monitor, 185, 250)
    receive([message(monitor, Word("error", 250, 1))], now=at(250))
    tick(6)
    assert (outcomes(), Incident.objects.count()) == ([("error", None)], 1)


def test_d23_a_run_is_judged_if_the_maintenance_of_its_deadline_lasts_until_the_monitor_is_enabled_again():
    monitor = a_monitor(crontab="0 * * * *", max_runtime=2)
    maintain(monitor, 2, 4)
    receive([message(monitor, Word("in_progress", 60, 1))], now=at(60))
    switch(monitor, 150, 250)
    assert outcomes() == [("in_progress", None)]
    tick(6)
    assert outcomes() == [("timeout", None)]


def test_d23_slots_from_before_a_monitor_was_disabled_keep_the_rules_of_then_if_they_are_judged_after_an_edit():
    monitor = a_monitor(crontab="* * * * *", checkin_margin=3, failure_threshold=2)
    switch(monitor, 301, 301.1)
    Edit(301.2, (("failure_threshold", 1),)).happen(monitor)
    receive([message(monitor, Word("ok", 119, 1))], now=at(302))
    tick(8)
    unknown = CheckIn.objects.filter(status="unknown").order_by("date_added")
    assert [row.config.config["failure_threshold"] for row in unknown] == [2, 2, 2]


def test_d29_an_ok_in_maintenance_counts_before_the_timeout_at_its_end_also_if_its_run_is_stored_late():
    monitor = a_monitor(crontab="0 * * * *", max_runtime=1)
    maintain(monitor, 1, 3)
    tick(3)
    receive([message(monitor, Word(*word)) for word in (("in_progress", 60, 1), ("ok", 183, 2))], now=at(200))
    tick(5)
    assert outcomes() == [("timeout", None), ("ok", None)]
    assert MonitorEnvironment.objects.get().failure_streak == 1


@pytest.mark.parametrize("is_late", [False, True])
def test_d2_d32_a_slot_from_before_an_edit_that_a_deaf_minute_puts_off_is_served_however_late_the_clock_is(is_late):
    monitor = a_monitor(crontab="* * * * *", checkin_margin=2)
    ListeningSpan.objects.update(until=at(60))
    ListeningSpanFactory(since=at(120))
    receive([message(monitor, Word("ok", 26, 1))], now=at(26))
    Edit(70, (("checkin_margin", 1), *every(3).items())).happen(monitor)
    if not is_late:
        tick(3)
    receive([message(monitor, Word("ok", 239, 2))], now=at(239))
    tick(6)
    assert outcomes() == [("ok", None), ("ok", None)]


def test_d32_a_configuration_that_is_stored_after_the_monitor_was_enabled_counts_from_then():
    monitor = a_monitor()
    receive([message(monitor, Word("ok", 1, 1))], now=at(1))
    switch(monitor, 200, 230)
    config = (("crontab", 2), ("margin", 1), ("runtime", 1))
    receive([message(monitor, Word("in_progress", 30, 2, config))], now=at(231))
    tick(7)
    missed = CheckIn.objects.filter(status="missed").order_by("date_added")
    assert list(missed.values_list("date_added", flat=True)) == [at(60), at(120), at(240), at(360)]


@pytest.mark.parametrize("edited_at", [190, 210, 250])
@pytest.mark.parametrize("is_enabled_again", [False, True])
def test_d23_an_edit_of_a_disabled_monitor_is_none_of_what_was_expected_before(edited_at, is_enabled_again):
    monitor = a_monitor(crontab="*/3 * * * *", checkin_margin=2, recovery_threshold=1)
    receive([message(monitor, Word("ok", 30, 1))], now=at(30))
    switch(monitor, 190)
    Edit(edited_at, (("recovery_threshold", 2),)).happen(monitor)
    if is_enabled_again:
        Edit(310, is_active=True).happen(monitor)
    tick(5)
    expected = CheckIn.objects.filter(status="unknown").values_list("date_added", "config__config__recovery_threshold")
    assert list(expected) == [(at(180), 1)]
