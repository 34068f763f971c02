"""Storing channels: what their service cannot use is refused, and secrets are stored encrypted."""

import pytest

from incidents.models import Channel
from incidents.notifications import configuring
from incidents.notifications.channels import SENDERS
from incidents.notifications.configuring import ChannelError, problems_of, save_channel, stored_secrets
from tests.factories import NOW, ChannelFactory, ProjectFactory
from tests.incidents.notifications.channels.vendors import SIGNING_KEY

pytestmark = pytest.mark.django_db
HOOK = {"url": "https://hooks.slack.com/services/T0/B0/secret-part"}


def new(**columns):
    return ChannelFactory.build(**{"project": ProjectFactory(), "kind": "slack"} | columns)


def test_secrets_are_encrypted_and_other_settings_are_not():
    channel = new(kind="telegram")
    save_channel(channel, {"chat_id": "-100123", "token": "123:secret"}, now=NOW)
    assert channel.values == {"chat_id": "-100123"}
    assert stored_secrets(Channel.objects.get()) == {"token": "123:secret"}


def test_an_empty_secret_keeps_the_stored_one():
    channel = new()
    save_channel(channel, HOOK, now=NOW)
    save_channel(channel, {"url": ""}, now=NOW)
    assert stored_secrets(channel) == HOOK


def test_two_channels_of_a_project_have_different_names():
    first = new(name="room")
    save_channel(first, HOOK, now=NOW)
    with pytest.raises(ChannelError, match="There is a channel 'room' already"):
        save_channel(new(project=first.project, name="room"), HOOK, now=NOW)
    save_channel(new(name="room"), HOOK, now=NOW)


@pytest.mark.parametrize("name", ["db, web", "two\nlines", "two\u2028lines"])
def test_a_name_can_stand_in_the_line_of_an_escalation(name):
    with pytest.raises(ChannelError, match="name: A name has no comma and no line break"):
        save_channel(new(name=name), HOOK, now=NOW)


def test_an_older_channel_keeps_a_name_with_a_comma():
    channel = new(name="db")
    save_channel(channel, HOOK, now=NOW)
    Channel.objects.update(name="db, web")
    channel.refresh_from_db()
    save_channel(channel, HOOK, now=NOW)


def test_a_project_has_so_many_channels_and_no_more(monkeypatch):
    monkeypatch.setattr(configuring, "CHANNELS_MAX", 1)
    first = new()
    save_channel(first, HOOK, now=NOW)
    with pytest.raises(ChannelError, match="no more are allowed"):
        save_channel(new(project=first.project), HOOK, now=NOW)
    save_channel(first, HOOK, now=NOW)


