"""People are notified at their own addresses, as they prefer."""

from datetime import time, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Preferences
from audit.entries import Actor, Source
from audit.models import AuditEntry
from incidents.models import Channel, Message, Notification, Unsubscription
from incidents.notifications import claims
from incidents.notifications.addressing import address
from incidents.notifications.alerts import write_alerts
from incidents.notifications.configuring import ChannelError
from incidents.notifications.personal import (
    confirm_address,
    let_projects_notify,
    projects_that_may_notify,
    save_preferences,
)
from incidents.notifications.previews import preview
from tests.factories import (
    NOW,
    ChannelFactory,
    CheckInFactory,
    CheckInLogFactory,
    IncidentFactory,
    MembershipFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    PersonalChannelFactory,
    PreferencesFactory,
    RouteFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
ANN = Actor("ann", Source.PAGE, NOW)


@pytest.fixture
def ann():
    return MembershipFactory(user__username="ann", user__email="ann@example.com", role="responder")


def fails(project, **columns):
    row = MonitorEnvironmentFactory(monitor__project=project, status="error", **columns)
    return NotificationFactory(incident=OccurrenceFactory(incident__monitor_environment=row).incident).incident


def told(now=NOW):
    address(["ops@example.com"], now=now)
    return list(Message.objects.order_by("id").values_list("recipient", flat=True))


def test_a_member_who_says_so_has_a_channel_that_follows_the_preferences(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    save_preferences(
        Preferences(
            user_id=ann.user_id, timezone="Europe/Vienna", language="de", quiet_from=time(22), quiet_until=time(7)
        ),
        by=ANN,
    )
    channel = Channel.objects.get()
    assert (channel.name, channel.kind, channel.member) == ("@ann", "email", ann)
    assert (channel.timezone, channel.language, channel.quiet_from) == ("Europe/Vienna", "de", time(22))
    entries = AuditEntry.objects.order_by("id").values_list("kind", "action", "object_name")
    assert list(entries) == [("channel", "created", "@ann"), ("preferences", "changed", "ann")]


def test_the_address_is_no_business_of_the_audit_log(ann):
    save_preferences(Preferences(user_id=ann.user_id, email="ann@home.example"), by=ANN)
    assert AuditEntry.objects.get().changes == {"unconfirmed_email": "changed"}


def test_nothing_goes_to_an_address_before_it_is_confirmed(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    RouteFactory(project=ann.project, to=[Channel.objects.get()])
    save_preferences(Preferences(user_id=ann.user_id, email="ann@home.example"), by=ANN)
    fails(ann.project)
    assert told() == ["ann@example.com"]


def test_messages_go_to_an_address_that_was_confirmed_and_to_no_other(ann):
    save_preferences(Preferences(user_id=ann.user_id, email="ann@home.example"), by=ANN)
    assert not confirm_address(ann.user, "ann@elsewhere.example", by=ANN)
    assert confirm_address(ann.user, "ann@home.example", by=ANN)
    assert not confirm_address(ann.user, "ann@home.example", by=ANN)
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    RouteFactory(project=ann.project, to=[Channel.objects.get()])
    fails(ann.project)
    assert told() == ["ann@home.example"]


def test_a_route_notifies_a_member_at_the_address_that_holds_then(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    RouteFactory(project=ann.project, to=[Channel.objects.get()])
    fails(ann.project)
    PreferencesFactory(user=ann.user, email="ann@home.example", quiet_from=None, quiet_until=None)
    assert told() == ["ann@home.example"]


def disable(member):
    member.user.is_active = False
    member.user.save()


@pytest.mark.parametrize("leaves", [lambda member: member.delete(), disable])
def test_who_has_left_is_not_notified_and_that_is_noticed(ann, leaves):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    RouteFactory(project=ann.project, to=[Channel.objects.get()])
    fails(ann.project)
    leaves(ann)
    assert told() == []
    assert Notification.objects.filter(nobody_since=NOW).exists()


def test_a_route_that_tells_owners_notifies_owner_and_assignee(ann):
    owner = PersonalChannelFactory(member=ann)
    assignee = PersonalChannelFactory(member__project=ann.project)
    PersonalChannelFactory(member__project=ann.project)
    RouteFactory(project=ann.project, tells_owner=True)
    incident = fails(ann.project, monitor__owner="user:Ann")
    incident.issue.assignee = assignee.member
    incident.issue.save()
    assert told() == [ann.user.email, assignee.member.user.email]
    reasons = list(incident.duties.order_by("id").values_list("channel", "reason"))
    assert [channel for channel, _ in reasons] == [owner.pk, assignee.pk]
    assert reasons[0][1].endswith("owner of the monitor")


def test_a_route_that_tells_owners_and_finds_none_is_no_route_that_tells_nobody_on_purpose(ann):
    RouteFactory(project=ann.project, tells_owner=True)
    fails(ann.project, monitor__owner="user:somebody")
    assert told() == []
    assert Notification.objects.filter(nobody_since=NOW).exists()


def test_owners_of_the_monitors_of_another_project_are_not_told(ann):
    RouteFactory(project=ann.project, tells_owner=True)
    PersonalChannelFactory(member__user=ann.user)
    fails(ann.project, monitor__owner="user:ann")
    assert told() == []


def test_in_the_own_night_there_is_one_digest_at_its_end(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    RouteFactory(project=ann.project, to=[Channel.objects.get()])
    # It is 11 in Vienna.
    night = Preferences(user_id=ann.user_id, timezone="Europe/Vienna", quiet_from=time(11), quiet_until=time(13))
    save_preferences(night, by=ANN)
    fails(ann.project)
    fails(ann.project)
    told()
    digest = Message.objects.get()
    assert (digest.kind, digest.due_at) == ("digest", NOW + 2 * HOUR)
    night.quiet_until = time(12)
    save_preferences(night, by=ANN)
    digest.refresh_from_db()
    assert digest.due_at == NOW + HOUR


def test_who_wants_no_more_keeps_the_place_in_routes(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    route = RouteFactory(project=ann.project, to=[Channel.objects.get()])
    let_projects_notify(ann.user, [], by=ANN)
    assert (projects_that_may_notify(ann.user), route.channels.count()) == (set(), 1)
    fails(ann.project)
    assert told() == []
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    assert projects_that_may_notify(ann.user) == {ann.project_id}


def test_who_has_unsubscribed_by_a_mail_subscribes_again_by_the_preferences(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    Unsubscription.objects.create(channel=Channel.objects.get(), address=ann.user.email, unsubscribed_at=NOW)
    assert projects_that_may_notify(ann.user) == set()
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    assert projects_that_may_notify(ann.user) == {ann.project_id}


def test_nobody_is_notified_in_projects_of_others(ann):
    stranger = MembershipFactory()
    let_projects_notify(ann.user, [stranger.project_id], by=ANN)
    assert not Channel.objects.exists()


def test_a_name_that_another_channel_has_is_refused(ann):
    ChannelFactory(project=ann.project, name="@ann")
    with pytest.raises(ChannelError, match="has another channel '@ann' already"):
        let_projects_notify(ann.user, [ann.project_id], by=ANN)


def test_who_comes_back_finds_the_own_channel(ann):
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    ann.delete()
    again = MembershipFactory(user=ann.user, project=ann.project)
    let_projects_notify(ann.user, [ann.project_id], by=ANN)
    assert Channel.objects.get().member == again


@pytest.mark.parametrize(("role", "sees"), [("viewer", False), ("responder", True)])
def test_a_mail_to_a_viewer_has_no_private_log(ann, role, sees):
    ann.role = role
    ann.save()
    RouteFactory(project=ann.project, to=[PersonalChannelFactory(member=ann)])
    row = MonitorEnvironmentFactory(monitor__project=ann.project, monitor__has_private_logs=True, status="error")
    checkin = CheckInFactory(monitor_environment=row, status="error")
    CheckInLogFactory(checkin=checkin, body=b"password: hunter2")
    incident = OccurrenceFactory(incident=IncidentFactory(monitor_environment=row, starting_checkin=checkin)).incident
    NotificationFactory(incident=incident)
    told()
    alerts, _ = write_alerts(claims.claim_mails(limit=1, now=NOW))
    (alert,) = alerts.values()
    assert ("hunter2" in alert.incidents[0].log_tail) == sees


def test_a_preview_names_a_person_and_not_the_address(ann):
    PersonalChannelFactory(member=ann)
    RouteFactory(project=ann.project, tells_owner=True)
    row = MonitorEnvironmentFactory(monitor__project=ann.project, monitor__owner="user:ann")
    _, (forecast,) = preview(row.monitor)
    assert [name for name, _ in forecast.notified] == ["@ann"]


def test_the_number_of_statements_does_not_grow_with_the_people(ann):
    RouteFactory(project=ann.project, tells_owner=True)
    counts = []
    for number in range(2):
        for _ in range(3 * number + 1):
            PersonalChannelFactory(member__project=ann.project, member__user=UserFactory(email="x@example.com"))
        fails(ann.project, monitor__owner="user:ann")
        with CaptureQueriesContext(connection) as queries:
            address([], now=NOW)
        counts.append(len(queries))
    assert counts[0] == counts[1]
