"""P9: the same history of words, edits and maintenance windows gives the same rows, however late the clock looked."""

from dataclasses import dataclass

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkins.maintenance import change_tags, end_window, plan_window
from checkins.models import CheckIn
from monitors.models import Environment, MaintenanceWindow
from tests.clocktasks.test_edits_in_order_of_time import Edit, Word, edits, everything, instants, switches, told
from tests.clocktasks.test_edits_in_order_of_time import words as any_words
from tests.clocktasks.test_order_of_time import a_monitor, at

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Plan(Edit):
    """A person plans a window: from so many minutes after the start on, for so many minutes, or by a rule."""

    begin: int = 0
    minutes: int = 1
    every: int | None = None
    tag: str = ""
    of: str = "project"

    def happen(self, monitor):
        fields = {"ends_at": at((self.begin + self.minutes) * 60)}
        if self.every is not None:
            fields = {"crontab": f"*/{self.every} * * * *", "minutes": self.minutes}
        elif fields["ends_at"] <= at(self.seconds + 70):
            return
        if self.of == "monitor":
            fields["monitor"] = monitor
        elif self.of == "environment":
            fields["environment"], _ = Environment.objects.get_or_create(project=monitor.project, name="production")
        elif self.of == "tag":
            fields["tag"] = self.tag
        window = MaintenanceWindow(project=monitor.project, name="upgrade", starts_at=at(self.begin * 60), **fields)
        plan_window(window, now=at(self.seconds))


@dataclass(frozen=True)
class End(Edit):
    """A person ends the oldest window that there is."""

    def happen(self, monitor):
        for window in MaintenanceWindow.objects.filter(project=monitor.project).order_by("id")[:1]:
            end_window(window.id, now=at(self.seconds))


@dataclass(frozen=True)
class Tags(Edit):
    """A person gives the monitor other tags."""

    tags: tuple[str, ...] = ()

    def happen(self, monitor):
        change_tags(monitor.id, self.tags, now=at(self.seconds))


plans = st.builds(
    Plan,
    st.integers(0, 800).map(lambda half: half / 2),
    begin=st.integers(0, 9),
    minutes=st.integers(1, 7),
    every=st.sampled_from([None, None, 2, 3, 5]),
    tag=st.sampled_from(["a", "b"]),
    of=st.sampled_from(["project", "monitor", "environment", "tag"]),
)
ends = st.builds(End, instants)
tags = st.builds(Tags, instants, tags=st.sampled_from([(), ("a",), ("a", "b")]))
stories = st.builds(
    lambda *parts: sorted(
        [one for part in parts for one in part], key=lambda one: (one.seconds, isinstance(one, Word))
    ),
    st.lists(any_words.filter(lambda word: word.config is None), min_size=2, max_size=10),
    st.lists(plans, min_size=1, max_size=3),
    st.lists(ends, max_size=2),
    st.lists(tags, max_size=2),
    st.lists(edits, max_size=1),
    st.lists(switches, max_size=1),
)

# The run is due inside, its window ends early, and its end comes later.
ENDED_EARLY = [
    Plan(0, begin=2, minutes=6),
    Word("in_progress", 30.0, 1),
    End(245.0),
    Word("ok", 400.0, 1),
]

# What was received inside is counted by what the monitor had for tags then.
ANOTHER_TAG = [
    Plan(0, begin=1, minutes=9, of="tag", tag="a"),
    Tags(0, tags=("a",)),
    Word("in_progress", 10.0, 1),
    Word("error", 90.0, 2),
    Tags(200.0),
    Word("error", 280.0, 3),
]

# The end of a run that was due inside is no end of a run that is over, whichever the clock has seen.
IN_TIME_BECAUSE_OF_A_WINDOW = [
    Plan(0, begin=1, minutes=8),
    Word("in_progress", 10.0, None),
    Word("in_progress", 20.0, 2),
    Word("ok", 300.0, None),
    Word("error", 301.0, 2),
]


@pytest.mark.long
@example(story=ENDED_EARLY, lag=[1], batches=[3])
@example(story=ENDED_EARLY, lag=[1], batches=[0])
@example(story=ANOTHER_TAG, lag=[1], batches=[4])
@example(story=IN_TIME_BECAUSE_OF_A_WINDOW, lag=[1], batches=[0])
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    story=stories,
    lag=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    batches=st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_p9_the_same_history_with_windows_gives_the_same_rows_whatever_the_lag(story, lag, batches):
    seen = []
    for ticks, sizes in ((None, [0]), (lag, batches)):
        with transaction.atomic():
            monitor = a_monitor()
            told(monitor, story, ticks=ticks, batches=sizes)
            seen.append(everything())
            transaction.set_rollback(True)
    in_time, late = seen
    assert late == in_time


def tell(*story):
    monitor = a_monitor(crontab="0 12 * * *")
    told(monitor, sorted(story, key=lambda one: one.seconds), ticks=None, batches=[0])
    return CheckIn.objects.order_by("date_added")


def test_a_run_that_was_due_inside_is_judged_when_its_window_ends_early():
    run = tell(Word("in_progress", 30.0, 1), Plan(0, begin=2, minutes=12), End(245.0)).get()
    assert (run.status, run.failed_at) == ("timeout", at(300))


def test_a_run_that_was_due_inside_is_judged_when_its_monitor_loses_the_tag():
    story = [Plan(0, begin=2, minutes=12, of="tag", tag="a"), Tags(0, tags=("a",)), Tags(245.0)]
    run = tell(Word("in_progress", 30.0, 1), *story).get()
    assert (run.status, run.failed_at) == ("timeout", at(300))
