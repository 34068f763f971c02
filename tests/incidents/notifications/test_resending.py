"""A person sends a message again: with all its attempts, and never in a wrong order."""

from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from audit.models import AuditEntry
from incidents.models import Message
from incidents.notifications.resending import send_now
from tests.factories import NOW, IncidentFactory, MessageFactory, StormFactory

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(days=2)
ADA = Actor("ada", Source.ADMIN, LATER)


def statuses():
    return list(Message.objects.order_by("id").values_list("status", flat=True))


def test_a_message_that_was_given_up_is_due_with_all_its_attempts():
    failed = MessageFactory(status="failed", attempt_count=31, last_error="503")
    assert send_now([failed.id], by=ADA) == 1
    failed.refresh_from_db()
    assert (failed.status, failed.due_at, failed.attempt_count) == ("waiting", LATER, 0)
    assert (failed.created_at, failed.finished_at, failed.fallback_at) == (LATER, None, None)
    [entry] = AuditEntry.objects.all()
    assert (entry.action, entry.actor_name) == ("sent again", "ada")
    assert entry.project_id == failed.incident.monitor_environment.monitor.project_id


def test_one_that_waits_is_sent_now():
    waiting = MessageFactory(due_at=LATER + timedelta(hours=1))
    assert send_now([waiting.id], by=ADA) == 1
    waiting.refresh_from_db()
    assert waiting.due_at == LATER


def test_the_end_follows_its_beginning():
    incident = IncidentFactory()
    opened = MessageFactory(incident=incident, status="failed")
    MessageFactory(incident=incident, kind="resolved", status="failed")
    MessageFactory(incident=incident, kind="resolved", status="failed", recipient="other@example.com")
    assert send_now([opened.id], by=ADA) == 2
    assert statuses() == ["waiting", "waiting", "failed"]


def test_a_beginning_is_not_sent_after_its_end():
    incident = IncidentFactory()
    opened = MessageFactory(incident=incident, status="failed")
    MessageFactory(incident=incident, kind="resolved", status="sent")
    assert send_now([opened.id], by=ADA) == 0
    assert statuses() == ["failed", "sent"]


def test_a_storm_is_not_told_again_after_its_end():
    storm = StormFactory()
    told = {"storm": storm, "incident": None, "recipient": storm.recipient}
    digest = MessageFactory(kind="digest", status="failed", **told)
    MessageFactory(kind="storm_over", status="sent", **told)
    assert send_now([digest.id], by=ADA) == 0
    Message.objects.filter(kind="storm_over").update(status="failed")
    assert send_now([digest.id], by=ADA) == 2
    assert set(AuditEntry.objects.values_list("project_id", flat=True)) == {storm.project_id}


@pytest.mark.parametrize("columns", [{"status": "sent"}, {"claimed_until": LATER + timedelta(seconds=30)}])
def test_what_was_sent_or_is_on_the_way_is_left(columns):
    assert send_now([MessageFactory(**columns).id], by=ADA) == 0
