"""The pages of channels: their state, their settings without secrets, and a test that shows the answer."""

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from incidents.models import Channel, Message
from incidents.notifications.configuring import save_channel, stored_secrets
from tests import factories
from tests.dashboard.pages.conftest import words
from tests.factories import NOW
from tests.incidents.notifications.channels.vendors import SIGNING_KEY

pytestmark = pytest.mark.django_db
HOOK = "https://hooks.slack.com/services/T0/B0/secret-part"


@pytest.fixture
def channel(monitor):
    found = factories.ChannelFactory.build(project=monitor.project, kind="slack", name="room")
    save_channel(found, {"url": HOOK}, now=NOW)
    return found


@pytest.fixture
def listing(monitor):
    return reverse("project-channels", args=[monitor.project.slug])


@pytest.fixture
def address(channel):
    return reverse("channel", args=[channel.project.slug, channel.pk])


@pytest.fixture
def act(channel):
    return reverse("act-on-channel", args=[channel.project.slug, channel.pk])


def typed(**changes):
    return {"name": "room", "timezone": "UTC", "language": "en", "is_enabled": "on", "folds": "on"} | changes


def test_the_list_shows_since_when_a_channel_fails_why_and_what_waits(as_role, channel, listing):
    Channel.objects.update(open_since=NOW, probe_at=NOW, failing_since=NOW, failure_count=5, last_error="404 no_team")
    factories.MessageFactory(channel=channel, kind="test", recipient=str(channel.guid), incident=None)
    page = words(as_role("responder").get(listing))
    assert "room Slack (incoming webhook) failing since Mon 05 Jan 10:00 404 no_team - 1" in page
    assert "404 no_team" not in words(as_role("viewer").get(listing))


