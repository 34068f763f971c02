"""Storing channels: what their service cannot use is refused, and secrets are stored encrypted."""

import pytest

from incidents.models import Channel
from incidents.notifications import configuring
from incidents.notifications.configuring import ChannelError, problems_of, save_channel, stored_secrets
from tests.factories import NOW, ChannelFactory, ProjectFactory

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


def test_who_cannot_read_the_secrets_any_more_enters_them_again(settings):
    channel = new()
    save_channel(channel, HOOK, now=NOW)
    Channel.objects.update(sealed="damaged")
    channel.refresh_from_db()
    assert stored_secrets(channel) == {}
    with pytest.raises(ChannelError, match="needed"):
        save_channel(channel, {"url": ""}, now=NOW)
