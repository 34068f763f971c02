"""Reminders and escalation of incidents that nobody has acknowledged, from their opening to their end."""

import threading
from datetime import time, timedelta

import pytest
from django.db import connection, connections, transaction

from audit.entries import Actor, Source
from incidents.handling import acknowledge
from incidents.models import Channel, Duty, FollowUp, Incident, Message, Notification, Storm, Unsubscription
from incidents.notifications import claims
from incidents.notifications.addressing import address
from incidents.notifications.alerts import write_alerts
from incidents.notifications.configuring import remove_channel
from incidents.notifications.pursuing import pursue
from monitors.models import Monitor, MonitorEnvironment
from tests.factories import NOW, ChannelFactory, NotificationFactory, RouteFactory
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ANNA = Actor("anna", Source.LINK, NOW)


@pytest.fixture
def incident():
    """An incident that opened, and that is not routed yet."""
    return NotificationFactory().incident


def channel(incident, name, **columns):
    return ChannelFactory(project=incident.monitor_environment.monitor.project, name=name, **columns)


def route(incident, *channels, steps=(), **columns):
    stored = [{"minutes": minutes, "channels": [one.id for one in whom]} for minutes, *whom in steps]
    project = incident.monitor_environment.monitor.project
    return RouteFactory(project=project, to=channels, steps=stored, **columns)


def opens(default=()):
    address(list(default), now=NOW)


def resolves(incident):
    Incident.objects.filter(id=incident.id).update(resolved_at=NOW, resolving_checkin=incident.starting_checkin)
    NotificationFactory(incident=incident, transition="resolved")
    address([], now=NOW)


def told(*kinds):
    """Return who was told what after the opening, by the names of channels, as far as it is not taken back."""
    rows = Message.objects.exclude(kind="opened").exclude(status__in=["superseded", "folded"]).order_by("id")
    names = {str(one.guid): one.name for one in Channel.objects.all()}
    return [(row.kind, names.get(row.recipient, row.recipient)) for row in rows if not kinds or row.kind in kinds]


def sends_all():
    Message.objects.filter(status="waiting").update(status="sent", finished_at=NOW)


# --- reminders


def test_who_was_told_is_reminded_after_four_hours_then_at_longer_intervals(incident):
    route(incident, channel(incident, "chat"))
    opens()
    reminded = [hours for hours in range(80) if pursue(now=NOW + hours * HOUR)]
    assert reminded == [4, 12, 28, 52, 76]
    assert Notification.objects.get(transition="reminder").number == 5
    assert list(Duty.objects.filter(message__kind="reminder").order_by("id").values_list("number", flat=True)) == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_route_says_after_how_many_hours_or_never(incident):
    route(incident, channel(incident, "never"), reminder_hours=0, continues=True, position=1)
    route(incident, channel(incident, "hourly"), reminder_hours=1, position=2)
    opens()
    pursue(now=NOW + HOUR)
    assert told() == [("reminder", "hourly")]


def test_routes_that_remind_after_the_same_time_remind_together(incident):
    route(incident, channel(incident, "one"), continues=True, position=1)
    route(incident, channel(incident, "two"), reminder_hours=4, position=2)
    opens()
    assert FollowUp.objects.count() == 1
    pursue(now=NOW + 4 * HOUR)
    assert told() == [("reminder", "one"), ("reminder", "two")]


def test_addresses_of_alert_email_to_are_reminded_as_the_setting_says(incident, settings):
    settings.REMINDER_HOURS = 2
    settings.ALERT_EMAIL_TO = ["ops@example.com"]
    opens(["ops@example.com", "gone@example.com"])
    pursue(now=NOW + 2 * HOUR - MINUTE)
    assert told() == []
    pursue(now=NOW + 2 * HOUR)
    assert told() == [("reminder", "ops@example.com")], "the other address was taken out meanwhile"


def test_an_address_that_has_unsubscribed_is_not_reminded(incident):
    mail = channel(incident, "mail", kind="email", values={"to": "a@example.com, b@example.com"})
    route(incident, mail)
    opens()
    Unsubscription.objects.create(channel=mail, address="a@example.com", unsubscribed_at=NOW)
    pursue(now=NOW + 4 * HOUR)
    assert told() == [("reminder", "b@example.com")]


def test_the_setting_zero_reminds_nobody(incident, settings):
    settings.REMINDER_HOURS = 0
    opens(["ops@example.com"])
    assert not FollowUp.objects.exists()


