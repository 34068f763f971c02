"""Channels and routes in the admin: secrets are never shown, and what cannot be used is refused at its field."""

import pytest

from audit.models import AuditEntry
from incidents.models import Channel, Message, Route
from incidents.notifications.configuring import save_channel, stored_secrets
from tests.factories import NOW, ChannelFactory, MessageFactory, ProjectFactory, RouteFactory

pytestmark = pytest.mark.django_db
CHANNELS, ROUTES = "/admin/incidents/channel/", "/admin/incidents/route/"
HOOK = "https://hooks.slack.com/services/T0/B0/secret-part"


def errors(response):
    return response.context["adminform"].form.errors


def channel(**columns):
    found = ChannelFactory.build(project=ProjectFactory(), kind="slack", **columns)
    save_channel(found, {"url": HOOK}, now=NOW)
    return found


def test_a_new_channel_is_asked_for_its_kind_and_then_for_the_settings_of_that_kind(admin_client):
    response = admin_client.post(f"{CHANNELS}add/", {"kind": "slack"})
    assert response["Location"] == "?kind=slack"
    page = admin_client.get(f"{CHANNELS}add/?kind=slack").content.decode()
    assert "Webhook address" in page
    project = ProjectFactory()
    sent = {"project": project.pk, "name": "room", "timezone": "UTC", "is_enabled": "on", "setting_url": HOOK}
    assert admin_client.post(f"{CHANNELS}add/?kind=slack", sent).status_code == 302
    stored = Channel.objects.get()
    assert (stored.kind, stored.name, stored_secrets(stored)) == ("slack", "room", {"url": HOOK})
    assert HOOK not in stored.sealed


def test_what_the_service_cannot_use_is_refused_at_its_field(admin_client):
    sent = {"project": ProjectFactory().pk, "name": "room", "timezone": "UTC", "setting_url": "ftp://example.com"}
    response = admin_client.post(f"{CHANNELS}add/?kind=slack", sent)
    assert "http" in errors(response)["setting_url"][0]
    assert not Channel.objects.exists()


@pytest.mark.parametrize(
    ("changes", "most", "field"),
    [({}, 0, "__all__"), ({"name": "db, web"}, 100, "name"), ({"quiet_from": "22:00:05"}, 100, "quiet_until")],
)
def test_what_is_wrong_beside_the_settings_is_refused_too(admin_client, monkeypatch, changes, most, field):
    monkeypatch.setattr("incidents.notifications.configuring.CHANNELS_MAX", most)
    sent = {"project": ProjectFactory().pk, "name": "room", "timezone": "UTC", "setting_url": HOOK}
    response = admin_client.post(f"{CHANNELS}add/?kind=slack", sent | changes)
    assert list(errors(response)) == [field]
    assert not Channel.objects.exists()


def test_a_stored_secret_is_never_shown_and_an_empty_field_keeps_it(admin_client):
    own = channel(name="room")
    page = admin_client.get(f"{CHANNELS}{own.pk}/change/").content.decode()
    assert "secret-part" not in page
    sent = {"project": own.project_id, "name": "renamed", "timezone": "UTC", "is_enabled": "on", "setting_url": ""}
    assert admin_client.post(f"{CHANNELS}{own.pk}/change/", sent).status_code == 302
    own.refresh_from_db()
    assert (own.name, stored_secrets(own)) == ("renamed", {"url": HOOK})
    for path in (CHANNELS, f"{CHANNELS}{own.pk}/history/"):
        assert "secret-part" not in admin_client.get(path).content.decode()


def test_a_stored_token_is_not_sent_to_another_server(admin_client):
    own = ChannelFactory.build(project=ProjectFactory(), kind="ntfy", name="phone")
    save_channel(own, {"topic": "nights", "token": "tk_1"}, now=NOW)
    sent = {"project": own.project_id, "name": "phone", "timezone": "UTC", "is_enabled": "on"}
    response = admin_client.post(
        f"{CHANNELS}{own.pk}/change/", sent | {"setting_server": "https://elsewhere.example", "setting_topic": "mine"}
    )
    assert list(errors(response)) == ["setting_token"]
    own.refresh_from_db()
    assert (own.values, stored_secrets(own)) == ({}, {"topic": "nights", "token": "tk_1"})


def test_the_audit_log_knows_that_a_secret_changed_and_not_what_it_is(admin_client):
    own = channel(name="room")
    sent = {
        "project": own.project_id,
        "name": "renamed",
        "timezone": "UTC",
        "is_enabled": "on",
        "folds": "on",
        "setting_url": f"{HOOK}2",
    }
    admin_client.post(f"{CHANNELS}{own.pk}/change/", sent)
    entry = AuditEntry.objects.get()
    assert entry.changes == {"name": ["room", "renamed"], "setting_url": "changed"}


def test_a_channel_stays_in_its_project(admin_client):
    own = channel(name="room")
    sent = {"project": ProjectFactory().pk, "name": "room", "timezone": "UTC", "is_enabled": "on", "setting_url": ""}
    admin_client.post(f"{CHANNELS}{own.pk}/change/", sent)
    assert Channel.objects.get().project == own.project


