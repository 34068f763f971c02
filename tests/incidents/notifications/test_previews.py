"""Who would be told of a failure, and which routes catch nothing."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from incidents.models import Channel
from incidents.notifications import previews
from incidents.notifications.previewing import (
    Forecast,
    Situation,
    Uncaught,
    alike,
    idle_routes,
    uncaught,
    with_every_kind,
)
from incidents.notifications.previews import examine_routes, find_uncaught, preview
from incidents.notifications.routing import KINDS, Attribute, Condition, Facts, Operator, RouteRules
from tests.factories import ChannelFactory, EnvironmentFactory, MonitorEnvironmentFactory, MonitorFactory, RouteFactory

BACKUP = Facts("backup", "production", "", ("db",), "error", "")
ALL = with_every_kind(BACKUP)


def on(attribute, *values, operator=Operator.IS):
    return Condition(Attribute(attribute), operator, values)


def route(number, *conditions, continues=False):
    return RouteRules(number, f"route {number}", conditions, (), continues)


def like(attribute, *patterns):
    return on(attribute, *patterns, operator=Operator.LIKE)


class TestRoutesThatCatchNothing:
    def test_behind_one_that_catches_everything(self):
        idle = idle_routes([route(1), route(2, on("tag", "db"))], ALL)
        assert idle == {2: "route 'route 1' catches everything, and comes before it"}

    def test_one_that_continues_leaves_the_next_ones_their_use(self):
        assert idle_routes([route(1, continues=True), route(2)], ALL) == {}

    @pytest.mark.parametrize(
        ("wide", "narrow", "is_idle"),
        [
            (on("tag", "db", "web"), on("tag", "db"), True),
            (on("tag", "db"), on("tag", "db", "web"), False),
            (like("tag", "d*"), on("tag", "db"), True),
            (like("tag", "w*"), on("tag", "db"), False),
            (like("tag", "d*", "w*"), like("tag", "d*"), True),
            (on("tag", "db"), like("tag", "db"), False),
            (on("kind", "missed"), on("tag", "db"), False),
        ],
    )
    def test_behind_one_that_catches_at_least_the_same(self, wide, narrow, is_idle):
        idle = idle_routes([route(1, wide), route(2, narrow)], None)
        assert idle == ({2: "route 'route 1' catches all that it would, and comes before it"} if is_idle else {})

    def test_a_narrower_one_with_more_conditions_is_useless_behind_a_wider_one(self):
        assert 2 in idle_routes([route(1, on("tag", "db")), route(2, on("kind", "error"), on("tag", "db"))], None)

    def test_if_no_monitor_matches(self):
        assert idle_routes([route(1, on("tag", "web"))], ALL) == {1: "no monitor matches its conditions"}

    def test_if_several_earlier_ones_catch_everything_together(self):
        kinds = [route(number, on("kind", kind)) for number, kind in enumerate(KINDS)]
        assert idle_routes([*kinds, route(9, on("tag", "db"))], ALL) == {9: "earlier routes catch all that it would"}

    def test_nothing_is_claimed_about_monitors_that_were_not_looked_at(self):
        assert idle_routes([route(1, on("tag", "web"))], None) == {}


PAGER, BROKEN = 7, 8
"""Ids of channels; only the first one works."""


def to(number, channel, *conditions, continues=False):
    return RouteRules(number, f"route {number}", conditions, (channel,) if channel else (), continues)


class TestMonitorsThatNobodyWouldBeToldOf:
    WEB = Facts("web", "production", "", ("web",), "error", "")

    @pytest.mark.parametrize(
        ("routes", "missed"),
        [
            ([], ["backup", "web"]),
            ([to(1, PAGER)], []),
            ([to(1, PAGER, on("tag", "db"))], ["web"]),
            ([to(1, PAGER, on("tag", "db")), to(2, PAGER, on("tag", "web"))], []),
            # Of a monitor whose misses alone are told, somebody should know.
            ([to(1, PAGER, on("kind", "missed"))], ["backup", "web"]),
            ([*(to(n, PAGER, on("kind", kind)) for n, kind in enumerate(KINDS))], []),
            # A channel that is disabled, or a mail channel without a mail server.
            ([to(1, BROKEN)], ["backup", "web"]),
            ([to(1, BROKEN, continues=True), to(2, PAGER)], []),
            ([to(1, BROKEN), to(2, PAGER)], ["backup", "web"]),
            # It says that nobody wants to know.
            ([to(1, None, on("tag", "web")), to(2, PAGER)], []),
        ],
        ids=str,
    )
    def test_those_of_which_some_failure_reaches_no_channel(self, routes, missed):
        assert uncaught(routes, {PAGER}, [BACKUP, BACKUP, self.WEB]) == missed


class TestWords:
    ENVIRONMENTS = ("production", "staging")

    def forecast(self, *situations):
        return Forecast(tuple(Situation(*one) for one in situations))

    def test_any_failure_anywhere(self):
        situations = [(environment, kind) for environment in self.ENVIRONMENTS for kind in KINDS]
        assert self.forecast(*situations).when(self.ENVIRONMENTS) == "any failure"

    def test_some_kinds_everywhere(self):
        situations = [(environment, "missed") for environment in self.ENVIRONMENTS]
        assert self.forecast(*situations).when(self.ENVIRONMENTS) == "missed"

    def test_any_failure_somewhere(self):
        situations = [("staging", kind) for kind in KINDS]
        assert self.forecast(*situations).when(self.ENVIRONMENTS) == "staging: any failure"

    def test_different_kinds_in_different_environments(self):
        situations = [("production", "missed"), ("staging", "error")]
        assert self.forecast(*situations).when(self.ENVIRONMENTS) == "production: missed; staging: error"

    def test_the_same_people_are_one_line(self):
        one = Forecast((Situation("production", "missed"),), (("Slack", "a route"),))
        other = Forecast((Situation("production", "error"),), (("Slack", "a route"),))
        assert alike([one, other]) == [Forecast((*one.situations, *other.situations), one.notified)]


def only(attribute, *values):
    return [{"attribute": attribute, "operator": "is", "values": list(values)}]


def previewed(monitor):
    environments, forecasts = preview(monitor)
    return {one.when(environments): one.notified or one.why_nobody for one in forecasts}


@pytest.mark.django_db
class TestPreview:
    def test_the_channels_of_its_routes_by_name(self):
        monitor = MonitorEnvironmentFactory().monitor
        pager = ChannelFactory(project=monitor.project, name="Pager")
        RouteFactory(project=monitor.project, name="errors", to=[pager], matchers=only("kind", "error"))
        RouteFactory(project=monitor.project, name="others", to=[])
        found = previewed(monitor)
        assert found.pop("error") == (("Pager", "route 'errors': kind is error"),)
        assert list(found.values()) == ["the route that catches it has no channel"]

    def test_alert_email_to_if_no_route_catches_it(self, settings):
        settings.ALERT_EMAIL_TO = ["ops@example.com"]
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        assert previewed(MonitorFactory()) == {
            "any failure": (("ops@example.com", "no route catches it: ALERT_EMAIL_TO"),)
        }

    def test_nobody_and_why(self, settings):
        settings.ALERT_EMAIL_TO = []
        (why,) = previewed(MonitorFactory()).values()
        assert why.startswith("no route with a channel that works catches it.")
        assert "ALERT_EMAIL_TO is empty" in why

    def test_a_muted_environment_tells_nobody(self, settings):
        settings.ALERT_EMAIL_TO = []
        monitor = MonitorFactory()
        for name, is_muted in (("production", False), ("staging", True)):
            environment = EnvironmentFactory(project=monitor.project, name=name)
            MonitorEnvironmentFactory(monitor=monitor, environment=environment, is_muted=is_muted)
        assert previewed(monitor)["staging: any failure"] == "muted"

    def test_routes_are_compared_with_the_monitors_of_their_project(self, django_assert_max_num_queries):
        monitor = MonitorFactory(tags=["db"])
        MonitorFactory(tags=["web"])
        used = RouteFactory(project=monitor.project, matchers=only("tag", "db"))
        idle = RouteFactory(project=monitor.project, matchers=only("tag", "web"))
        with django_assert_max_num_queries(4):
            found = examine_routes({monitor.project_id}).idle
        assert found == {idle.pk: "no monitor matches its conditions"}
        assert used.pk not in found

    def test_monitors_that_no_route_catches_are_found_in_their_project_and_everywhere(self, settings):
        settings.ALERT_EMAIL_TO = []
        monitor = MonitorFactory(slug="shop-backup", tags=["db"])
        MonitorFactory(project=monitor.project, slug="shop-mails", tags=["web"])
        RouteFactory(project=monitor.project, matchers=only("tag", "db"), to=[ChannelFactory(project=monitor.project)])
        well = MonitorFactory()
        RouteFactory(project=well.project, to=[ChannelFactory(project=well.project)])

        found = examine_routes({monitor.project_id, well.project_id}).uncaught
        assert found == {monitor.project_id: Uncaught(1, ("shop-mails",))}
        assert find_uncaught() == Uncaught(1, (f"shop-mails of {monitor.project.slug}",))

        Channel.objects.filter(project=well.project).update(is_enabled=False)
        assert find_uncaught().count == 2

        settings.ALERT_EMAIL_TO = ["ops@example.com"]
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        assert examine_routes({monitor.project_id}).uncaught == {}
        assert find_uncaught() == Uncaught()

    def test_a_mail_channel_reaches_nobody_without_a_mail_server(self, settings):
        settings.ALERT_EMAIL_TO = []
        monitor = MonitorFactory()
        mail = ChannelFactory(project=monitor.project, kind="email", values={"to": "a@example.com"})
        RouteFactory(project=monitor.project, to=[mail])
        assert find_uncaught().count == 0
        settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
        assert find_uncaught().count == 1

    def test_a_bounded_number_of_monitors_is_looked_at_and_that_is_said(
        self, settings, monkeypatch, django_assert_max_num_queries
    ):
        settings.ALERT_EMAIL_TO = []
        monkeypatch.setattr(previews, "LOOKED_AT_MAX", 3)
        project = MonitorFactory().project
        for _ in range(5):
            MonitorFactory(project=project)
        RouteFactory(project=project, matchers=only("tag", "db"), to=[ChannelFactory(project=project)])
        with django_assert_max_num_queries(7):
            found = find_uncaught()
        assert (found.count, found.is_complete) == (3, False)
        assert "(not all monitors were compared)" in found.sentence()

    def test_the_command_shows_it(self):
        monitor = MonitorFactory(slug="backup")
        RouteFactory(project=monitor.project, name="all", to=[ChannelFactory(project=monitor.project, name="Pager")])
        out = StringIO()
        call_command("notify", "preview", "backup", stdout=out)
        assert out.getvalue() == "any failure: Pager (route 'all' catches everything)\n"
        with pytest.raises(CommandError, match="'nothing' is no monitor"):
            call_command("notify", "preview", "nothing")