def test_pagers_that_remind_by_themselves_are_not_reminded(incident):
    route(incident, channel(incident, "pager", kind="pagerduty"), channel(incident, "chat"))
    opens()
    pursue(now=NOW + 4 * HOUR)
    assert told() == [("reminder", "chat")]


def test_the_newest_reminder_replaces_one_that_was_not_sent(incident):
    route(incident, channel(incident, "chat"))
    opens()
    pursue(now=NOW + 4 * HOUR)
    pursue(now=NOW + 12 * HOUR)
    states = Message.objects.filter(kind="reminder").order_by("number").values_list("number", "status")
    assert list(states) == [(1, "superseded"), (2, "waiting")]


def test_one_that_is_on_the_way_is_not_taken_back(incident):
    route(incident, channel(incident, "chat"))
    opens()
    sends_all()
    pursue(now=NOW + 4 * HOUR)
    assert len(claims.claim_for_lanes(now=NOW + 4 * HOUR)) == 1
    pursue(now=NOW + 12 * HOUR)
    assert Message.objects.filter(kind="reminder", status="waiting").count() == 2


def test_nobody_is_reminded_of_a_muted_incident_until_it_is_unmuted(incident):
    route(incident, channel(incident, "chat"))
    opens()
    MonitorEnvironment.objects.update(is_muted=True)
    pursue(now=NOW + 4 * HOUR)
    assert told() == []
    MonitorEnvironment.objects.update(is_muted=False)
    pursue(now=NOW + 5 * HOUR)
    assert told() == [("reminder", "chat")]


def test_nobody_is_reminded_of_an_incident_that_is_over(incident):
    route(incident, channel(incident, "chat"))
    opens()
    sends_all()
    resolves(incident)
    pursue(now=NOW + 4 * HOUR)
    assert told() == [("resolved", "chat")]


def test_a_reminder_that_was_not_sent_is_dropped_when_the_incident_ends(incident):
    route(incident, channel(incident, "chat"))
    opens()
    sends_all()
    pursue(now=NOW + 4 * HOUR)
    resolves(incident)
    assert Message.objects.get(kind="reminder").status == "superseded"
    assert told() == [("resolved", "chat")]


# --- escalation


def test_steps_are_told_in_turn_and_again_as_often_as_the_route_says(incident):
    chat, leads, boss = (channel(incident, name) for name in ("chat", "leads", "boss"))
    route(incident, chat, steps=[(10, leads), (20, boss, leads)], loops=1, reminder_hours=0)
    opens()
    happened = {}
    for minute in range(300):
        before = len(told())
        pursue(now=NOW + minute * MINUTE)
        if new := told()[before:]:
            happened[minute] = [name for _, name in new]
    assert {minute: sorted(names) for minute, names in happened.items()} == {
        10: ["leads"],
        30: ["boss", "leads"],
        40: ["leads"],
        60: ["boss", "leads"],
    }


def test_a_duty_says_which_step_of_which_route_it_was(incident):
    route(incident, channel(incident, "chat"), name="night", steps=[(10, channel(incident, "leads"))])
    opens()
    pursue(now=NOW + 10 * MINUTE)
    assert Duty.objects.get(message__kind="escalated").reason == "step 1 of the escalation of route 'night'"


def test_a_route_without_channels_may_escalate(incident):
    route(incident, steps=[(10, channel(incident, "leads"))])
    opens()
    pursue(now=NOW + 10 * MINUTE)
    assert told() == [("escalated", "leads")]


def test_acknowledging_ends_it(incident):
    route(incident, channel(incident, "chat"), steps=[(10, channel(incident, "leads"))])
    opens()
    acknowledge(incident.guid, by=ANNA, via="a link", now=NOW)
    pursue(now=NOW + 10 * MINUTE)
    assert told("escalated") == []


def test_who_was_told_by_a_step_is_told_of_the_end(incident):
    route(incident, channel(incident, "chat"), steps=[(10, channel(incident, "leads"))])
    opens()
    sends_all()
    pursue(now=NOW + 10 * MINUTE)
    sends_all()
    resolves(incident)
    assert sorted(told("resolved")) == [("resolved", "chat"), ("resolved", "leads")]


def test_who_was_not_told_yet_when_it_ends_is_told_nothing(incident):
    route(incident, channel(incident, "chat"), steps=[(10, channel(incident, "leads"))])
    opens()
    sends_all()
    pursue(now=NOW + 10 * MINUTE)
    resolves(incident)
    assert told() == [("resolved", "chat")]


