"""Failures of monitors that depend on others: held while people know of the other one, and never lost."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from incidents.models import Channel, Message, Notification
from incidents.notifications.addressing import address, address_again
from incidents.notifications.alerts import write_alerts
from incidents.notifications.channels import wording
from incidents.notifications.holds import HOLD_MAX, RECOVERY, WAIT_MAX, WAITS
from monitors.models import MonitorEnvironment
from tests.factories import (
    NOW,
    ChannelFactory,
    DependencyFactory,
    EnvironmentFactory,
    MaintenanceWindowFactory,
    MonitorEnvironmentFactory,
    MonitorFactory,
    NotificationFactory,
    OccurrenceFactory,
    ProjectFactory,
    RouteFactory,
)

pytestmark = pytest.mark.django_db
DEFAULT = "ops@example.com"
MINUTE = timedelta(minutes=1)


class World:
    """Monitors of one project in one environment, which fail and recover."""

    def __init__(self):
        self.project = ProjectFactory()
        self.environment = EnvironmentFactory(project=self.project, name="production")
        self.incidents = {}

    def monitor(self, slug, *upstreams, **columns):
        monitor = MonitorFactory(project=self.project, slug=slug, **columns)
        for upstream in upstreams:
            DependencyFactory(downstream=monitor, upstream=upstream)
        MonitorEnvironmentFactory(monitor=monitor, environment=self.environment, status="ok", **NOTHING_DUE)
        return monitor

    def fails(self, monitor, at=NOW):
        row = MonitorEnvironment.objects.get(monitor=monitor)
        MonitorEnvironment.objects.filter(pk=row.pk).update(status="error", ok_streak=0)
        row.refresh_from_db()
        incident = OccurrenceFactory(incident__monitor_environment=row, incident__opened_at=at).incident
        self.incidents[monitor] = incident
        if not row.is_muted:
            NotificationFactory(incident=incident, created_at=at)

    def recovers(self, monitor, at=NOW):
        MonitorEnvironment.objects.filter(monitor=monitor).update(status="ok")
        incident = self.incidents[monitor]
        type(incident).objects.filter(pk=incident.pk).update(
            resolved_at=at, resolving_checkin_id=F("starting_checkin_id")
        )
        NotificationFactory(incident=incident, transition="resolved", created_at=at)


DUE = {"pending_slot": NOW, "next_checkin": NOW, "next_checkin_latest": NOW + 10 * MINUTE}
NOTHING_DUE = {"pending_slot": None, "next_checkin": None, "next_checkin_latest": None}


@pytest.fixture
def world():
    return World()


def told(monitor, now=NOW):
    """What people have been told about a monitor, when delivery has run at `now`."""
    address([DEFAULT], now=now)
    address([DEFAULT], now=now)
    messages = Message.objects.filter(incident__monitor_environment__monitor=monitor).exclude(status="folded")
    return list(messages.order_by("id").values_list("kind", flat=True))


def sent():
    """Receivers have accepted all messages so far."""
    Message.objects.filter(status="waiting").update(status="sent", finished_at=NOW)


def held_by(monitor):
    return Notification.objects.get(
        incident__monitor_environment__monitor=monitor, transition="opened", addressed_at=None
    ).held_by


def test_a_failure_behind_another_is_held_and_says_behind_which(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    assert told(db) == ["opened"]
    world.fails(app)
    assert told(app) == []
    assert held_by(app) == "it depends on db (production), which is failing"


def test_both_found_by_one_tick_the_root_is_told_first(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(app)
    world.fails(db)
    assert told(app) == []
    assert told(db) == ["opened"]
    assert told(app, now=NOW + MINUTE) == []
    assert held_by(app) == "it depends on db (production), which is failing"


def test_still_failing_ten_minutes_after_the_root_recovered_it_is_told(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    sent()
    world.fails(app)
    told(app)
    over = NOW + 30 * MINUTE
    world.recovers(db, at=over)
    assert told(db, now=over) == ["opened", "resolved"]
    assert told(app, now=over + RECOVERY - MINUTE) == []
    assert told(app, now=over + RECOVERY) == ["opened"]


def test_recovered_meanwhile_nobody_is_told_neither_of_the_beginning_nor_of_the_end(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    world.fails(app)
    told(app)
    world.recovers(app, at=NOW + MINUTE)
    for minutes in (1, 20, 600):
        assert told(app, now=NOW + minutes * MINUTE) == []
    assert not Notification.objects.filter(addressed_at=None).exists()
    address_again([DEFAULT], now=NOW + 700 * MINUTE)
    assert told(app) == []


def test_after_six_hours_it_is_told_although_the_root_still_fails(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    sent()
    world.fails(app)
    assert told(app, now=NOW + HOLD_MAX - MINUTE) == []
    assert told(app, now=NOW + HOLD_MAX) == ["opened"]
    world.recovers(app, at=NOW + HOLD_MAX)
    sent()
    assert told(app, now=NOW + HOLD_MAX) == ["opened", "resolved"]


def mute(world, db):
    MonitorEnvironment.objects.filter(monitor=db).update(is_muted=True)


def archive(world, db):
    issue = world.incidents[db].issue
    issue.status = "archived"
    issue.save()


def disable(world, db):
    db.status = "disabled"
    db.save()


def maintain(world, db):
    MaintenanceWindowFactory(project=world.project, monitor=db, starts_at=NOW - MINUTE, ends_at=NOW + MINUTE)


def fail_to_deliver(world, db):
    Message.objects.update(status="failed", finished_at=NOW)


@pytest.mark.parametrize("happens", [mute, archive, disable, maintain, fail_to_deliver])
def test_behind_a_failure_that_people_do_not_hear_of_it_is_told_at_once(world, happens):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    happens(world, db)
    world.fails(app)
    assert told(app) == ["opened"]


def test_a_message_that_waits_for_a_channel_left_alone_is_no_telling(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    RouteFactory(project=world.project, to=[ChannelFactory(project=world.project)])
    world.fails(db)
    told(db)
    world.fails(app)
    assert told(app) == []
    Channel.objects.update(open_since=NOW, probe_at=NOW)
    assert told(app, now=NOW + MINUTE) == ["opened"]


def test_a_mail_that_is_tried_in_vain_for_ten_minutes_is_no_telling(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    world.fails(app)
    assert told(app, now=NOW + 11 * MINUTE) == [], "nobody has tried to send it"
    Message.objects.update(attempt_count=3)
    assert told(app, now=NOW + 12 * MINUTE) == ["opened"]


def test_if_the_message_about_the_root_fails_later_the_held_one_is_told(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    world.fails(app)
    assert told(app) == []
    Message.objects.update(status="failed", finished_at=NOW)
    assert told(app, now=NOW + MINUTE) == ["opened"]


def test_behind_one_that_is_held_itself_it_is_held_by_the_root(world):
    network = world.monitor("network")
    db = world.monitor("db", network)
    app = world.monitor("app", db)
    world.fails(network)
    told(network)
    world.fails(db)
    world.fails(app)
    assert (told(db), told(app)) == ([], [])
    assert held_by(app) == "it depends on network (production), which is failing"


def test_another_environment_of_the_upstream_holds_nothing(world):
    db = MonitorFactory(project=world.project, slug="db")
    staging = EnvironmentFactory(project=world.project, name="staging")
    MonitorEnvironmentFactory(monitor=db, environment=staging, status="ok")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    world.fails(app)
    assert told(app) == ["opened"]


def test_a_child_waits_for_the_verdict_on_its_parent(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    due = {"pending_slot": NOW, "next_checkin": NOW, "next_checkin_latest": NOW + 10 * MINUTE}
    MonitorEnvironment.objects.filter(monitor=db).update(**due)
    world.fails(app, at=NOW + MINUTE)
    assert told(app, now=NOW + MINUTE) == []
    assert held_by(app) == WAITS
    world.fails(db, at=NOW + 10 * MINUTE)
    assert told(app, now=NOW + 10 * MINUTE) == []
    assert told(app, now=NOW + 11 * MINUTE) == []
    assert held_by(app) == "it depends on db (production), which is failing"


def test_a_child_that_recovers_while_it_waits_is_told_as_failed_and_recovered(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    due = {"pending_slot": NOW, "next_checkin": NOW, "next_checkin_latest": NOW + 10 * MINUTE}
    MonitorEnvironment.objects.filter(monitor=db).update(**due)
    world.fails(app)
    assert told(app) == []
    world.recovers(app, at=NOW + MINUTE)
    assert told(app, now=NOW + MINUTE) == ["passed"]


def test_the_verdict_is_awaited_for_fifteen_minutes_at_most(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    due = {"pending_slot": NOW, "next_checkin": NOW, "next_checkin_latest": NOW + 60 * MINUTE}
    MonitorEnvironment.objects.filter(monitor=db).update(**due)
    world.fails(app)
    assert told(app, now=NOW + WAIT_MAX - MINUTE) == []
    assert told(app, now=NOW + WAIT_MAX) == ["opened"]


def test_muted_while_it_is_held_it_is_not_told_at_the_end_and_neither_is_its_recovery(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(db)
    told(db)
    world.fails(app)
    told(app)
    MonitorEnvironment.objects.filter(monitor=app).update(is_muted=True)
    assert told(app, now=NOW + HOLD_MAX) == []
    MonitorEnvironment.objects.filter(monitor=app).update(is_muted=False)
    world.recovers(app, at=NOW + HOLD_MAX)
    assert told(app, now=NOW + HOLD_MAX + MINUTE) == []


def test_who_was_told_before_the_root_failed_is_told_of_the_end(world):
    db = world.monitor("db")
    app = world.monitor("app", db)
    world.fails(app)
    assert told(app) == ["opened"]
    sent()
    world.fails(db)
    told(db)
    world.recovers(app)
    assert told(app) == ["opened", "resolved"]


def test_the_number_of_statements_does_not_grow(world):
    def statements(count):
        db = world.monitor(f"db-{count}")
        world.fails(db)
        told(db)
        for number in range(count):
            world.fails(world.monitor(f"app-{count}-{number}", db))
        with CaptureQueriesContext(connection) as caught:
            address([DEFAULT], now=NOW)
        return len(caught)

    assert statements(2) == statements(20)


class TestTheMessageOfARoot:
    def reason(self, monitor, now=NOW):
        """What the newest message about a monitor says."""
        address([DEFAULT], now=now)
        about = Message.objects.filter(incident__monitor_environment__monitor=monitor)
        found = about.select_related(
            "incident__monitor_environment__monitor__project", "incident__monitor_environment__environment", "storm"
        )
        [alert] = write_alerts([found.latest("id")])[0].values()
        return alert.reason

    def behind(self, world, count):
        """So many monitors that wait for the verdict on a database, which then fails."""
        db = world.monitor("db", name="Database")
        MonitorEnvironment.objects.filter(monitor=db).update(**DUE)
        for number in range(count):
            world.fails(world.monitor(f"app-{number:02}", db, name=f"App {number}"))
        address([DEFAULT], now=NOW)
        MonitorEnvironment.objects.filter(monitor=db).update(**NOTHING_DUE)
        world.fails(db)
        return db

    def test_it_names_the_monitors_that_are_held_because_of_it(self, world):
        reason = self.reason(self.behind(world, 2))
        assert reason.endswith("Messages about 2 jobs are held because of it: App 0, App 1.")

    def test_it_names_ten_and_counts_the_others(self, world):
        reason = self.reason(self.behind(world, 13))
        assert reason.endswith("App 8, App 9 and 3 more.")
        assert "Messages about 13 jobs are held" in reason

    def test_it_names_what_is_held_behind_it_over_others_that_fail(self, world):
        db = world.monitor("db")
        service = world.monitor("service", db, name="Service")
        app = world.monitor("app", service, name="App")
        world.fails(db)
        told(db)
        for monitor in (service, app):
            world.fails(monitor)
            told(monitor)
        sent()
        world.recovers(db, at=NOW + MINUTE)
        assert self.reason(db, now=NOW + MINUTE).endswith("held because of it: App, Service.")

    def test_what_is_held_because_of_another_one_or_told_is_not_named(self, world):
        db, network = world.monitor("db"), world.monitor("network")
        app = world.monitor("app", network)
        loud = world.monitor("loud", db)
        world.fails(loud)
        told(loud)
        world.fails(network)
        told(network)
        world.fails(app)
        told(app)
        world.fails(db)
        assert "held" not in self.reason(db)

    def test_in_a_storm_its_line_names_three_first_of_all_and_counts_the_others(self, world):
        db, other = world.monitor("db"), world.monitor("other")
        for number in range(5):
            world.fails(world.monitor(f"app-{number}", db, name=f"App {number}"))
        for root in (other, db):
            world.fails(root)
        Notification.objects.update(tick=NOW)
        address([DEFAULT], now=NOW)
        digest = Message.objects.select_related("storm__project", "channel", "incident").get()
        [alert] = write_alerts([digest])[0].values()
        lines = {one.slug: wording.entry(one) for one in alert.incidents}
        assert lines["db"].startswith("Messages about 5 jobs are held because of it: App 0, App 1, App 2 and 2 more. R")
        assert "held" not in lines["other"]
        assert [one.slug for one in alert.incidents] == ["db", "other"]
