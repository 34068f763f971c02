"""People are told of a clock incident once: of a short one what it did, of a long one while it goes on."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection

from checkins.models import LostSpan
from clocktasks.clock_incidents import NEWS_MAX, ONGOING_AFTER, notify
from clocktasks.models import ClockIncident
from clocktasks.tasks import tell_clock_incidents
from incidents.models import Message
from incidents.notifications.routing import Recipient
from project.celery import app as celery_app
from tests.factories import NOW, ClockIncidentFactory, TickFactory

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ADDRESSES = ["ops@example.com", "night@example.com"]
PEOPLE = [Recipient(address, None, "ALERT_EMAIL_TO") for address in ADDRESSES]


def goes_on(**columns):
    """A clock incident that is in the ledger since a second after its first minute."""
    incident = ClockIncidentFactory(started_at=NOW, ended_at=None, summarised_at=None, **columns)
    TickFactory(at=NOW + MINUTE, dispatched_at=NOW + MINUTE + SECOND)
    return incident


def written():
    """What is in the outbox for the first of the people."""
    return list(Message.objects.filter(recipient=ADDRESSES[0], kind="clock", status="waiting").order_by("id"))


def told(incident):
    incident.refresh_from_db()
    return incident.told_at


@pytest.fixture
def public_url(settings):
    settings.PUBLIC_URL = "https://clock.example.com"


def test_an_outage_that_is_over_is_told_with_what_it_made_unknown(public_url):
    incident = ClockIncidentFactory(
        started_at=NOW, ended_at=NOW + 13 * MINUTE, unknown_count=1204, environment_count=37
    )

    assert notify(recipients=PEOPLE, now=NOW + 14 * MINUTE) == 1

    [message] = written()
    assert [other.recipient for other in Message.objects.order_by("id")] == ADDRESSES
    assert message.subject == "[Watchclock] No check-ins could be received for 13 minutes"
    assert message.body == (
        "From 2026-01-05 10:00 UTC to 2026-01-05 10:13 UTC (13 minutes) no check-ins could be received.\n\n"
        "What fell due meanwhile is unknown: 1,204 check-ins of 37 monitor environments. Whether these jobs ran is not "
        "known; none of it counts as a failure.\n\n"
        "See Clock incidents: https://clock.example.com/admin/clocktasks/clockincident/\n"
    )
    assert told(incident) == NOW + 14 * MINUTE


def test_d43_of_minutes_whose_check_ins_a_spool_has_lost_that_is_told():
    """Also if there was no listener in others of them."""
    ClockIncidentFactory(started_at=NOW, ended_at=NOW + 13 * MINUTE, unknown_count=5, environment_count=2)
    LostSpan.objects.create(node_id=uuid.uuid4(), since=NOW + MINUTE, until=NOW + 2 * MINUTE)

    notify(recipients=PEOPLE, now=NOW + 14 * MINUTE)

    [message] = written()
    assert message.subject == "[Watchclock] Check-ins were lost, or could not be received for 13 minutes"
    assert "A spool of a web process was damaged, and check-ins that it had acknowledged are gone." in message.body


def test_d43_a_loss_at_another_time_is_not_told():
    ClockIncidentFactory(started_at=NOW, ended_at=NOW + 13 * MINUTE, unknown_count=5, environment_count=2)
    LostSpan.objects.create(node_id=uuid.uuid4(), since=NOW - 2 * MINUTE, until=NOW - MINUTE)

    notify(recipients=PEOPLE, now=NOW + 14 * MINUTE)

    [message] = written()
    assert message.subject == "[Watchclock] No check-ins could be received for 13 minutes"


def test_of_a_drop_that_is_over_both_explanations_are_told():
    ClockIncidentFactory(started_at=NOW, cause="volume", unknown_count=1, environment_count=1)

    notify(recipients=PEOPLE, now=NOW + 10 * MINUTE)

    [message] = written()
    assert message.subject == "[Watchclock] Far fewer check-ins than usual were received for 5 minutes"
    assert "1 check-in of 1 monitor environment." in message.body
    assert "Either check-ins were stopped before they reached Watchclock" in message.body
    assert "many jobs had really stopped at once" in message.body
    assert message.body.endswith("See Clock incidents in the admin.\n")


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_an_incident_that_goes_on_is_told_when_it_is_known_for_five_minutes(over):
    incident = goes_on()

    sent = notify(recipients=PEOPLE, now=NOW + MINUTE + SECOND + ONGOING_AFTER + over * SECOND)

    assert sent == len(written()) == int(over >= 0)
    assert (told(incident) is None) is (over < 0)


def test_a_drop_that_goes_on_says_plainly_what_it_may_be_and_where_to_look(public_url):
    goes_on(cause="volume")

    notify(recipients=PEOPLE, now=NOW + 8 * MINUTE)

    [message] = written()
    assert message.subject == "[Watchclock] Far fewer check-ins than usual since 2026-01-05 10:00 UTC"
    assert message.body == (
        "Since 2026-01-05 10:00 UTC (8 minutes) far fewer check-ins than usual are received.\n\n"
        "Either check-ins are stopped before they reach Watchclock (a network, a proxy, a name server), or that many "
        "jobs have really stopped at once. Watchclock cannot distinguish the two.\n\n"
        "Until this ends, nothing that falls due is reported as missed or timed out: it becomes unknown.\n\n"
        "There will be no second mail when it ends. See the clock's page: "
        "https://clock.example.com/admin/clock/\n"
    )


def test_silence_that_is_ongoing_says_that_nothing_can_be_received():
    goes_on()

    notify(recipients=PEOPLE, now=NOW + 8 * MINUTE)

    [message] = written()
    assert message.subject == "[Watchclock] No check-ins can be received since 2026-01-05 10:00 UTC"
    assert "it becomes unknown" in message.body
    assert "See the clock's page in the admin." in message.body


def test_no_second_mail_follows_when_it_is_over():
    incident = goes_on()
    notify(recipients=PEOPLE, now=NOW + 8 * MINUTE)
    ClockIncident.objects.update(
        ended_at=NOW + 9 * MINUTE, summarised_at=NOW + 10 * MINUTE, unknown_count=3, environment_count=2
    )

    assert notify(recipients=PEOPLE, now=NOW + 10 * MINUTE) == 0
    assert len(written()) == 1
    assert told(incident) == NOW + 8 * MINUTE


def test_a_clock_that_comes_back_from_an_outage_waits_for_the_summary():
    """It was away for an hour: the ledger has known of that for seconds."""
    ClockIncidentFactory(started_at=NOW, ended_at=None, summarised_at=None)
    TickFactory(at=NOW + MINUTE, dispatched_at=NOW + 60 * MINUTE)

    assert notify(recipients=PEOPLE, now=NOW + 60 * MINUTE + 20 * SECOND) == 0


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"environment_count": 0, "unknown_count": 0}, id="it touched nobody"),
        pytest.param({"summarised_at": None}, id="it is not summarised yet"),
        pytest.param({"told_at": NOW}, id="people know"),
        pytest.param({"started_at": NOW - NEWS_MAX}, id="it is no news"),
    ],
)
def test_what_is_not_told(columns):
    ClockIncidentFactory(**{"started_at": NOW} | columns)

    assert notify(recipients=PEOPLE, now=NOW + 10 * MINUTE) == 0
    assert written() == []


def test_what_is_told_is_in_the_outbox_once_whatever_is_repeated():
    incident = ClockIncidentFactory(started_at=NOW)
    notify(recipients=PEOPLE, now=NOW + 10 * MINUTE)
    ClockIncident.objects.update(told_at=None)

    notify(recipients=PEOPLE, now=NOW + 11 * MINUTE)

    assert len(written()) == 1
    assert told(incident) == NOW + 11 * MINUTE


def test_each_incident_and_recipient_has_a_key_of_its_own():
    ClockIncidentFactory(started_at=NOW)
    ClockIncidentFactory(started_at=NOW + 20 * MINUTE)

    assert notify(recipients=PEOPLE, now=NOW + 30 * MINUTE) == 2
    assert len(set(Message.objects.values_list("idempotency_key", flat=True))) == 4


@pytest.mark.django_db(transaction=True)
def test_an_incident_that_another_worker_tells_of_is_passed_over():
    incident = ClockIncidentFactory(started_at=NOW)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM clocktasks_clockincident WHERE id = %s FOR UPDATE", [incident.id])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")  # If it were waited for, the test would never end.
        assert notify(recipients=PEOPLE, now=NOW + 10 * MINUTE) == 0
        assert written() == []
    finally:
        other.rollback()
        other.close()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert notify(recipients=PEOPLE, now=NOW + 10 * MINUTE) == 1


def test_without_anybody_to_tell_nothing_is_recorded():
    incident = ClockIncidentFactory(started_at=NOW)

    assert notify(recipients=[], now=NOW + 10 * MINUTE) == 0
    assert told(incident) is None


def test_beat_asks_for_it_every_twenty_seconds(settings):
    entry = celery_app.conf.beat_schedule["tell-clock-incidents"]

    assert entry["task"] == tell_clock_incidents.name
    assert entry["schedule"].run_every == timedelta(seconds=20)
    assert entry["options"]["queue"] == "housekeeping"
    settings.ALERT_EMAIL_TO = PEOPLE
    assert tell_clock_incidents() == 0
