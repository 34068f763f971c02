"""Routes on pages: forms, their order, and the preview of who would be notified."""

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from incidents.models import Route
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def channel(monitor):
    return factories.ChannelFactory(project=monitor.project, name="pager")


@pytest.fixture
def listing(monitor):
    return reverse("project-channels", args=[monitor.project.slug])


@pytest.fixture
def add(monitor):
    return reverse("new-route", args=[monitor.project.slug])


def typed(channel, **changes):
    return {"name": "databases", "channels": [channel.pk], "conditions": "tag is db", "is_enabled": "on"} | changes


def names(project):
    return list(Route.objects.filter(project=project).order_by("position").values_list("name", flat=True))


def test_an_editor_adds_a_route_which_comes_last(as_role, channel, add, listing):
    factories.RouteFactory(project=channel.project, name="first", position=7)
    escalation = "30 minutes: pager"
    page = as_role("editor").post(add, typed(channel, escalation=escalation, reminder_hours="2"), follow=True)
    assert page.redirect_chain == [(listing, 302)]
    made = Route.objects.get(name="databases")
    assert (made.position, made.matchers[0]["values"], list(made.channels.all())) == (8, ["db"], [channel])
    assert made.steps == [{"minutes": 30, "channels": [channel.pk]}]
    assert "databases tag is db" in words(page)
    assert "reminder after 2 hours 30 minutes: pager" in words(page)
    entry = AuditEntry.objects.get(kind="route", action="created")
    assert (entry.source, entry.changes["conditions"]) == ("page", [None, "tag is db"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"conditions": "colour is red"}, "conditions"),
        ({"escalation": "30 minutes: nobody"}, "escalation"),
        ({"escalation": "soon: pager"}, "escalation"),
        ({"reminder_hours": "-1"}, "reminder_hours"),
        ({"name": ""}, "name"),
        ({"name": "taken"}, "__all__"),
        ({"channels": ["0"]}, "channels"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field(as_role, channel, add, changes, field):
    factories.RouteFactory(project=channel.project, name="taken")
    response = as_role("editor").post(add, typed(channel, **changes))
    assert (response.status_code, list(response.context["form"].errors)) == (422, [field])
    assert Route.objects.count() == 1


def test_a_channel_of_another_project_cannot_be_chosen(as_role, channel, add):
    response = as_role("editor").post(add, typed(channel, channels=[factories.ChannelFactory().pk]))
    assert "channels" in response.context["form"].errors


def test_an_edit_writes_what_was_changed(as_role, channel):
    route = factories.RouteFactory(project=channel.project, name="databases", to=[channel], position=3)
    address = reverse("route", args=[channel.project.slug, route.pk])
    as_role("editor").post(address, typed(channel, name="all", conditions="", channels=[]))
    route.refresh_from_db()
    assert (route.name, route.matchers, route.position, route.channels.count()) == ("all", [], 3, 0)
    assert AuditEntry.objects.get(action="changed").changes["name"] == ["databases", "all"]


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(as_role, channel):
    route = factories.RouteFactory(project=channel.project, name="theirs", to=[channel])
    address = reverse("route", args=[channel.project.slug, route.pk])
    loaded = {"initial-name": "before", "initial-is_enabled": "True", "initial-conditions": ""}
    sent = typed(channel, name="mine", conditions="") | loaded | {"initial-channels": [channel.pk]}
    response = as_role("editor").post(address, sent)
    assert "changed from “before” to “theirs” while this page was open" in words(response)


def test_buttons_change_the_order(as_role, channel, listing):
    first, second, third = (
        factories.RouteFactory(project=channel.project, name=name, position=number)
        for number, name in ((2, "a"), (2, "b"), (9, "c"))
    )
    fallback = factories.RouteFactory(project=channel.project, name="z", position=0, is_fallback=True)
    client = as_role("editor")

    def press(route, what):
        client.post(reverse("act-on-route", args=[channel.project.slug, route.pk]), {"do": what})
        return [name for name in names(channel.project) if name != "z"]

    assert press(third, "up") == ["a", "c", "b"]
    assert press(first, "down") == ["c", "a", "b"]
    assert press(second, "down") == ["c", "a", "b"]
    assert press(fallback, "down") == ["c", "a", "b"]
    assert AuditEntry.objects.filter(kind="route", object_id=third.pk, action="changed").count() == 2


def test_a_route_is_deleted(as_role, channel):
    route = factories.RouteFactory(project=channel.project)
    act = reverse("act-on-route", args=[channel.project.slug, route.pk])
    assert "was deleted." in words(as_role("editor").post(act, {"do": "delete"}, follow=True))
    assert not Route.objects.exists()
    assert AuditEntry.objects.get(kind="route", action="deleted").object_name == route.name


def test_a_route_that_catches_nothing_is_marked_with_the_reason(as_role, channel, listing):
    factories.RouteFactory(project=channel.project, name="everything", position=1, to=[channel])
    factories.RouteFactory(project=channel.project, name="never", position=2)
    page = words(as_role("viewer").get(listing))
    assert "never everything catches nothing route 'everything' catches everything, and comes before it" in page


def test_the_preview_says_who_would_be_notified_of_which_failure(as_role, channel, monitor, environment):
    room = factories.ChannelFactory(project=monitor.project, name="room")
    missed = {"attribute": "kind", "operator": "is", "values": ["missed"]}
    steps = [{"minutes": 10, "channels": [room.pk]}, {"minutes": 20, "channels": [channel.pk]}]
    factories.RouteFactory(project=monitor.project, name="misses", position=1, matchers=[missed], to=[channel])
    factories.RouteFactory(project=monitor.project, name="rest", position=2, to=[room], steps=steps)
    address = reverse("preview-routes", args=[monitor.project.slug])
    client = as_role("viewer")
    page = words(client.get(address, {"monitor": monitor.slug, "kind": "missed"}))
    assert f"If {monitor.name} failed now: missed: pager (route 'misses': kind is missed)" in page
    page = words(client.get(address, {"monitor": monitor.slug, "kind": "error"}))
    assert "error: room (route 'rest' catches everything) not acknowledged after 10 minutes: room" in page
    assert "not acknowledged after 30 minutes: pager" in page
    # Without JavaScript the answer is on the page itself.
    listing = reverse("project-channels", args=[monitor.project.slug])
    assert "missed: pager" in words(client.get(listing, {"monitor": monitor.slug}))


@pytest.mark.parametrize("slug", ["unknown", "a\x00b", "<b>"])
def test_the_preview_of_a_monitor_that_there_is_not_says_so(as_role, monitor, slug):
    address = reverse("preview-routes", args=[monitor.project.slug])
    assert "The project has no monitor with the slug" in words(as_role("viewer").get(address, {"monitor": slug}))


def test_conditions_that_are_typed_show_what_they_match(as_role, monitor, environment):
    monitor.tags = ["db"]
    monitor.save()
    factories.MonitorEnvironmentFactory(monitor__project=monitor.project)
    address = reverse("route-matches", args=[monitor.project.slug])
    client = as_role("viewer")
    assert f"1 of 2 environments of monitors {monitor.slug}" in words(client.get(address, {"conditions": "tag is db"}))
    assert "2 of 2" in words(client.get(address, {"conditions": "kind is missed"}))
    assert "allowed: monitor, environment, tag" in words(client.get(address, {"conditions": "colour is red"}))


def test_who_may_not_edit_routes_sees_them_and_no_form(as_role, channel, listing):
    route = factories.RouteFactory(project=channel.project, name="databases")
    client = as_role("responder")
    assert "databases" in words(client.get(listing))
    assert client.get(reverse("route", args=[channel.project.slug, route.pk])).status_code == 403


def test_monitors_that_no_route_catches_are_named_until_one_does(as_role, channel, monitor, listing, settings):
    settings.ALERT_EMAIL_TO = []
    route = factories.RouteFactory(project=monitor.project, to=[channel])
    route.matchers = [{"attribute": "tag", "operator": "is", "values": ["db"]}]
    route.save()
    page = words(as_role("viewer").get(listing))
    assert f"Nobody would be notified of some failures of 1 monitor: {monitor.slug}." in page
    route.matchers = []
    route.save()
    assert "Nobody would be notified" not in words(as_role("viewer").get(listing))
