"""People who look at the admin, and one of every row to look at."""

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from tests import factories

PASSWORD = "long enough for a test"


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def staff_client(db) -> Client:
    """Someone who may look at everything, and do nothing else."""
    user = User.objects.create_user("looker", password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return client_of(user)


@pytest.fixture
def bare_client(db) -> Client:
    """A member of staff to whom nothing was granted yet."""
    return client_of(User.objects.create_user("newcomer", password=PASSWORD, is_staff=True))


@pytest.fixture
def operator_client(db) -> Client:
    """Someone who may mute monitors and handle issues."""
    user = User.objects.create_user("operator", password=PASSWORD, is_staff=True)
    wanted = ["change_monitor", "change_monitorenvironment", "change_issue", "delete_monitor"]
    wanted.append("change_waitingcheckin")
    user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    return client_of(user)


@pytest.fixture
def outsider_client(db) -> Client:
    """Someone with an account and no business here."""
    return client_of(User.objects.create_user("outsider", password=PASSWORD))


@pytest.fixture
def one_of_each(one_of_each_of_a_class, db):
    """A row of every model, tied together as they would be."""
    return one_of_each_of_a_class


@pytest.fixture(scope="class")
def one_of_each_of_a_class(shared_rows):
    with shared_rows.unblock():
        incident = make_one_of_each()
        connection.check_constraints()  # Once for all tests, each of which looks at what was not looked at yet.
    return incident


def make_one_of_each():
    incident = factories.IncidentFactory()
    factories.IncidentFactory(resolved=True)
    monitor = incident.monitor_environment.monitor
    factories.OccurrenceFactory(incident=incident)
    factories.NotificationFactory(incident=incident)
    factories.MessageFactory()
    factories.RouteFactory(to=[factories.ChannelFactory()])
    factories.WeeklyReportFactory()
    factories.MembershipFactory(project=monitor.project, role="owner")
    factories.AuditEntryFactory(project_id=monitor.project_id, object_id=monitor.id)
    factories.AuditEntryFactory(kind="ingest key", project_id=0, changes={"public_key": "changed", "…": 7})
    factories.AuditEntryFactory(kind="something else", project_id=None, object_id=None, changes={})
    factories.AttemptFactory(checkin=incident.starting_checkin)
    factories.ProcessingErrorFactory(monitor=monitor, kind="MONITOR_DISABLED")
    factories.ProcessingErrorFactory(project=monitor.project)
    factories.IngestKeyFactory(project=monitor.project)
    factories.MaintenanceWindowFactory(project=monitor.project)
    for status in ("in_progress", "ok", "missed", "timeout", "unknown"):
        factories.CheckInFactory(monitor_environment=incident.monitor_environment, status=status)
    factories.CheckInLogFactory(checkin=incident.starting_checkin)
    factories.CheckInLogFactory(monitor_environment=incident.monitor_environment)
    factories.WaitingCheckInFactory(project=monitor.project)
    factories.WaitingCheckInFactory(project=monitor.project, error="Traceback\nValueError: 7\n")
    factories.ClientLossReportFactory(project=monitor.project)
    factories.TickFactory()
    factories.TickFactory(finished_at=None)
    factories.TickFactory(finished_at=None, decided_at=None, decision="abnormal", volume=1, deviation_percent=-12.5)
    factories.TickFactory(is_listened=False)
    factories.ClockIncidentFactory()
    factories.ClockIncidentFactory(ended_at=None, summarised_at=None, cause="volume")
    factories.ShardClockFactory()
    factories.AppliedTickFactory()
    factories.HeldTickFactory()
    for state in ("live", "silent", "dropped", "left"):
        factories.IngestNodeFactory(state=state)
    return incident