def test_saving_a_channel_tries_it_again_at_once(admin_client):
    own = channel(name="room")
    Channel.objects.update(open_since=NOW, probe_at=NOW, failure_count=7)
    sent = {"project": own.project_id, "name": "room", "timezone": "UTC", "is_enabled": "on", "setting_url": HOOK}
    admin_client.post(f"{CHANNELS}{own.pk}/change/", sent)
    own.refresh_from_db()
    assert (own.open_since, own.failure_count) == (None, 0)


def test_a_test_is_written_and_without_an_answer_the_page_says_so(admin_client, monkeypatch):
    monkeypatch.setattr("dashboard.admin.channels.TEST_SECONDS_MAX", 0.0)
    own = channel(name="room")
    response = admin_client.post(CHANNELS, {"action": "send_test", "_selected_action": [own.pk]}, follow=True)
    assert "no answer within" in response.content.decode()
    assert Message.objects.get().kind == "test"


def test_a_removed_channel_is_gone_from_its_routes_and_from_the_list(admin_client):
    own = channel(name="room")
    route = RouteFactory(project=own.project, to=[own])
    admin_client.post(CHANNELS, {"action": "remove", "_selected_action": [own.pk]})
    assert not route.channels.exists()
    assert "room" not in admin_client.get(CHANNELS).content.decode().split("<table")[-1]
    assert Channel.objects.filter(removed_at__isnull=False).exists()


class TestRoutes:
    def sent(self, own, **changes):
        return {
            "project": own.project_id, "name": "all", "position": 1, "channels": [own.pk],
            "conditions": "", "is_enabled": "on",
            "folds": "on",
        } | changes  # fmt: skip

    def test_conditions_are_lines(self, admin_client):
        own = channel()
        admin_client.post(f"{ROUTES}add/", self.sent(own, conditions="tag is db\nmonitor like nightly-*, x"))
        assert Route.objects.get().matchers == [
            {"attribute": "tag", "operator": "is", "values": ["db"]},
            {"attribute": "monitor", "operator": "like", "values": ["nightly-*", "x"]},
        ]
        assert "tag is db; monitor like nightly-*, x" in admin_client.get(ROUTES).content.decode()

    def test_a_line_that_is_no_condition_is_refused_with_what_is_allowed(self, admin_client):
        response = admin_client.post(f"{ROUTES}add/", self.sent(channel(), conditions="colour is red"))
        assert "allowed: monitor, environment, tag, kind" in errors(response)["conditions"][0]

    def test_the_list_shows_a_route_that_catches_nothing(self, admin_client):
        everything = RouteFactory(position=1, name="everything")
        RouteFactory(project=everything.project, position=2, name="never")
        page = admin_client.get(ROUTES).content.decode()
        assert page.count("Route &#x27;everything&#x27; catches everything, and comes before it.") == 1

    def test_a_project_has_so_many_routes_and_no_more(self, admin_client, monkeypatch):
        monkeypatch.setattr("incidents.notifications.configuring.ROUTES_MAX", 1)
        own = channel()
        RouteFactory(project=own.project)
        response = admin_client.post(f"{ROUTES}add/", self.sent(own))
        assert "no more are allowed" in errors(response)["__all__"][0]

    def test_a_channel_of_another_project_is_refused(self, admin_client):
        other = channel(name="foreign")
        response = admin_client.post(f"{ROUTES}add/", self.sent(channel(), channels=[other.pk]))
        assert errors(response)["channels"] == ["These belong to another project: foreign."]

    def test_an_edit_keeps_what_was_not_changed(self, admin_client):
        own = channel()
        route = RouteFactory(
            project=own.project, to=[own], matchers=[{"attribute": "tag", "operator": "is", "values": ["db"]}]
        )
        sent = self.sent(own, name="renamed", position=route.position, conditions="tag is db")
        assert admin_client.post(f"{ROUTES}{route.pk}/change/", sent).status_code == 302
        route.refresh_from_db()
        assert (route.name, len(route.matchers), route.channels.count()) == ("renamed", 1, 1)


def test_a_message_that_was_given_up_is_sent_again_from_its_list(admin_client):
    failed = MessageFactory(status="failed")
    sent = {"action": "send_now", "_selected_action": [failed.pk, MessageFactory(status="sent").pk]}
    page = admin_client.post("/admin/incidents/message/", sent, follow=True).content.decode()
    assert "1 message is sent now." in page
    assert "Some are not sent again" in page
    failed.refresh_from_db()
    assert failed.status == "waiting"


def test_who_may_only_look_sends_nothing_again(staff_client):
    failed = MessageFactory(status="failed")
    staff_client.post("/admin/incidents/message/", {"action": "send_now", "_selected_action": [failed.pk]})
    failed.refresh_from_db()
    assert failed.status == "failed"


def test_a_project_has_one_fallback_route(admin_client):
    project = RouteFactory(is_fallback=True).project
    sent = {"project": project.pk, "name": "other", "position": 2, "is_fallback": "on", "is_enabled": "on"}
    response = admin_client.post(f"{ROUTES}add/", sent)
    assert "The project has a fallback route already." in str(errors(response))