def test_a_step_whose_channel_was_removed_is_passed_over_at_once(incident):
    gone, boss = channel(incident, "gone"), channel(incident, "boss")
    route(incident, channel(incident, "chat"), steps=[(10, gone), (20, boss)])
    opens()
    remove_channel(gone, now=NOW, by=None)
    pursue(now=NOW + 10 * MINUTE)
    assert told() == [("escalated", "boss")]


def test_after_a_step_whose_channel_fails_the_next_one_comes_at_once(incident):
    broken = channel(incident, "broken", open_since=NOW, probe_at=NOW)
    route(incident, channel(incident, "chat"), steps=[(10, broken), (20, channel(incident, "boss"))])
    opens()
    pursue(now=NOW + 10 * MINUTE)
    pursue(now=NOW + 10 * MINUTE)
    assert told() == [("escalated", "broken"), ("escalated", "boss")]


def test_an_edit_of_the_route_changes_nothing_about_what_is_under_way(incident):
    leads, boss = channel(incident, "leads"), channel(incident, "boss")
    edited = route(incident, channel(incident, "chat"), steps=[(10, leads)])
    opens()
    edited.steps = [{"minutes": 1, "channels": [boss.id]}]
    edited.save()
    pursue(now=NOW + 9 * MINUTE)
    assert told() == []
    pursue(now=NOW + 10 * MINUTE)
    assert told() == [("escalated", "leads")]


def test_the_same_sweep_twice_tells_once(incident):
    route(incident, channel(incident, "chat"), steps=[(10, channel(incident, "leads"))])
    opens()
    assert pursue(now=NOW + 10 * MINUTE) == 1
    assert pursue(now=NOW + 10 * MINUTE) == 0


def test_two_routes_that_are_due_at_once_tell_each_recipient_once(incident):
    chat, leads = channel(incident, "chat"), channel(incident, "leads")
    route(incident, chat, steps=[(10, leads)], continues=True, position=1)
    route(incident, chat, steps=[(10, leads, chat)], position=2)
    opens()
    pursue(now=NOW + 10 * MINUTE)
    assert sorted(told()) == [("escalated", "chat"), ("escalated", "leads")]


# --- many at once


def many(count, *, steps=(), **columns):
    """Incidents of one project that one chat was told of, each by itself."""
    first = NotificationFactory().incident
    project = first.monitor_environment.monitor.project
    chat = ChannelFactory(project=project, name="chat", folds=False, **columns)
    leads = ChannelFactory(project=project, name="leads")
    route(first, chat, steps=[(10, leads)] if steps else [], reminder_hours=1)
    others = [
        NotificationFactory(incident__monitor_environment__monitor__project=project).incident for _ in range(count - 1)
    ]
    opens()
    sends_all()
    return [first, *others]


def digests():
    """Return the digests that are not taken back: the channel, and about how many incidents each is."""
    found = Message.objects.filter(kind="digest").exclude(status="superseded").order_by("id")
    return [(str(message.channel), message.duties.values("incident").distinct().count()) for message in found]


def folded(count, *, steps=()):
    incidents = many(count, steps=steps)
    Channel.objects.update(folds=True)
    return incidents


def test_more_than_ten_reminders_of_one_recipient_are_one_message():
    folded(11)
    pursue(now=NOW + HOUR)
    assert (told(), digests()) == ([("digest", "chat")], [("chat", 11)])
    assert Storm.objects.get().cause == "reminder"


def test_ten_are_told_one_by_one_and_so_are_more_where_nothing_is_folded():
    folded(10)
    pursue(now=NOW + HOUR)
    assert digests() == []
    Message.objects.all().delete()
    many(11)
    pursue(now=NOW + HOUR)
    assert digests() == []


def test_the_next_reminder_is_a_digest_of_its_own():
    folded(11)
    pursue(now=NOW + HOUR)
    sends_all()
    pursue(now=NOW + 3 * HOUR)
    assert digests() == [("chat", 11), ("chat", 11)]


def test_a_digest_that_was_not_sent_is_replaced_by_the_next():
    folded(11)
    pursue(now=NOW + HOUR)
    pursue(now=NOW + 3 * HOUR)
    assert digests() == [("chat", 11)]


def test_a_digest_forgets_incidents_that_are_over_or_acknowledged_before_it_is_sent():
    first, second, *_ = folded(12)
    pursue(now=NOW + HOUR)
    acknowledge(first.guid, by=ANNA, via="a link", now=NOW + HOUR)
    resolves(second)
    assert digests() == [("chat", 10)]