def test_an_owner_adds_a_channel_of_a_kind_and_its_secret_is_stored_encrypted_and_never_shown(as_role, monitor):
    client = as_role("owner")
    add = reverse("new-channel", args=[monitor.project.slug])
    assert "Microsoft Teams" in words(client.get(add))
    page = client.post(f"{add}?kind=slack", typed(setting_url=HOOK), follow=True)
    stored = Channel.objects.get()
    assert page.redirect_chain == [(reverse("channel", args=[monitor.project.slug, stored.pk]), 302)]
    assert (stored.project, stored.kind, stored_secrets(stored)) == (monitor.project, "slack", {"url": HOOK})
    assert "secret-part" not in page.content.decode()
    entry = AuditEntry.objects.get(kind="channel", action="created")
    assert (entry.source, entry.project_id, entry.changes["setting_url"]) == ("page", monitor.project_id, "changed")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"setting_url": "ftp://x"}, "setting_url"),
        ({"setting_url": ""}, "setting_url"),
        ({"setting_url": HOOK, "name": ""}, "name"),
        ({"setting_url": HOOK, "quiet_from": "22:00"}, "quiet_until"),
        ({"setting_url": HOOK, "language": "xx"}, "language"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field_and_the_secret_is_not_repeated(as_role, monitor, changes, field):
    add = reverse("new-channel", args=[monitor.project.slug])
    response = as_role("owner").post(f"{add}?kind=slack", typed(**changes))
    assert (response.status_code, list(response.context["form"].errors)) == (422, [field])
    assert "secret-part" not in response.content.decode()
    assert not Channel.objects.exists()


def test_a_name_that_is_taken_is_refused_at_its_field(as_role, channel):
    add = reverse("new-channel", args=[channel.project.slug])
    response = as_role("owner").post(f"{add}?kind=slack", typed(setting_url=HOOK))
    assert "name" in response.context["form"].errors


def test_an_edit_keeps_the_stored_secret_and_tries_the_channel_again(as_role, channel, address):
    Channel.objects.update(open_since=NOW, probe_at=NOW, failure_count=7)
    client = as_role("owner")
    assert "Stored. Leave it empty to keep it." in words(client.get(address))
    client.post(address, typed(name="renamed", quiet_from="22:00", quiet_until="07:00"))
    channel.refresh_from_db()
    assert (channel.name, stored_secrets(channel), channel.open_since) == ("renamed", {"url": HOOK}, None)
    assert AuditEntry.objects.get(action="changed").changes["name"] == ["room", "renamed"]


def test_a_secret_that_is_not_needed_can_be_removed(as_role, channel, address):
    keys = {"secret": SIGNING_KEY, "old_secret": SIGNING_KEY.replace("AA", "BB")}
    channel.kind = "webhook"
    save_channel(channel, {"url": HOOK, **keys}, now=NOW)
    client, box = as_role("owner"), "setting_old_secret_removed"
    assert [name for name in client.get(address).context["form"].fields if name.endswith("_removed")] == [box]
    client.post(address, typed())
    channel.refresh_from_db()
    assert stored_secrets(channel) == {"url": HOOK, **keys}
    client.post(address, typed(**{box: "on"}))
    channel.refresh_from_db()
    assert stored_secrets(channel) == {"url": HOOK, "secret": SIGNING_KEY}
    assert AuditEntry.objects.get(kind="channel", action="changed").changes == {"setting_old_secret": "changed"}


def test_a_stored_token_is_not_sent_to_another_server(as_role, channel, address):
    channel.kind = "alertmanager"
    save_channel(channel, {"url": "https://am.example", "token": "kept"}, now=NOW)
    client = as_role("owner")
    elsewhere = typed(setting_url="https://elsewhere.example")
    refused = client.post(address, elsewhere)
    assert (refused.status_code, list(refused.context["form"].errors)) == (422, ["setting_token"])
    assert "The server changed: enter this again." in words(refused)
    channel.refresh_from_db()
    assert (channel.values, stored_secrets(channel)) == ({"url": "https://am.example"}, {"token": "kept"})
    assert client.post(address, elsewhere | {"setting_token": "another"}).status_code == 302
    channel.refresh_from_db()
    assert (channel.values, stored_secrets(channel)) == ({"url": elsewhere["setting_url"]}, {"token": "another"})


@pytest.mark.parametrize("role", ["viewer", "responder", "editor"])
def test_only_owners_see_and_change_settings(as_role, channel, address, act, role):
    channel.values = {"mention": "here"}
    channel.save()
    client = as_role(role)
    page = client.get(address)
    assert (page.status_code, page.context["form"]) == (200, None)
    assert client.post(address, typed(name="renamed")).status_code == 403
    assert client.post(act, {"do": "remove"}).status_code == 403
    channel.refresh_from_db()
    assert (channel.name, channel.removed_at) == ("room", None)


def test_a_test_is_written_and_its_answer_is_shown(as_role, channel, act):
    client = as_role("owner")
    page = client.post(act, {"do": "test"}, follow=True)
    test = Message.objects.get()
    assert "The test is on its way" in words(page)
    entry = AuditEntry.objects.get(action="test sent")
    assert (entry.source, entry.object_id, entry.changes) == ("page", channel.pk, {})
    answers = reverse("channel-tests", args=[channel.project.slug, channel.pk])
    assert "every 1s" in client.get(f"{answers}?tests={test.pk}").content.decode()
    Message.objects.update(last_error="404 no_team")
    response = client.get(f"{answers}?tests={test.pk}")
    assert words(response) == "not accepted. 404 no_team"
    assert "every 1s" not in response.content.decode()
    Message.objects.update(status="sent", finished_at=NOW, last_error="", answer="200 ok")
    assert words(client.get(f"{answers}?tests={test.pk}")) == "accepted. 200 ok"


def test_a_second_test_waits_for_the_first(as_role, act):
    client = as_role("owner")
    client.post(act, {"do": "test"})
    assert "A test is on its way already" in words(client.post(act, {"do": "test"}, follow=True))
    assert Message.objects.count() == 1


def test_the_answers_to_tests_of_other_channels_are_not_shown(as_role, channel):
    foreign = factories.MessageFactory(channel=factories.ChannelFactory(), kind="test", incident=None, last_error="x")
    answers = reverse("channel-tests", args=[channel.project.slug, channel.pk])
    assert words(as_role("owner").get(f"{answers}?tests={foreign.pk},{10**30},-1,a")) == ""


def test_a_removed_channel_leaves_its_routes_and_does_not_exist_any_more(as_role, channel, address, act):
    route = factories.RouteFactory(project=channel.project, to=[channel])
    client = as_role("owner")
    assert "room was removed." in words(client.post(act, {"do": "remove"}, follow=True))
    assert not route.channels.exists()
    assert client.get(address).status_code == 404
    assert AuditEntry.objects.get(kind="channel", action="removed").source == "page"


def test_addresses_that_unsubscribed_are_shown_and_subscribed_again(as_role, monitor):
    mail = factories.ChannelFactory(project=monitor.project, kind="email", values={"to": "oncall@example.com"})
    factories.UnsubscriptionFactory(channel=mail)
    client = as_role("owner")
    arguments = [monitor.project.slug, mail.pk]
    assert "oncall@example.com alerts" in words(client.get(reverse("channel", args=arguments)))
    act = reverse("act-on-channel", args=arguments)
    assert "Nobody receives it" in words(client.post(act, {"do": "test"}, follow=True))
    client.post(act, {"do": "subscribe"})
    assert not mail.unsubscriptions.exists()


def test_a_channel_of_another_project_does_not_exist_there(as_role, monitor):
    foreign = factories.ChannelFactory()
    assert as_role("owner").get(reverse("channel", args=[monitor.project.slug, foreign.pk])).status_code == 404


def test_the_number_of_statements_does_not_grow(as_role, channel, listing, django_assert_max_num_queries):
    client = as_role("owner")
    for _ in range(4):
        other = factories.ChannelFactory(project=channel.project)
        factories.RouteFactory(project=channel.project, to=[channel, other])
    with django_assert_max_num_queries(16):
        client.get(listing)
