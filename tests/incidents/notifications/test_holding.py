"""A notification that is held is addressed when its time has come."""

from datetime import datetime, timedelta

import pytest

from clocktasks.clock import ClockTask
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import finish_ticks
from clocktasks.shards import process_clock_task
from incidents.models import Message, Notification
from incidents.notifications import delivery, outbox
from incidents.notifications.addressing import address
from monitors.models import MonitorEnvironment
from tests.clocktasks.shards import make_monitor_in
from tests.factories import NOW, IncidentFactory, MonitorEnvironmentFactory, NotificationFactory

pytestmark = pytest.mark.django_db
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def test_a_held_notification_is_addressed_at_the_end_of_the_hold() -> None:
    NotificationFactory(held_until=NOW + timedelta(minutes=5), held_by="a test")

    address(["ops@example.com"], now=NOW + timedelta(minutes=4))
    assert not Message.objects.exists()

    address(["ops@example.com"], now=NOW + timedelta(minutes=5))
    assert Message.objects.get().recipient == "ops@example.com"


class TestATick:
    """What a tick opens waits until the tick is finished in all shards, so that people are told of it together."""

    def opened(self, tick: datetime, *, held_until: datetime | None = NOW + 5 * SECOND) -> Notification:
        incident = IncidentFactory()
        outbox.notify_opened({incident.id: outbox.Opening(tick, tick)}, held_until=held_until)
        return Notification.objects.get(incident=incident)

    def told(self, at: datetime) -> int:
        address(["ops@example.com"], now=at)
        return Message.objects.count()

    def test_its_openings_are_told_when_it_is_finished(self) -> None:
        self.opened(NOW)
        assert self.told(NOW + SECOND) == 0
        assert outbox.release_ticks(NOW) == 1
        assert self.told(NOW + SECOND) == 1

    def test_its_openings_are_told_after_five_seconds_if_it_is_not(self) -> None:
        self.opened(NOW)
        assert self.told(NOW + 5 * SECOND) == 1

    def test_a_later_tick_is_not_released_with_it(self) -> None:
        self.opened(NOW + MINUTE)
        assert outbox.release_ticks(NOW) == 0

    def test_what_is_held_for_another_reason_is_not_released_with_it(self) -> None:
        held = self.opened(NOW)
        Notification.objects.filter(id=held.id).update(held_by="another reason")
        assert outbox.release_ticks(NOW) == 0

    def test_what_a_check_in_opens_is_not_held(self) -> None:
        incident = IncidentFactory()
        outbox.notify_opened({incident.id: outbox.Opening(NOW)}, held_until=NOW + 5 * SECOND)
        assert self.told(NOW) == 1

    def test_the_end_of_an_incident_waits_for_its_held_opening_and_makes_one_message_with_it(self) -> None:
        opened = self.opened(NOW)
        NotificationFactory(incident=opened.incident, transition="resolved")
        assert self.told(NOW + SECOND) == 0
        outbox.release_ticks(NOW)
        assert self.told(NOW + SECOND) == 1
        assert Message.objects.get().kind == "passed"

    def test_a_run_says_when_the_next_one_is_due(self) -> None:
        self.opened(NOW)
        assert delivery.deliver(utcnow=lambda: NOW).next_at == NOW + 5 * SECOND
        assert delivery.deliver(utcnow=lambda: NOW + 5 * SECOND).next_at is None

    def test_finishing_a_tick_in_all_shards_releases_what_it_opened(self) -> None:
        advance_ledger(NOW, now=NOW)
        for shard in (2, 5):
            MonitorEnvironmentFactory(monitor=make_monitor_in(shard))
        due = MonitorEnvironment.objects.earliest("next_checkin_latest").next_checkin_latest
        assert due is not None
        tasks: list[ClockTask] = advance_ledger(due, now=due)
        finished = []
        while tasks:
            wake = process_clock_task(tasks.pop(), now=due).wake
            tasks += [wake] if wake is not None else []
            finish_ticks(now=due)
            finished.append(Notification.objects.filter(tick=due, held_until=None).count())
        assert finished[-1] == 2
        assert set(finished[:-1]) == {0}, "all at once"
