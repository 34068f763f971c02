"""A person acknowledges an incident: it is recorded once, and pagers and chats are told."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.entries import Actor, Source
from audit.models import AuditEntry
from health.queries import read_rows
from incidents.handling import Acknowledgement, acknowledge, withdraw_acknowledgement
from incidents.models import Duty, FollowUp, Incident, Message, Notification
from incidents.notifications.acknowledged import address_acknowledged
from incidents.notifications.addressing import address
from incidents.notifications.pursuing import pursue
from tests.factories import NOW, ChannelFactory, IncidentFactory, NotificationFactory, RouteFactory

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ANNA = Actor("anna", Source.ADMIN, NOW, 7)


def project_of(incident):
    return incident.monitor_environment.monitor.project


def opened(**route):
    """An incident of which a chat was told."""
    incident = NotificationFactory().incident
    chat = ChannelFactory(project=project_of(incident), name="chat")
    RouteFactory(project=project_of(incident), to=[chat], **route)
    address([], now=NOW)
    return incident, chat


def ack(incident, by=ANNA, at=NOW, **columns):
    return acknowledge(incident.guid, by=by, via="the admin", now=at, **columns)


def told(kind="acknowledged", at=NOW):
    while address_acknowledged(now=at):
        pass
    return list(Message.objects.filter(kind=kind).order_by("id").values_list("recipient", flat=True))


def test_it_says_who_when_and_by_which_way_on_the_incident_and_in_the_audit_log():
    incident = IncidentFactory()
    assert ack(incident) is Acknowledgement.DONE
    incident.refresh_from_db()
    assert (incident.acknowledged_by, incident.acknowledged_at, incident.acknowledged_via) == (
        "anna",
        NOW,
        "the admin",
    )
    entry = AuditEntry.objects.get()
    assert (entry.kind, entry.object_id, entry.action, entry.actor_name, entry.project_id) == (
        "incident",
        incident.id,
        "acknowledged",
        "anna",
        project_of(incident).id,
    )


def test_only_the_first_one_counts():
    incident = IncidentFactory()
    ack(incident)
    later = Actor("bert", Source.LINK, NOW + MINUTE)
    assert ack(incident, by=later, at=NOW + MINUTE) is Acknowledgement.ALREADY
    incident.refresh_from_db()
    assert (incident.acknowledged_by, incident.acknowledged_at) == ("anna", NOW)
    assert AuditEntry.objects.count() == 1


def test_an_incident_that_is_over_is_not_acknowledged():
    incident = IncidentFactory(resolved=True)
    assert ack(incident) is Acknowledgement.OVER
    incident.refresh_from_db()
    assert incident.acknowledged_at is None


def test_an_unknown_incident_is_none():
    assert acknowledge(uuid.uuid4(), by=ANNA, via="x", now=NOW) is Acknowledgement.UNKNOWN


def test_channels_that_were_told_of_the_opening_are_told_and_mail_is_not():
    incident, chat = opened()
    mail = ChannelFactory(project=project_of(incident), kind="email", values={"to": "a@example.com"})
    stranger = ChannelFactory(project=project_of(incident))
    del stranger
    other = NotificationFactory(incident=IncidentFactory(monitor_environment__monitor__project=project_of(incident)))
    RouteFactory(project=project_of(incident), to=[mail], position=0, continues=True)
    address([], now=NOW)
    ack(incident)
    assert told() == [str(chat.guid)]
    ack(other.incident)
    assert sorted(told()) == sorted([str(chat.guid)] * 2), "the second one goes to chat and mail; only chat is told"


def test_the_channel_where_it_was_said_is_not_told_again():
    incident, chat = opened()
    ack(incident, channel_id=chat.id)
    assert told() == []


def test_who_is_told_of_the_opening_later_is_told_of_both_in_order():
    incident = NotificationFactory().incident
    chat = ChannelFactory(project=project_of(incident))
    RouteFactory(project=project_of(incident), to=[chat])
    ack(incident)
    assert told() == [], "nobody knows of the incident yet"
    address([], now=NOW)
    assert told() == [str(chat.guid)]
    assert list(Message.objects.order_by("id").values_list("kind", flat=True)) == ["opened", "acknowledged"]


def test_while_the_opening_is_held_so_is_the_acknowledgement():
    incident = NotificationFactory(held_until=NOW + HOUR, held_by="snoozed until then").incident
    chat = ChannelFactory(project=project_of(incident))
    RouteFactory(project=project_of(incident), to=[chat])
    ack(incident)
    assert told() == []
    held = Notification.objects.get(transition="acknowledged")
    assert (held.held_until, held.held_by) == (NOW + HOUR, "snoozed until then")
    assert read_rows(NOW + 30 * MINUTE).unsent_count == 0, "it is not late"
    address([], now=NOW + HOUR)
    assert told(at=NOW + HOUR) == [str(chat.guid)]


def test_where_nobody_is_told_of_the_opening_nobody_is_told_of_the_acknowledgement():
    incident = NotificationFactory(nobody_since=NOW).incident
    ack(incident)
    assert told() == []
    assert Notification.objects.get(transition="acknowledged").addressed_at == NOW


def test_after_its_end_nobody_is_told_that_it_was_acknowledged():
    incident, _chat = opened()
    ack(incident)
    Incident.objects.filter(id=incident.id).update(resolved_at=NOW, resolving_checkin=incident.starting_checkin)
    assert told() == []


def test_reminders_and_steps_end_with_it():
    incident, _ = opened(steps=[])
    FollowUp.objects.create(incident=incident, kind="escalation", plan={"steps": [], "loops": 0}, due_at=NOW)
    ack(incident)
    assert not FollowUp.objects.filter(due_at__isnull=False).exists()


def test_a_reminder_that_is_not_on_the_way_yet_is_not_sent_any_more():
    incident, chat = opened()
    pursue(now=NOW + 4 * HOUR)
    assert told("reminder") == [str(chat.guid)]
    ack(incident, at=NOW + 4 * HOUR)
    assert Message.objects.get(kind="reminder").status == "superseded"


def test_without_an_escalation_it_holds_until_the_end():
    incident, _ = opened()
    ack(incident)
    incident.refresh_from_db()
    assert incident.acknowledged_until is None


def test_with_an_escalation_it_runs_out_and_people_are_told_again(settings):
    settings.ACKNOWLEDGEMENT_HOURS = 2
    incident, chat = opened()
    pager = ChannelFactory(project=project_of(incident), kind="ntfy")
    plan = {"steps": [{"minutes": 10, "channels": [pager.id]}], "loops": 0}
    FollowUp.objects.create(incident=incident, kind="escalation", plan=plan, done=1)
    ack(incident)
    pursue(now=NOW + 2 * HOUR - MINUTE)
    incident.refresh_from_db()
    assert incident.acknowledged_by == "anna"

    pursue(now=NOW + 2 * HOUR)
    incident.refresh_from_db()
    assert (incident.acknowledged_at, incident.acknowledged_by) == (None, "")
    entry = AuditEntry.objects.get(action="unacknowledged")
    assert (entry.actor_name, entry.changes) == ("Watchclock", {"acknowledged_by": ["anna", None]})
    assert told("reminder") == [str(chat.guid)]
    assert told("escalated") == []
    pursue(now=NOW + 2 * HOUR + 10 * MINUTE)
    assert told("escalated") == [str(pager.guid)]


def test_it_can_be_taken_back_which_begins_all_anew():
    incident, _ = opened()
    ack(incident)
    assert withdraw_acknowledgement(incident.guid, by=ANNA, now=NOW + HOUR)
    incident.refresh_from_db()
    assert incident.acknowledged_at is None
    assert FollowUp.objects.get().due_at == NOW + 5 * HOUR
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == [
        "acknowledged",
        "unacknowledged",
    ]
    assert not withdraw_acknowledgement(incident.guid, by=ANNA, now=NOW + HOUR)


def test_a_second_acknowledgement_is_told_with_a_number_of_its_own():
    incident, chat = opened()
    ack(incident)
    told()
    withdraw_acknowledgement(incident.guid, by=ANNA, now=NOW)
    ack(incident, at=NOW + MINUTE)
    assert told() == [str(chat.guid)] * 2
    assert list(Duty.objects.filter(message__kind="acknowledged").order_by("id").values_list("number", flat=True)) == [
        1,
        2,
    ]


def test_an_incident_is_updated_once_so_that_its_environment_is_not_locked_after_it():
    incident = IncidentFactory()
    FollowUp.objects.create(incident=incident, kind="escalation", route="r", plan={}, done=0, due_at=NOW)
    with CaptureQueriesContext(connection) as caught:
        ack(incident)
    updates = [query["sql"] for query in caught if query["sql"].startswith('UPDATE "incidents_incident"')]
    assert len(updates) == 1
    incident.refresh_from_db()
    assert incident.acknowledged_until == NOW + 4 * HOUR
