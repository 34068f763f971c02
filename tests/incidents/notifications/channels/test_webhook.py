"""Signatures of webhooks: vectors that four implementations agree about, and the standard's own package."""

import base64
import json
from datetime import UTC, datetime

import msgspec
import pytest
import standardwebhooks

from incidents.notifications.alert import Event
from incidents.notifications.channels import webhook
from lib.wallclock import utcnow
from tests.incidents.notifications.channels.alerts import ABOUT_ONE, NOW, alert, target

K1 = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
K0 = "whsec_ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7"
GUID = "0d6f1c7e-5b0a-5c57-9d0e-3b8f7f0a1c11"
OPENED = '{"type":"incident.opened"}'
VECTORS = [
    (GUID, 1784900000, OPENED, K1, "87u2J4G8CVW7vSeE91WBrMDMd2tX0IxpqPnZHy6cbdY="),
    (GUID, 1784900000, OPENED, K0, "eorWZMYBbxTmSH3fOhUW58Jv68hp1yuJemtWOpGCPdg="),
    (GUID, 1784900060, OPENED, K1, "u6MIp8V5B0g4mIPC2rjYafXi5xB0t7oOSbTO8JH1L6U="),
    (GUID, 1784900060, OPENED, K0, "fc4NuQdSWjHhcIKZY1NSyB8WQNoG0wvMDdqq5FZNbL0="),
    ("a", 1784900000, '{"name":"Nächtlich 🌙"}', K1, "MbjOjIkURDGptUfKhxJMtbbsSpOsGyNm21PzudIjtEg="),
    ("a", 1784900000, '{"name":"Nächtlich 🌙"}', K0, "r7BEdK41yUAonHw9PQJpXsKkBZ7Zwx9fhIjcppMC6Ck="),
    ("b", 0, "", K1, "Kwsm4sDS0Z79uoQv/L75JI8x5S8fgos7VpJ2v8Wlmkk="),
    ("b", 0, "", K0, "SS0pEvQA7PL7iM6GeM2MG3R3kPJSX8B3GZbBZubfIDw="),
]


def request(event=Event.OPENED, *, secret=K1, old_secret="", now=NOW, **changes):
    values = {"url": "https://receiver.example/", "secret": secret, "old_secret": old_secret}
    [made] = webhook.requests(alert(event, **changes), target("webhook", values), "", now=now)
    return made


def data(event, **changes):
    return json.loads(request(event, **changes).body)["data"]


@pytest.mark.parametrize(("id_", "timestamp", "body", "key", "expected"), VECTORS)
def test_signatures_are_those_of_the_vectors(id_, timestamp, body, key, expected):
    assert webhook.sign(key, id_, timestamp, body.encode()) == f"v1,{expected}"
    theirs = standardwebhooks.Webhook(key).sign(id_, datetime.fromtimestamp(timestamp, UTC), body)
    assert theirs == f"v1,{expected}"


@pytest.mark.parametrize("key", [K1, K0])
def test_a_receiver_verifies_with_either_key_while_they_are_changed(key):
    now = utcnow()
    made = request(secret=K1, old_secret=K0, now=now)
    assert standardwebhooks.Webhook(key).verify(made.body.decode(), dict(made.headers))


def test_the_new_key_signs_first():
    made = request(secret=K1, old_secret=K0)
    first, second = made.headers["webhook-signature"].split(" ")
    timestamp = int(made.headers["webhook-timestamp"])
    assert first == webhook.sign(K1, made.headers["webhook-id"], timestamp, made.body)
    assert second == webhook.sign(K0, made.headers["webhook-id"], timestamp, made.body)


def test_a_changed_body_is_not_verified():
    now = utcnow()
    made = request(now=now)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(K1).verify(made.body.decode().replace("ops", "oops"), dict(made.headers))


def test_the_timestamp_is_that_of_the_attempt_and_the_id_that_of_the_message():
    first, second = request(now=NOW), request(now=NOW.replace(minute=30))
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(alert(Event.OPENED).key)
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 20 * 60
    assert first.body == second.body


@pytest.mark.parametrize("event", [*ABOUT_ONE, Event.DIGEST, Event.STORM_OVER, Event.CLOCK, Event.TEST])
def test_the_type_names_the_event(event):
    assert json.loads(request(event).body)["type"] == f"incident.{event}"


def test_the_end_says_how_long_it_lasted():
    facts = data(Event.RESOLVED)["incident"]
    assert (facts["state"], facts["resolved_at"]) == ("resolved", "2026-11-28T03:51:00Z")
    assert facts["duration_seconds"] == 41 * 60


def test_a_reminder_has_its_number():
    assert data(Event.REMINDER)["reminder"] == 1


def test_an_acknowledgement_says_by_whom():
    assert data(Event.ACKNOWLEDGED)["incident"]["acknowledged_by"] == "Ada"


def test_a_huge_explanation_is_left_out_before_a_receiver_refuses_it():
    [one] = alert(Event.OPENED).incidents
    huge = msgspec.structs.replace(one, explanation={"x": "y" * 50_000})
    made = request(incidents=(huge,))
    assert len(made.body) < webhook.BODY_BYTES_MAX
    assert "explanation" not in json.loads(made.body)["data"]


@pytest.mark.parametrize("length", [23, 65])
def test_a_key_of_the_wrong_length_is_refused(length):
    key = "whsec_" + base64.b64encode(b"x" * length).decode()
    assert "24 to 64 bytes" in webhook.problems({"url": "https://a.example", "secret": key})["secret"]


@pytest.mark.parametrize("key", ["whsec_!!!", "whsec_schlüssel", "☃", "whsec_"])
def test_a_key_that_is_no_base64_is_refused(key):
    assert "24 to 64 bytes" in webhook.problems({"url": "https://a.example", "secret": key})["secret"]


@pytest.mark.parametrize("length", [24, 64])
def test_a_new_key_is_accepted(length):
    key = webhook.new_secret(b"x" * length)
    assert webhook.problems({"url": "https://a.example", "secret": key}) == {}