@pytest.mark.parametrize(
    ("kind", "values", "field", "words"),
    [
        ("pigeon", {}, "kind", "no kind of channel"),
        ("slack", {}, "url", "needed"),
        ("slack", {"url": "ftp://x"}, "url", "http"),
        ("email", {"to": "nobody"}, "to", "'nobody' is not an e-mail address."),
        ("email", {"to": "https://me:pw@example.com/"}, "to", "'https://me:pw@example.com/' is not an e-mail address."),
        ("email", {"to": "me@example.com, you"}, "to", "'you' is not an e-mail address."),
        ("email", {"to": ",".join(f"a{n}@example.com" for n in range(51))}, "to", "51 addresses"),
        ("email", {}, "to", "needed"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence_for_its_field(kind, values, field, words):
    assert words in problems_of(kind, values)[field]


ELSEWHERE = "https://elsewhere.example"
"""Settings of channels with an address that is no secret, and the secrets that go there."""
MOVED = {
    "ntfy": ({"topic": "nights", "token": "tk_1"}, "server", {"topic", "token"}),
    "alertmanager": ({"url": "https://am.example", "token": "t"}, "url", {"token"}),
    "opsgenie": ({"api_key": "key", "callback_token": "a1" * 20}, "url", {"api_key"}),
    "pagerduty": ({"routing_key": "k" * 32, "signing_secret": "s"}, "url", {"routing_key"}),
    "slack_bot": ({"token": "xoxb-1", "channel": "C1", "signing_secret": "s"}, "api_url", {"token"}),
    "telegram": ({"token": "123:secret", "chat_id": "-1"}, "api_url", {"token"}),
}


def empty(values):
    """The settings as a form sends them: secrets stay empty."""
    return {name: text for name, text in values.items() if name in {"url", "channel", "chat_id"}}


class TestAnotherServer:
    def test_each_kind_whose_secrets_can_be_sent_elsewhere_is_tested_here(self):
        kinds = {
            kind
            for kind, sender in SENDERS.items()
            if any(field.kind == "url" for field in sender.FIELDS)
            and any(field.is_secret and field.is_sent and field.kind != "url" for field in sender.FIELDS)
        }
        assert kinds == MOVED.keys()

    @pytest.mark.parametrize("kind", MOVED)
    def test_secrets_that_would_be_sent_there_are_asked_for_again(self, kind):
        values, place, secrets = MOVED[kind]
        channel = new(kind=kind)
        save_channel(channel, values, now=NOW)
        with pytest.raises(ChannelError) as caught:
            save_channel(channel, empty(values) | {place: ELSEWHERE}, now=NOW)
        assert caught.value.problems == dict.fromkeys(
            secrets, "The server changed: enter this again. What is stored is sent only to the former server."
        )
        stored = Channel.objects.get()
        assert (stored.values, stored.sealed) == (channel.values, channel.sealed)
        assert stored.values.get(place) != ELSEWHERE

    @pytest.mark.parametrize("kind", MOVED)
    def test_whoever_enters_them_again_moves_the_channel_and_keeps_the_keys_that_are_not_sent(self, kind):
        values, place, secrets = MOVED[kind]
        channel = new(kind=kind)
        save_channel(channel, values, now=NOW)
        again = {name: values[name] for name in secrets}
        save_channel(channel, empty(values) | again | {place: ELSEWHERE}, now=NOW)
        stored = Channel.objects.get()
        assert stored.values[place] == ELSEWHERE
        assert stored_secrets(stored) == {name: values[name] for name in values.keys() - empty(values).keys()}

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("https://am.example", "http://am.example"),
            ("https://am.example", "https://am.example:8443"),
            ("https://am.example", "https://am.example."),
            ("https://am.example/a", "https://evil.example/am.example"),
            ("https://am.example", "https://am.example.evil.example"),
        ],
    )
    def test_another_scheme_host_or_port_is_another_server(self, before, after):
        channel = new(kind="alertmanager")
        save_channel(channel, {"url": before, "token": "t"}, now=NOW)
        with pytest.raises(ChannelError, match="token: The server changed"):
            save_channel(channel, {"url": after}, now=NOW)

    @pytest.mark.parametrize(
        ("kind", "values", "changes"),
        [
            ("alertmanager", {"url": "https://am.example", "token": "t"}, {"url": "https://AM.example:443/path"}),
            ("ntfy", {"topic": "nights"}, {"server": "https://ntfy.sh"}),
            ("ntfy", {"topic": "nights", "server": "https://ntfy.sh/"}, {"server": ""}),
        ],
    )
    def test_the_same_server_in_other_words_keeps_the_secret(self, kind, values, changes):
        channel = new(kind=kind)
        save_channel(channel, values, now=NOW)
        before = stored_secrets(channel)
        save_channel(channel, changes, now=NOW)
        assert stored_secrets(channel) == before

    def test_a_secret_that_is_removed_with_the_move_is_not_asked_for(self):
        channel = new(kind="alertmanager")
        save_channel(channel, {"url": "https://am.example", "token": "t"}, now=NOW)
        save_channel(channel, {"url": ELSEWHERE}, removed={"token"}, now=NOW)
        assert (channel.values, stored_secrets(channel)) == ({"url": ELSEWHERE}, {})

    def test_the_signing_key_of_a_webhook_stays(self):
        channel = new(kind="webhook")
        save_channel(channel, {"url": "https://me.example", "secret": SIGNING_KEY}, now=NOW)
        save_channel(channel, {"url": ELSEWHERE}, now=NOW)
        assert stored_secrets(channel) == {"url": ELSEWHERE, "secret": SIGNING_KEY}


def test_who_cannot_read_the_secrets_any_more_enters_them_again(settings):
    channel = new()
    save_channel(channel, HOOK, now=NOW)
    Channel.objects.update(sealed="damaged")
    channel.refresh_from_db()
    assert stored_secrets(channel) == {}
    with pytest.raises(ChannelError, match="needed"):
        save_channel(channel, {"url": ""}, now=NOW)
