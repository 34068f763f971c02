"""Acknowledgements in PagerDuty, Jira Service Management and Slack come back; nobody else's do."""

import hmac
import json
from datetime import timedelta
from urllib.parse import urlencode
from uuid import uuid4

import pytest
import time_machine

from audit.models import AuditEntry
from incidents.handling import calling_back
from incidents.models import Incident
from incidents.notifications.configuring import save_channel
from tests.factories import (
    NOW,
    ChannelFactory,
    DutyFactory,
    IncidentFactory,
    MessageFactory,
    ProjectFactory,
    StormFactory,
)

pytestmark = pytest.mark.django_db
SECRET = "signing0secret0of0the0service"
SETTINGS = {
    "pagerduty": {"routing_key": "a" * 32, "signing_secret": SECRET},
    "opsgenie": {"api_key": "key", "callback_token": SECRET},
    "slack_bot": {"token": "xoxb-1", "channel": "C1", "signing_secret": SECRET},
}


@pytest.fixture(autouse=True)
def now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def project():
    return ProjectFactory()


@pytest.fixture
def incident(project):
    return IncidentFactory(monitor_environment__monitor__project=project)


def channel(project, kind, **settings):
    found = ChannelFactory.build(project=project, kind=kind, name="on call")
    save_channel(found, SETTINGS[kind] | settings, now=NOW)
    return found


def digest(content, secret=SECRET):
    return hmac.digest(secret.encode(), content, "sha256").hex()


def from_pagerduty(key, *, secret=SECRET, event="incident.acknowledged"):
    agent = {"type": "user_reference", "summary": "Ada Lovelace"}
    content = {"event": {"event_type": event, "agent": agent, "data": {"type": "incident", "incident_key": str(key)}}}
    body = json.dumps(content).encode()
    return {"body": body, "headers": {"X-PagerDuty-Signature": f"v1=00,v1={digest(body, secret)}"}}


def from_opsgenie(key, *, secret=SECRET, event="Acknowledge"):
    content = {"action": event, "alert": {"alias": str(key), "username": "ada@example.com"}}
    return {"body": json.dumps(content).encode(), "token": secret}


def from_slack(key, *, secret=SECRET, event="acknowledge", at=NOW):
    actions = [{"type": "button", "action_id": event, "value": str(key)}]
    payload = {"type": "block_actions", "user": {"id": "U1", "username": "ada"}, "actions": actions}
    body, seconds = urlencode({"payload": json.dumps(payload)}).encode(), str(int(at.timestamp()))
    signature = f"v0={digest(b'v0:' + seconds.encode() + b':' + body, secret)}"
    return {"body": body, "headers": {"X-Slack-Request-Timestamp": seconds, "X-Slack-Signature": signature}}


SERVICES = {"pagerduty": from_pagerduty, "opsgenie": from_opsgenie, "slack_bot": from_slack}
NAMES = {"pagerduty": "Ada Lovelace", "opsgenie": "ada@example.com", "slack_bot": "ada"}


@pytest.fixture(params=SERVICES)
def kind(request):
    return request.param


def post(client, guid, call):
    end = f"/{call['token']}" if "token" in call else ""
    return client.post(
        f"/hooks/{guid}{end}", call["body"], content_type="application/json", headers=call.get("headers", {})
    )


def acknowledged():
    return list(Incident.objects.values_list("acknowledged_by", flat=True))


def test_an_acknowledgement_there_reaches_the_incident_with_the_person_and_the_way(client, project, incident, kind):
    own = channel(project, kind)
    assert post(client, own.guid, SERVICES[kind](incident.guid)).status_code == 200
    incident.refresh_from_db()
    assert incident.acknowledged_by == NAMES[kind]
    assert incident.acknowledged_via.endswith("channel on call")
    assert AuditEntry.objects.get(action="acknowledged").source == "channel"


def test_a_pager_is_not_told_what_it_knows_and_a_message_in_slack_is_changed(client, project, incident, kind):
    own = channel(project, kind)
    post(client, own.guid, SERVICES[kind](incident.guid))
    incident.refresh_from_db()
    assert incident.acknowledged_channel == (None if kind == "slack_bot" else own.id)


def test_to_repeat_it_changes_nothing(client, project, incident, kind):
    own = channel(project, kind)
    for _ in range(2):
        assert post(client, own.guid, SERVICES[kind](incident.guid)).status_code == 200
    assert AuditEntry.objects.filter(action="acknowledged").count() == 1


def test_a_wrong_signature_and_an_unknown_channel_have_the_same_answer(client, project, incident, kind):
    own = channel(project, kind)
    forged = post(client, own.guid, SERVICES[kind](incident.guid, secret="x" * 29))
    unknown = post(client, uuid4(), SERVICES[kind](incident.guid))
    assert (forged.status_code, forged.content) == (unknown.status_code, unknown.content) == (404, b"")
    assert acknowledged() == [""]


