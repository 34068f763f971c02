"""What single channels ask of their settings, and how they use them."""

import doctest
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from incidents.notifications import guard
from incidents.notifications.alert import Event
from incidents.notifications.channels import (
    SENDERS,
    base,
    discord,
    opsgenie,
    redaction,
    slack,
    splunk_oncall,
    teams,
    wording,
)
from incidents.notifications.channels.base import Field, field_problems
from tests.incidents.notifications.channels.alerts import GUID, NOW, alert, target
from tests.incidents.notifications.channels.vendors import VENDORS

URL = "https://receiver.example/"


def requests(kind, event=Event.OPENED, ref="", **values):
    given = VENDORS[kind]().values("https://receiver.example") | values
    return SENDERS[kind].requests(alert(event), target(kind, given), ref, now=NOW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("receiver.example", "begins with https"),
        ("ftp://receiver.example/", "begins with https"),
        ("https://", "begins with https"),
        ("https://user:word@receiver.example/", "user name"),
        ("https://user@receiver.example/", "user name"),
        ("https://receiver.example/a b", "no space"),
        ("https://receiver.example:port/", "not a web address"),
        ("https://[::1", "not a web address"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_with_the_reason(text, words):
    field = Field(name="url", label="Address", kind="url")
    assert words in field_problems([field], {"url": text})["url"]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("choice", "eu", "us"), ("number", "12", "1.5"), ("number", "0", "-1"), ("email", "a@b.example", "b.example")],
)
def test_other_kinds_of_settings_are_held_to_what_they_are(kind, good, bad):
    field = Field(name="it", label="It", kind=kind, choices=("eu",))
    assert field_problems([field], {"it": good}) == {}
    assert repr(bad) in field_problems([field], {"it": bad})["it"]


@pytest.mark.parametrize("host", ["acme.webhook.office.com", "outlook.office.com", "outlook.office365.com"])
def test_an_address_of_a_connector_is_refused_with_an_explanation(host):
    problem = teams.problems({"url": f"https://{host}/webhookb2/abc/IncomingWebhook/def"})["url"]
    assert "Create a workflow" in problem


def test_a_key_of_pagerduty_has_32_characters():
    assert "32 letters" in SENDERS["pagerduty"].problems({"routing_key": "short"})["routing_key"]


def test_an_address_of_opsgenie_is_known_to_end():
    assert opsgenie.is_ending({"url": "https://api.eu.opsgenie.com/v2/alerts"})
    assert not opsgenie.is_ending({"url": opsgenie.URL.default})
    assert not opsgenie.is_ending({})


@pytest.mark.parametrize(
    ("setting", "value"), [("token", "123"), ("token", "123:a/b"), ("chat_id", "alerts"), ("thread_id", "first")]
)
def test_settings_of_telegram_are_checked(setting, value):
    good = VENDORS["telegram"]().values(URL)
    assert setting in SENDERS["telegram"].problems(good | {setting: value})


def test_a_topic_of_ntfy_has_few_characters():
    assert "topic" in SENDERS["ntfy"].problems({"topic": "a/b"})
    assert SENDERS["ntfy"].problems({"topic": "a-b_C1"}) == {}


@pytest.mark.parametrize("end", ["/$routing_key", "/", ""])
def test_the_routing_key_ends_the_address_of_splunk(end):
    [made] = requests("splunk_oncall", url=f"{URL}integrations/key{end}", routing_key="night/shift")
    assert made.url == f"{URL}integrations/key/night%2Fshift"
    assert splunk_oncall.PLACE not in made.url


def test_a_thread_of_discord_is_in_each_request():
    made = requests("discord", Event.RESOLVED, "112233", thread_id="77")
    assert [parse_qs(urlsplit(one.url).query).get("thread_id") for one in made] == [["77"], ["77"]]
    assert [one.method for one in made] == ["PATCH", "POST"]


def test_a_topic_of_telegram_is_named_for_new_messages_only():
    made = requests("telegram", Event.RESOLVED, "4711", thread_id="77")
    assert ["message_thread_id" in json.loads(one.body) for one in made] == [False, True]


def test_an_escalation_is_shown_in_the_channel_of_slack_too():
    [made] = requests("slack_bot", Event.ESCALATED, "C024BE91L:1784900000.000100")
    assert json.loads(made.body)["reply_broadcast"] is True


@pytest.mark.parametrize("module", [base, discord, guard, redaction, slack, wording])
def test_examples_in_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


def test_an_empty_setting_stands_for_its_default():
    [made] = requests("pagerduty", url=" ")
    assert made.url == "https://events.pagerduty.com/v2/enqueue"


def test_without_a_token_ntfy_gets_none():
    [made] = requests("ntfy", token="")
    assert "authorization" not in made.headers


@pytest.mark.parametrize("kind", ["telegram", "discord", "slack_bot"])
def test_a_reference_that_is_none_gives_a_new_message(kind):
    [made] = requests(kind, Event.REMINDER)
    assert not made.is_follow_up


def test_a_token_for_the_way_back_is_not_guessed():
    good = {"api_key": "key", "callback_token": "x" * 20}
    assert SENDERS["opsgenie"].problems(good) == {}
    for token in ("x" * 19, "x" * 20 + "/", "ü" * 20):
        assert "20 letters" in SENDERS["opsgenie"].problems(good | {"callback_token": token})["callback_token"]


@pytest.mark.parametrize("event", [Event.OPENED, Event.REMINDER])
def test_the_button_in_slack_acknowledges_there_if_clicks_come_back(event):
    settings = {"token": "xoxb-1", "channel": "C1"}

    def buttons(**more):
        channel = target("slack_bot", settings | more)
        [request] = SENDERS["slack_bot"].requests(alert(event), channel, "", now=NOW)
        blocks = json.loads(request.body)["blocks"]
        return [one for block in blocks if block["type"] == "actions" for one in block["elements"]]

    link, page = buttons()
    assert link["url"] == "https://w.example/a/0d6f"
    button, same = buttons(signing_secret="secret")
    assert (button["action_id"], button["value"], "url" in button) == ("acknowledge", str(GUID), False)
    assert same == page