def test_a_digest_without_any_is_not_sent():
    incidents = folded(11)
    pursue(now=NOW + HOUR)
    for one in incidents:
        acknowledge(one.guid, by=ANNA, via="a link", now=NOW + HOUR)
    assert digests() == []


def test_who_was_told_by_the_digest_of_a_step_is_told_of_the_ends_together():
    incidents = folded(11, steps=[1])
    pursue(now=NOW + 10 * MINUTE)
    assert digests() == [("leads", 11)]
    sends_all()
    for one in incidents:
        resolves(one)
    over = Message.objects.get(kind="storm_over")
    assert (str(over.channel), over.due_at, over.duties.count()) == ("leads", NOW, 11)


def test_who_was_not_told_yet_by_the_digest_of_a_step_is_told_nothing():
    incidents = folded(11, steps=[1])
    pursue(now=NOW + 10 * MINUTE)
    for one in incidents:
        resolves(one)
    assert digests() == []
    assert "leads" not in {name for _, name in told()}


def test_in_quiet_hours_reminders_wait_for_their_end_unless_they_are_critical():
    calm, critical = many(2, quiet_from=time(10), quiet_until=time(12))
    Monitor.objects.filter(id=critical.monitor_environment.monitor_id).update(severity="critical")
    pursue(now=NOW + HOUR)
    due = dict(Message.objects.filter(kind="reminder").values_list("incident_id", "due_at"))
    assert due == {calm.id: NOW + 2 * HOUR, critical.id: NOW + HOUR}


def test_who_gets_the_opening_at_the_end_of_quiet_hours_is_not_reminded_of_it_before():
    """The reminder would come with the opening."""
    incident = NotificationFactory().incident
    asleep = channel(incident, "asleep", quiet_from=time(9), quiet_until=time(12))
    route(incident, asleep, channel(incident, "awake"), reminder_hours=1)
    opens()
    pursue(now=NOW + HOUR)
    assert told("reminder") == [("reminder", "awake")]
    sends_all()
    pursue(now=NOW + 3 * HOUR)
    assert sorted(told("reminder")) == [("reminder", "asleep"), ("reminder", "awake"), ("reminder", "awake")]


def test_a_reminder_that_quiet_hours_held_says_how_long_it_fails_at_their_end():
    [incident] = many(1, quiet_from=time(10), quiet_until=time(15))
    Message.objects.update(status="sent", finished_at=NOW)
    pursue(now=NOW + HOUR)
    alerts, _ = write_alerts(list(Message.objects.filter(kind="reminder")))
    [alert] = alerts.values()
    assert "failing for 5 hours" in alert.reason
    del incident


# --- acknowledged at the very minute of a step


@pytest.mark.django_db(transaction=True)
def test_while_somebody_acknowledges_the_sweep_passes_by_and_tells_nothing_after(incident):
    route(incident, channel(incident, "chat"), steps=[(10, channel(incident, "leads"))])
    opens()
    with transaction.atomic():
        acknowledge(incident.guid, by=ANNA, via="a link", now=NOW + 10 * MINUTE)
        assert in_another_connection(lambda: pursue(now=NOW + 10 * MINUTE)) == 0
    assert pursue(now=NOW + 10 * MINUTE) == 0
    assert told("escalated") == []


@pytest.mark.django_db(transaction=True)
def test_who_acknowledges_while_a_step_is_being_told_waits_and_takes_it_back(incident):
    route(incident, channel(incident, "chat"), steps=[(10, channel(incident, "leads"))])
    opens()
    answers = []

    def acknowledges():
        answers.append(acknowledge(incident.guid, by=ANNA, via="a link", now=NOW + 10 * MINUTE))
        connections["default"].close()

    thread = threading.Thread(target=acknowledges)
    with transaction.atomic():
        assert pursue(now=NOW + 10 * MINUTE) == 1
        thread.start()
        wait_until(somebody_waits_for_a_row, "the acknowledgement waits for the sweep")
        assert answers == []
    thread.join()
    assert Message.objects.get(kind="escalated").status == "superseded"
    assert FollowUp.objects.filter(due_at__isnull=False).count() == 0


def somebody_waits_for_a_row():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0


def in_another_connection(action):
    results = []

    def act():
        results.append(action())
        connections["default"].close()

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return results[0]
