"""What reminders, steps of escalations and acknowledgements say, and how they ask for an acknowledgement."""

from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from incidents.handling import acknowledge
from incidents.models import Message
from incidents.notifications.alert import Event
from incidents.notifications.alerts import write_alerts
from incidents.notifications.channels.mail_text import content, subject, text
from tests.factories import NOW, ChannelFactory, MessageFactory, OccurrenceFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def public_url(settings):
    settings.PUBLIC_URL = "https://watch.example.com"


@pytest.fixture
def incident():
    return OccurrenceFactory(incident__monitor_environment__monitor__slug="backup").incident


def alert(incident, kind, **columns):
    """Return the alert of a message to a chat, written four hours after the opening."""
    channel = ChannelFactory()
    stored = MessageFactory(
        incident=incident,
        kind=kind,
        channel=channel,
        recipient=str(channel.guid),
        created_at=NOW + 4 * HOUR,
        **columns,
    )
    related = "incident__monitor_environment__"
    message = Message.objects.select_related("channel", f"{related}monitor__project", f"{related}environment").get(
        pk=stored.pk
    )
    alerts, failed = write_alerts([message])
    assert failed == []
    return alerts[message.pk]


def test_a_reminder_says_how_long_and_which_one_it_is(incident):
    found = alert(incident, "reminder", number=2)
    assert (found.event, found.reminder, found.at) == (Event.REMINDER, 2, NOW + 4 * HOUR)
    assert found.title == "backup (production) is still failing"
    assert found.reason.startswith(
        "It has been failing for 4 hours, and nobody has acknowledged it. This is reminder 2. Reported an error at"
    )


def test_a_step_of_an_escalation_says_that_nobody_looks_after_it(incident):
    found = alert(incident, "escalated", number=1)
    assert (found.event, found.reminder) == (Event.ESCALATED, 0)
    assert found.title == "backup (production) is failing, not acknowledged"
    assert found.reason.startswith("It has been failing for 4 hours, and nobody has acknowledged it. Reported")


def test_an_acknowledgement_says_who_looks_after_it(incident):
    acknowledge(incident.guid, by=Actor("anna", Source.LINK, NOW), via="a link", now=NOW + HOUR)
    found = alert(incident, "acknowledged", number=1)
    assert found.event is Event.ACKNOWLEDGED
    assert found.title == "backup (production) is acknowledged"
    assert found.reason.startswith("anna acknowledged it at 2026-01-05 11:00 UTC. ")
    [facts] = found.incidents
    assert (facts.acknowledged_by, facts.acknowledge_url, facts.is_open) == ("anna", "", True)


@pytest.mark.parametrize("kind", ["opened", "reminder", "escalated"])
def test_what_asks_for_an_acknowledgement_has_a_link(incident, kind):
    [facts] = alert(incident, kind).incidents
    assert facts.acknowledge_url.startswith("https://watch.example.com/a/")


def test_the_mail_of_a_reminder_is_a_reply_with_the_link(incident):
    found = alert(incident, "reminder", number=1)
    assert subject(found) == "Re: [Watchclock] backup (production) is failing"
    assert f"Acknowledge: {found.incidents[0].acknowledge_url}" in text(content(found))


def test_the_names_of_who_acknowledged_cannot_end_a_line(incident):
    acknowledge(incident.guid, by=Actor("an\r\nna\u202e", Source.LINK, NOW), via="a link", now=NOW)
    assert alert(incident, "acknowledged").reason.startswith("an na acknowledged it")
