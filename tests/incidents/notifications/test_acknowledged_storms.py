"""A pager's alert of a storm is acknowledged when somebody looks after each incident that is open, and not before."""

import ipaddress
from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from incidents.handling import acknowledge, acknowledge_many, acknowledge_storm, withdraw_acknowledgement
from incidents.history import timeline_of_incident
from incidents.models import Incident, Message, Storm
from incidents.notifications import claims, delivery
from incidents.notifications.acknowledged import address_acknowledged
from incidents.notifications.alerts import write_alerts
from incidents.notifications.configuring import save_channel
from tests.factories import NOW
from tests.incidents.notifications.channels.receiver import reply, running_receiver
from tests.incidents.notifications.test_storms import World as Storms

pytestmark = pytest.mark.django_db
ANNA = Actor("anna", Source.LINK, NOW)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class World(Storms):
    """A pager with the alert of a storm, and people who acknowledge its incidents."""

    def storm(self, count=2):
        incidents = self.opens(count)
        self.address()
        self.send()
        return incidents

    def acknowledges(self, incident, at=NOW, **options):
        acknowledge(incident.guid, by=ANNA, via="a link", now=at, **options)
        address_acknowledged(now=at)

    def ends(self, *incidents):
        for incident in incidents:
            Incident.objects.filter(id=incident.id).update(
                resolved_at=NOW, resolving_checkin_id=incident.starting_checkin_id
            )
        super().ends(*incidents)

    def acknowledgements(self, **filters):
        return Message.objects.filter(kind="acknowledged", **filters).count()


@pytest.fixture
def world():
    return World(kind="pagerduty")


def test_the_pager_is_told_once_between_the_beginning_and_the_end(settings):
    settings.NOTIFY_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    world = World(kind="pagerduty")
    incidents = world.opens(3)

    def deliver(minutes):
        at = NOW + minutes * MINUTE
        delivery.deliver(utcnow=lambda: at)

    with running_receiver(lambda _: reply(202, {"status": "success"})) as pager:
        save_channel(world.channel, {"routing_key": "a" * 32, "url": f"{pager.url}/v2/enqueue"}, now=NOW)
        deliver(0)
        acknowledge_storm(Storm.objects.get(), by=ANNA, via="a link", now=NOW + MINUTE)
        deliver(1)
        deliver(2)
        world.ends(*incidents)
        deliver(3)
    events = [received.json for received in pager.received]
    assert [one["event_action"] for one in events] == ["trigger", "acknowledge", "resolve"]
    assert {one["dedup_key"] for one in events} == {str(Storm.objects.get().guid)}


def test_not_before_the_last_of_those_that_are_open(world):
    first, second, third = world.storm(3)
    world.acknowledges(first)
    world.ends(second)
    world.address()
    assert world.acknowledgements() == 0
    world.acknowledges(third)
    assert world.acknowledgements() == 1


def test_also_when_the_last_that_nobody_looks_after_has_recovered(world):
    first, second = world.storm()
    world.acknowledges(first)
    world.ends(second)
    world.address()
    assert world.acknowledgements() == 1
    world.ends(first)
    world.address()
    assert world.acknowledgements() == 1


def test_many_at_once_are_one_message_however_they_are_looked_at(world, monkeypatch):
    monkeypatch.setattr("incidents.notifications.acknowledged.ADDRESSED_MAX", 1)
    incidents = world.storm(3)
    acknowledge_many([one.id for one in incidents], by=ANNA, via="a link", now=NOW)
    while address_acknowledged(now=NOW + MINUTE):
        pass
    assert world.acknowledgements() == 1


def test_it_says_who(world):
    for incident in world.storm():
        world.acknowledges(incident)
    [claimed] = claims.claim_for_lanes(now=NOW)
    [alert] = write_alerts([claimed])[0].values()
    assert (alert.event, alert.group, alert.incidents) == ("acknowledged", Storm.objects.get().guid, ())
    assert alert.title == f"The failing jobs of {world.project.name} are acknowledged"
    assert alert.reason == "anna acknowledged the last of them."
    claims.release([claimed])
    assert write_alerts(claims.claim_for_lanes(now=NOW))[0] == {claimed.id: alert}


def test_an_acknowledgement_that_is_taken_back_and_given_again_is_told_again(world):
    first, second = world.storm()
    world.acknowledges(first)
    world.acknowledges(second)
    withdraw_acknowledgement(second.guid, by=ANNA, now=NOW + MINUTE)
    assert world.acknowledgements() == 1
    world.acknowledges(second, NOW + 2 * MINUTE)
    assert world.acknowledgements() == 2


def test_a_pager_in_which_all_were_acknowledged_knows_it(world):
    for incident in world.storm():
        world.acknowledges(incident, channel_id=world.channel.id)
    assert world.acknowledgements() == 0


@pytest.mark.parametrize("kind", ["slack_bot", "goalert", "email"])
def test_what_is_no_pager_or_knows_no_acknowledgement_is_told_nothing(kind):
    world = World(kind=kind, values={"to": "ops@example.com"})
    for incident in world.storm():
        world.acknowledges(incident)
    assert world.acknowledgements() == 0


def test_a_member_that_comes_late_withdraws_it(world):
    for incident in world.opens(2):
        world.address()
        world.acknowledges(incident)
    assert world.acknowledgements(status="waiting") == 1
    [late] = world.opens(1)
    world.address()
    assert world.acknowledgements(status="waiting") == 0
    world.acknowledges(late, NOW + MINUTE)
    assert world.send(NOW + MINUTE) == ["digest"]
    assert world.send(NOW + MINUTE) == ["acknowledged"]


def test_a_member_that_came_late_and_is_over_is_no_reason_against_it(world):
    for incident in world.opens(2):
        world.address()
        world.acknowledges(incident)
    [late] = world.opens(1)
    world.address()
    world.ends(late)
    world.address(NOW + MINUTE)
    assert world.send(NOW + MINUTE) == ["digest"]
    assert world.send(NOW + MINUTE) == ["acknowledged"]


def test_it_is_withdrawn_if_all_are_over_before_it_is_told(world):
    incidents = world.opens(2)
    world.address()
    for incident in incidents:
        world.acknowledges(incident)
    world.ends(incidents[0])
    world.address()
    assert world.acknowledgements(status="waiting") == 1
    world.ends(incidents[1])
    world.address()
    assert world.acknowledgements(status="waiting") == 0
    assert world.send() == ["digest"]


def test_it_waits_for_the_alert(world):
    incidents = world.opens(2)
    world.address()
    for incident in incidents:
        world.acknowledges(incident)
    assert world.send() == ["digest"]
    assert world.send() == ["acknowledged"]


def told_lines(incident):
    return [entry.text for entry in timeline_of_incident(incident) if "acknowledged" in entry.text]


def test_the_timelines_of_its_open_incidents_say_that_the_pager_was_told(world):
    *looked_after, over = world.storm(3)
    world.ends(over)
    world.address()
    acknowledge_storm(Storm.objects.get(), by=ANNA, via="a link", now=NOW + MINUTE)
    address_acknowledged(now=NOW + MINUTE)
    told = f"“acknowledged” to {world.channel.name} (each open incident of the storm is acknowledged): waiting."
    assert [told_lines(Incident.objects.get(id=one.id)) for one in looked_after] == [[told], [told]]
    assert told_lines(Incident.objects.get(id=over.id)) == []
    for _ in ("that one is over", "that the others are acknowledged"):
        claims.record_sent(claims.claim_for_lanes(now=NOW + HOUR), now=NOW + HOUR)
    assert told_lines(looked_after[0]) == [told.replace("waiting", "sent")]
