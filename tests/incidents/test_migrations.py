"""An installation with incidents is brought to the outbox: nothing is lost, told twice, or told to nobody for good."""

import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from clocktasks.playback.scratch import scratch_database
from incidents.models import Incident, Message, Notification, Occurrence
from incidents.notifications import delivery
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
MINUTE = timedelta(minutes=1)
BEFORE = "0002_check_each_reference_once"


@pytest.fixture
def old(worker_id):
    """The models of an installation of the time before, on a database of its own."""
    with scratch_database(f"watchclock_incidents_{worker_id}"):
        call_command("migrate", "incidents", BEFORE, verbosity=0)
        yield MigrationExecutor(connection).loader.project_state(("incidents", BEFORE)).apps


def upgrade():
    call_command("migrate", "incidents", verbosity=0)


@pytest.fixture
def write(old):
    """Write an incident as it was written then; returns its id."""

    def incident(*, occurrences=1, is_resolved=False, told=(), waiting=(), is_muted=False, issue_status="unresolved"):
        environment = MonitorEnvironmentFactory(status="ok" if is_resolved else "error", is_muted=is_muted)
        checkins = [
            CheckInFactory(monitor_environment=environment, status="error", date_added=NOW + number * MINUTE)
            for number in range(occurrences)
        ]
        issue = old.get_model("incidents.Issue").objects.create(
            project_id=environment.monitor.project_id, monitor_environment_id=environment.id,
            fingerprint=f"crons:{environment.id}", title="Cron failure", status=issue_status,
            first_seen_at=NOW, last_seen_at=NOW, occurrence_count=occurrences,
        )  # fmt: skip
        row = old.get_model("incidents.Incident").objects.create(
            monitor_environment_id=environment.id, issue_id=issue.id, starting_checkin_id=checkins[0].id,
            started_at=NOW, opened_at=NOW,
            resolved_at=NOW + 999 * MINUTE if is_resolved else None, resolving_checkin_id=7 if is_resolved else None,
        )  # fmt: skip
        old.get_model("incidents.Occurrence").objects.bulk_create(
            old.get_model("incidents.Occurrence")(
                issue_id=issue.id, incident_id=row.id, checkin_id=checkin.id, title="Cron failure",
                subtitle=f"failure {number}", failure_reason="An error", environment="production",
                detected_at=checkin.date_added, occurred_at=checkin.date_added, run_checkin_guids=[checkin.guid],
                explanation={"kind": "error"},
            )
            for number, checkin in enumerate(checkins, 1)
        )  # fmt: skip
        for transition in (*told, *waiting):
            old.get_model("incidents.Notification").objects.create(
                incident_id=row.id, transition=transition, channel="email", created_at=NOW,
                idempotency_key=uuid.uuid4(), sent_at=NOW + MINUTE if transition in told else None,
                attempt_count=0 if transition in told else 4_000, last_error="" if transition in told else "time-out",
            )  # fmt: skip
        return row.id

    return incident


def test_d42_occurrences_are_counted_and_numbered_and_the_first_and_newest_kept(write):
    counts = {write(occurrences=count): count for count in (1, 110, 112)}

    upgrade()

    assert dict(Incident.objects.values_list("id", "occurrence_count")) == counts
    for incident, count in counts.items():
        kept = [number for number in range(1, count + 1) if number <= 10 or number > count - 100]
        rows = Occurrence.objects.filter(incident=incident).order_by("number").values_list("number", "subtitle")
        assert list(rows) == [(number, f"failure {number}") for number in kept]


def test_of_what_was_open_people_are_told_once_and_of_nothing_else(write, settings, mailoutbox):
    settings.ALERT_EMAIL_TO = ["ops@example.com"]
    told = write(told=["opened"])
    over = write(told=["opened", "resolved"], is_resolved=True)
    waiting = write(waiting=["opened"])
    to_nobody = write()
    write(is_muted=True)
    write(issue_status="archived")
    write(is_resolved=True)

    upgrade()
    delivery.deliver(utcnow=lambda: NOW + 9 * MINUTE)
    delivery.deliver(utcnow=lambda: NOW + 10 * MINUTE)

    assert sorted(Message.objects.values_list("incident_id", "status")) == [(waiting, "sent"), (to_nobody, "sent")]
    assert len(mailoutbox) == 2
    sent_before = Notification.objects.filter(incident__in=[told, over])
    assert set(sent_before.values_list("sent_at", "addressed_at")) == {(NOW + MINUTE, NOW + MINUTE)}


def test_the_end_of_what_was_told_before_is_told(write, settings, mailoutbox):
    """By the addresses of today: who got the beginning then is not written down."""
    settings.ALERT_EMAIL_TO = ["ops@example.com"]
    write(told=["opened"], waiting=["resolved"], is_resolved=True)

    upgrade()
    delivery.deliver(utcnow=lambda: NOW + 9 * MINUTE)

    assert [mail.subject.split(":")[0] for mail in mailoutbox] == ["[Watchclock] Recovered"]


def test_an_upgrade_can_be_taken_back(write):
    write(occurrences=2, told=["opened"], waiting=["resolved"], is_resolved=True)
    write(occurrences=3)
    upgrade()

    call_command("migrate", "incidents", BEFORE, verbosity=0)
    upgrade()

    assert Occurrence.objects.count() == 5
    assert Notification.objects.filter(transition="opened").count() == 2
