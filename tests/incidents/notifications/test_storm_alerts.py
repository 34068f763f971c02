"""What a message about a storm says: how many, which are the worst, and what is still open."""

import msgspec
import pytest

from incidents.models import Message, Storm
from incidents.notifications import alerts, claims
from incidents.notifications.acknowledge_links import acknowledge_link, read
from incidents.notifications.alert import Event
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.wording import links
from incidents.notifications.folding import LISTED_MAX
from incidents.notifications.stored import stored_alert
from incidents.notifications.storms import SUMMARY_AFTER
from tests.factories import NOW
from tests.incidents.notifications.test_storms import MINUTE, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world():
    return World()


def claim(world, at=NOW):
    """Claim messages, and return the alerts of those that are about storms."""
    claimed = world.claim(at)
    found, failed = alerts.write_alerts(claimed)
    assert failed == []
    claims.record_sent(claimed, now=at)
    return list(found.values())


def test_it_counts_all_and_lists_the_worst_first(world):
    world.opens(LISTED_MAX + 5)
    world.opens(1, severity="critical")
    world.opens(4, severity="info")
    world.address()
    [alert] = claim(world)
    assert (alert.event, alert.title) == (Event.DIGEST, f"60 jobs of {world.project.name} are failing")
    assert (len(alert.incidents), alert.omitted) == (LISTED_MAX, 10)
    assert [one.severity.value for one in alert.incidents[:2]] == ["critical", "error"]
    assert {one.severity.value for one in alert.incidents[1:]} == {"error"}


def test_each_incident_of_the_list_has_its_reason_but_no_log(world):
    world.opens(2)
    world.address()
    [alert] = claim(world)
    assert all(one.reason and one.is_open and not one.log_tail and not one.explanation for one in alert.incidents)


def test_it_is_stored_and_the_same_at_the_next_attempt(world):
    world.opens(2)
    world.address()
    [message] = world.claim()
    [alert] = alerts.write_alerts([message])[0].values()
    world.ends(*world.opens(1))
    again = Message.objects.select_related("channel", "storm__project").get()
    assert stored_alert(again) == alert


def test_a_pager_has_one_alert_for_all_which_ends_with_the_last():
    world = World(kind="pagerduty")
    first, second = world.opens(2)
    world.address()
    [opened] = claim(world)
    world.ends(first)
    world.address()
    [part] = claim(world, NOW + SUMMARY_AFTER)
    world.ends(second)
    world.address(NOW + SUMMARY_AFTER)
    [over] = claim(world, NOW + SUMMARY_AFTER)

    target = alerts.target_of(world.channel)
    sent = [SENDERS["pagerduty"].requests(alert, target, "", now=NOW) for alert in (opened, part, over)]
    actions = [[msgspec.json.decode(one.body)["event_action"] for one in requests] for requests in sent]
    assert actions == [["trigger"], [], ["resolve"]]
    assert opened.group == part.group == over.group


def test_a_summary_that_comes_before_the_last_says_how_many_are_left(world):
    first, *_ = world.opens(3)
    world.address()
    claim(world)
    world.ends(first)
    world.address()
    [part] = claim(world, NOW + SUMMARY_AFTER)
    assert (part.event, part.title) == (
        Event.DIGEST, f"1 job of {world.project.name} has recovered, 2 are still failing",
    )  # fmt: skip
    assert [one.guid for one in part.incidents] == [first.guid]


def test_the_last_summary_says_that_all_have_recovered(world):
    incidents = world.opens(3)
    world.address()
    claim(world)
    world.ends(*incidents)
    world.address()
    [over] = claim(world)
    assert (over.event, over.title) == (Event.STORM_OVER, f"All 3 jobs of {world.project.name} have recovered")


def test_what_was_over_before_anybody_was_told_is_told_as_over(world):
    incidents = world.opens(2)
    world.address()
    world.ends(*incidents)
    world.address()
    [alert] = claim(world)
    assert (alert.event, alert.title) == (
        Event.DIGEST, f"2 jobs of {world.project.name} failed and have recovered",
    )  # fmt: skip
    assert not any(one.is_open for one in alert.incidents)


def test_of_that_a_pager_is_told_nothing():
    world = World(kind="pagerduty")
    incidents = world.opens(2)
    world.address()
    world.ends(*incidents)
    world.address()
    [alert] = claim(world)
    assert SENDERS["pagerduty"].requests(alert, alerts.target_of(world.channel), "", now=NOW) == ()


def test_mails_about_a_storm_are_one_conversation(world):
    from incidents.notifications.channels.mail import compose

    world = World(kind="email", values={"to": "ops@example.com"})
    incidents = world.opens(2)
    world.address()
    [first] = world.claim()
    alerts.write_alerts([first])
    claims.record_sent([first], now=NOW)
    world.ends(*incidents)
    world.address()
    [second] = world.claim()
    alerts.write_alerts([second])
    mails = [compose(first), compose(second)]
    assert mails[1].extra_headers["References"] == mails[0].extra_headers["Message-ID"]
    assert mails[1].subject == f"Re: {mails[0].subject}"


class TestAcknowledging:
    @pytest.fixture(autouse=True)
    def public(self, settings):
        settings.PUBLIC_URL = "https://w.example"

    def test_one_link_acknowledges_all(self, world):
        world.opens(2)
        world.address()
        [alert] = claim(world)
        digest = Message.objects.get()
        assert links(alert)[0] == ("Acknowledge all", acknowledge_link(digest))
        token = acknowledge_link(digest).removeprefix("https://w.example/a/")
        assert read(token, now=NOW) == (Storm.objects.get().guid, digest.pk)

    def test_there_is_none_if_all_are_over_or_it_tells_the_end(self, world):
        world.ends(*world.opens(2))
        world.address()
        [passed] = claim(world)
        incidents = world.opens(2, tick=NOW + MINUTE)
        world.address()
        claim(world)
        world.ends(*incidents)
        world.address()
        [end] = claim(world)
        assert [[label for label, _ in links(one)] for one in (passed, end)] == [["Open"], ["Open"]]
