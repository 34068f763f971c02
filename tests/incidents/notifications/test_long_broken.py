"""Monitors that have failed for weeks: told once more, muted two weeks later, and unmuted when they recover."""

from datetime import timedelta

import pytest
from django.db.models import F

from audit.models import AuditEntry
from incidents.models import LongBroken, Message, Notification
from incidents.notifications import alerts
from incidents.notifications.addressing import address
from incidents.notifications.long_broken import look_after
from monitors.hot_rows import lock_environments
from monitors.models import MonitorEnvironment
from monitors.services import set_environments_muted, unmute_recovered
from tests.factories import NOW, CheckInFactory, IncidentFactory, NotificationFactory

pytestmark = pytest.mark.django_db
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
TOLD_AT, MUTED_AT = NOW + 14 * DAY, NOW + 28 * DAY


def broken(failures=4, **columns):
    """An incident of which people were told at its opening, with its newest check-ins."""
    incident = IncidentFactory(**columns)
    NotificationFactory(incident=incident)
    address(["ops@example.com"], now=NOW)
    Message.objects.update(status="sent", finished_at=NOW)
    for number in range(1, failures):
        at = NOW + number * DAY
        CheckInFactory(monitor_environment=incident.monitor_environment, status="missed", date_added=at)
    return incident


def told():
    """What people were told after the opening."""
    messages = list(Message.objects.exclude(kind="opened").order_by("id"))
    written, failed = alerts.write_alerts(messages)
    assert failed == []
    Message.objects.update(status="sent", finished_at=NOW)
    return [written[message.id] for message in messages]


@pytest.mark.parametrize(("now", "count"), [(TOLD_AT - SECOND, 0), (TOLD_AT, 1), (TOLD_AT + SECOND, 1)])
def test_people_are_told_after_fourteen_days(now, count):
    broken()
    assert look_after(now=now) == count
    assert [one.title.endswith("is still failing") for one in told()] == [True] * count


def test_the_message_says_what_will_happen():
    broken()
    look_after(now=TOLD_AT)
    [alert] = told()
    assert "If it fails for another 14 days, it is muted." in alert.reason


def test_looking_twice_changes_nothing():
    broken()
    look_after(now=TOLD_AT)
    assert look_after(now=TOLD_AT + DAY) == 0
    assert len(told()) == 1


@pytest.mark.parametrize(("now", "is_muted"), [(MUTED_AT - SECOND, False), (MUTED_AT, True)])
def test_it_is_muted_fourteen_days_later_and_people_are_told_that(now, is_muted):
    incident = broken()
    look_after(now=TOLD_AT)
    told()
    look_after(now=now)
    environment = MonitorEnvironment.objects.get(pk=incident.monitor_environment_id)
    assert environment.is_muted is is_muted
    if is_muted:
        alert = told()[-1]
        assert alert.title.endswith("is still failing, and muted now")
        assert "the next notification comes when it recovers" in alert.reason
        assert AuditEntry.objects.get().action == "muted"


def recover(incident):
    """Resolve the incident as the ok of its job does."""
    environments = lock_environments([incident.monitor_environment_id])
    Notification.objects.create(incident=incident, transition="resolved", channel="email", created_at=MUTED_AT)
    type(incident).objects.update(resolved_at=MUTED_AT, resolving_checkin_id=F("starting_checkin_id"))
    unmute_recovered(environments.values(), now=MUTED_AT)
    return environments[incident.monitor_environment_id]


def muted():
    incident = broken()
    look_after(now=TOLD_AT)
    told()
    look_after(now=MUTED_AT)
    told()
    return incident


def test_its_recovery_unmutes_it_and_is_told():
    incident = muted()
    assert not recover(incident).is_muted, "the next failure of the same batch is told"
    assert not MonitorEnvironment.objects.get().is_muted
    address(["ops@example.com"], now=MUTED_AT)
    assert Message.objects.latest("id").kind == "resolved"
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == ["muted", "unmuted"]


def test_one_that_a_person_muted_meanwhile_stays_muted():
    incident = muted()
    set_environments_muted([incident.monitor_environment_id], True)
    assert recover(incident).is_muted
    assert MonitorEnvironment.objects.get().is_muted


def test_one_that_a_person_unmuted_is_not_muted_again():
    incident = muted()
    set_environments_muted([incident.monitor_environment_id], False)
    assert look_after(now=MUTED_AT + 30 * DAY) == 0
    assert not MonitorEnvironment.objects.get().is_muted


def ok_in_between(incident):
    CheckInFactory(monitor_environment=incident.monitor_environment, status="ok", date_added=NOW + 13 * DAY)


def mute(incident):
    MonitorEnvironment.objects.update(is_muted=True)


def disable(incident):
    monitor = incident.monitor_environment.monitor
    monitor.status = "disabled"
    monitor.save()


def archive(incident):
    incident.issue.status = "archived"
    incident.issue.save()


def snooze(incident):
    monitor = incident.monitor_environment.monitor
    monitor.snoozed_until = TOLD_AT + SECOND
    monitor.save()


def resolve(incident):
    type(incident).objects.update(resolved_at=NOW + DAY, resolving_checkin_id=F("starting_checkin_id"))


@pytest.mark.parametrize("why_not", [ok_in_between, mute, disable, archive, snooze, resolve])
def test_it_is_not_for_one_that(why_not):
    incident = broken()
    why_not(incident)
    assert look_after(now=TOLD_AT) == 0


@pytest.mark.parametrize(("failures", "count"), [(3, 0), (4, 1)])
def test_four_check_ins_must_have_failed(failures, count):
    broken(failures=failures)
    assert look_after(now=TOLD_AT) == count


def test_it_is_recorded_also_if_nobody_can_be_told():
    IncidentFactory()
    incident = IncidentFactory.create()
    for number in range(1, 4):
        CheckInFactory(monitor_environment=incident.monitor_environment, status="error", date_added=NOW + number * DAY)
    assert look_after(now=TOLD_AT) == 1
    assert LongBroken.objects.get().incident == incident
    assert not Message.objects.exists()
