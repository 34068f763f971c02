"""A monitor is snoozed until an instant: what happens is recorded, and told then if it is still so."""

from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from audit.models import AuditEntry
from incidents.handling import SnoozeError, snooze
from incidents.models import FollowUp, Incident, Message, Notification
from incidents.notifications.addressing import address
from incidents.notifications.pursuing import pursue
from tests.factories import NOW, IncidentFactory, MonitorFactory, NotificationFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ANNA = Actor("anna", Source.ADMIN, NOW, 7)


@pytest.fixture(autouse=True)
def people(settings):
    settings.ALERT_EMAIL_TO = ["ops@example.com"]


def opens():
    return NotificationFactory().incident


def monitor_of(incident):
    return incident.monitor_environment.monitor


def snoozes(incident, until, at=NOW):
    return snooze([monitor_of(incident).id], until, now=at, by=ANNA)


def resolves(incident):
    Incident.objects.filter(id=incident.id).update(resolved_at=NOW, resolving_checkin=incident.starting_checkin)
    NotificationFactory(incident=incident, transition="resolved")


def told(at=NOW):
    address(["ops@example.com"], now=at)
    kept = Message.objects.exclude(status__in=["folded", "superseded"])
    return list(kept.order_by("id").values_list("kind", flat=True))


def test_an_incident_that_opens_meanwhile_is_told_at_the_end_if_it_is_still_open():
    incident = opens()
    snoozes(incident, NOW + HOUR)
    assert told() == []
    assert Notification.objects.get().held_by.startswith("snoozed until 2026-01-05 11:00 UTC")
    assert told(NOW + HOUR - timedelta(seconds=1)) == []
    assert told(NOW + HOUR) == ["opened"]


def test_one_that_is_over_by_then_is_not_told():
    incident = opens()
    snoozes(incident, NOW + HOUR)
    told()
    resolves(incident)
    assert told() == []
    assert told(NOW + HOUR) == []
    assert Incident.objects.filter(resolved_at__isnull=False).count() == 1, "it is recorded"


def test_one_that_came_and_went_before_anybody_looked_is_not_told_either():
    incident = opens()
    snoozes(incident, NOW + HOUR)
    resolves(incident)
    assert told() == []


def test_the_end_of_an_incident_that_was_told_is_told():
    incident = opens()
    assert told() == ["opened"]
    Message.objects.update(status="sent", finished_at=NOW)
    snoozes(incident, NOW + HOUR)
    resolves(incident)
    assert told() == ["opened", "resolved"]


def test_a_late_clock_holds_nothing_longer():
    incident = opens()
    snoozes(incident, NOW + HOUR)
    assert told(NOW + 5 * HOUR) == ["opened"], "the snooze was over when the incident was found"


def test_ending_it_early_tells_at_once():
    incident = opens()
    snoozes(incident, NOW + DAY)
    told()
    assert snoozes(incident, None, at=NOW + HOUR) == 1
    assert told(NOW + HOUR) == ["opened"]


def test_a_longer_one_holds_longer():
    incident = opens()
    snoozes(incident, NOW + HOUR)
    told()
    snoozes(incident, NOW + 2 * HOUR)
    assert told(NOW + HOUR) == []
    assert told(NOW + 2 * HOUR) == ["opened"]


def test_reminders_are_put_off_until_the_end():
    incident = opens()
    told()
    snoozes(incident, NOW + 6 * HOUR)
    pursue(now=NOW + 4 * HOUR)
    assert Message.objects.filter(kind="reminder").count() == 0
    pursue(now=NOW + 6 * HOUR)
    assert Message.objects.filter(kind="reminder").count() == 1


def test_reminders_that_were_put_off_come_when_it_is_ended_early():
    incident = opens()
    told()
    snoozes(incident, NOW + DAY)
    pursue(now=NOW + 4 * HOUR)
    assert FollowUp.objects.get().due_at == NOW + DAY
    snoozes(incident, None, at=NOW + 5 * HOUR)
    pursue(now=NOW + 5 * HOUR)
    assert Message.objects.filter(kind="reminder").count() == 1


def test_other_monitors_are_not_concerned():
    incident, other = opens(), opens()
    snoozes(incident, NOW + HOUR)
    assert told() == ["opened"]
    assert Message.objects.get().incident == other


def test_it_is_recorded_who_snoozed_what():
    monitor = MonitorFactory()
    snooze([monitor.id], NOW + HOUR, now=NOW, by=ANNA)
    snooze([monitor.id], NOW + HOUR, now=NOW, by=ANNA)
    snooze([monitor.id], None, now=NOW, by=ANNA)
    snooze([monitor.id], None, now=NOW, by=ANNA)
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == ["snoozed", "unsnoozed"]


@pytest.mark.parametrize("until", [NOW, NOW - HOUR, NOW + timedelta(days=30, seconds=1)])
def test_it_ends_within_thirty_days_and_not_before_now(until):
    with pytest.raises(SnoozeError, match="within the next 30 days"):
        snooze([IncidentFactory().monitor_environment.monitor_id], until, now=NOW)
