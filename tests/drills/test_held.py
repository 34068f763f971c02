"""The audit of the drill of delivery: who may stay untold behind another incident, and who was lost."""

from datetime import timedelta

import pytest

from drills.delivery.audit import LATE, judge_held
from drills.delivery.rows import WATCH_SQL, run_sql
from incidents.notifications.holds import BEHIND, RECOVERY
from tests.factories import NOW, DutyFactory, IncidentFactory, NotificationFactory

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def watched():
    run_sql(WATCH_SQL)


def incident(opened_at, over_at, *, is_told, held_by=""):
    """The id of a job with an incident."""
    row = IncidentFactory(resolved=True, opened_at=opened_at)
    type(row).objects.filter(id=row.id).update(resolved_at=over_at)
    notification = NotificationFactory(incident=row, transition="opened")
    if held_by:
        type(notification).objects.filter(id=notification.id).update(held_by=held_by)
    if is_told:
        DutyFactory(notification=notification)
    return row.monitor_environment_id


@pytest.mark.parametrize(
    ("opened_at", "over_at", "lost"),
    [
        (NOW + MINUTE, NOW + 2 * MINUTE, 0),
        (NOW + MINUTE, NOW + HOUR + RECOVERY + LATE, 0),
        (NOW + MINUTE, NOW + HOUR + RECOVERY + LATE + MINUTE, 1),
        (NOW - 2 * HOUR, NOW - HOUR, 1),
    ],
    ids=["over while it was held", "over when the hold ended", "over long after that", "over before there was a hold"],
)
def test_an_incident_may_stay_untold_only_if_it_was_over_while_it_was_held(opened_at, over_at, lost):
    above = incident(NOW, NOW + HOUR, is_told=True)
    job = incident(opened_at, over_at, is_told=False)
    held = judge_held({job: above})
    assert (held.over, len(held.lost)) == (1 - lost, lost)


def test_behind_an_incident_that_nobody_knows_of_it_is_lost_and_so_is_one_that_depends_on_nothing():
    above = incident(NOW, NOW + HOUR, is_told=False)
    job = incident(NOW + MINUTE, NOW + 2 * MINUTE, is_told=False)
    assert len(judge_held({job: above}).lost) == 2


def test_what_was_held_and_told_in_the_end_is_counted():
    above = incident(NOW, NOW + HOUR, is_told=True)
    job = incident(NOW + MINUTE, NOW + 2 * HOUR, is_told=True, held_by=f"{BEHIND}db (production), which is failing")
    held = judge_held({job: above})
    assert (held.told, held.over, held.lost) == (1, 0, ())