def test_a_signature_does_not_cover_another_body(client, project, incident):
    own = channel(project, "pagerduty")
    call = from_pagerduty(incident.guid)
    call["body"] += b" "
    assert post(client, own.guid, call).status_code == 404


def test_a_channel_without_the_secret_hears_nobody(client, project, incident, kind):
    names = {"pagerduty": "signing_secret", "opsgenie": "callback_token", "slack_bot": "signing_secret"}
    found = ChannelFactory.build(project=project, kind=kind)
    save_channel(found, {name: text for name, text in SETTINGS[kind].items() if name != names[kind]}, now=NOW)
    assert post(client, found.guid, SERVICES[kind](incident.guid, secret="")).status_code == 404


def test_incidents_of_other_projects_are_left_alone(client, project, kind):
    IncidentFactory()
    own = channel(project, kind)
    assert post(client, own.guid, SERVICES[kind](Incident.objects.get().guid)).status_code == 200
    assert acknowledged() == [""]


@pytest.mark.parametrize("key", ["", "something of theirs", uuid4()])
def test_what_is_not_ours_is_taken_and_ignored(client, project, incident, kind, key):
    assert post(client, channel(project, kind).guid, SERVICES[kind](key)).status_code == 200
    assert acknowledged() == [""]


def test_other_events_are_taken_and_ignored(client, project, incident, kind):
    own = channel(project, kind)
    assert post(client, own.guid, SERVICES[kind](incident.guid, event="pagey.ping")).status_code == 200
    assert acknowledged() == [""]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b'{"event": 7}'])
def test_a_genuine_request_that_cannot_be_read_does_nothing(client, project, body):
    own = channel(project, "pagerduty")
    call = {"body": body, "headers": {"X-PagerDuty-Signature": f"v1={digest(body)}"}}
    assert post(client, own.guid, call).status_code in {200, 404}


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_click_in_slack_is_heard_for_five_minutes(client, project, incident, minutes):
    own = channel(project, "slack_bot")
    call = from_slack(incident.guid, at=NOW + timedelta(minutes=minutes))
    assert post(client, own.guid, call).status_code == 404


def test_a_body_that_is_too_large_is_not_looked_at(client, project):
    own = channel(project, "pagerduty")
    assert post(client, own.guid, {"body": b"x" * 300_000}).status_code == 413


def test_looking_changes_nothing(client, project, incident):
    own = channel(project, "opsgenie")
    assert client.get(f"/hooks/{own.guid}/{SECRET}").status_code == 405


def test_other_kinds_of_channels_are_not_heard(client, project, incident):
    own = ChannelFactory(project=project, kind="teams")
    assert post(client, own.guid, from_pagerduty(incident.guid)).status_code == 404


def test_what_is_left_after_the_time_is_asked_for_again(client, project, incident, monkeypatch):
    monkeypatch.setattr(calling_back, "SECONDS_MAX", -1.0)
    own = channel(project, "pagerduty")
    assert post(client, own.guid, from_pagerduty(incident.guid)).status_code == 503


def test_a_storm_that_is_acknowledged_acknowledges_its_open_incidents(client, project):
    own = channel(project, "pagerduty")
    storm = StormFactory(project=project, channel=own)
    message = MessageFactory(storm=storm, incident=None, channel=own, kind="digest", recipient=str(own.guid))
    for _ in range(2):
        member = IncidentFactory(monitor_environment__monitor__project=project)
        DutyFactory(notification__incident=member, message=message, channel=own)
    IncidentFactory(monitor_environment__monitor__project=project)
    assert post(client, own.guid, from_pagerduty(storm.guid)).status_code == 200
    assert sorted(acknowledged()) == ["", "Ada Lovelace", "Ada Lovelace"]


class TestThePageOfAChannel:
    def page(self, admin_client, own):
        return admin_client.get(f"/admin/incidents/channel/{own.pk}/change/").content.decode()

    @pytest.fixture(autouse=True)
    def public(self, settings):
        settings.PUBLIC_URL = "https://w.example"

    def test_it_shows_the_address_and_not_the_secret(self, admin_client, project, kind):
        own = channel(project, kind)
        page = self.page(admin_client, own)
        assert f"They come back to https://w.example/hooks/{own.guid}" in page
        assert SECRET not in page

    def test_it_says_what_is_missing(self, admin_client, project):
        own = ChannelFactory.build(project=project, kind="pagerduty")
        save_channel(own, {"routing_key": "a" * 32}, now=NOW)
        assert "do not come back until" in self.page(admin_client, own)

    def test_it_says_if_the_service_cannot(self, admin_client, project):
        assert "does not come back" in self.page(admin_client, ChannelFactory(project=project, kind="teams"))
