"""D19: what clients say that they lost is kept for the project, and changes nothing that is expected."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkins.messages import LossReport, Source
from checkins.models import CheckIn, ClientLossReport, ProcessingError
from checkins.processing.apply import receive
from tests.factories import NOW, MonitorEnvironmentFactory, ProjectFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db


def a_loss(project, *, at=NOW, **fields):
    values = {"reason": "network_error", "quantity": 1, "reported_at": at - timedelta(seconds=3)} | fields
    return LossReport(project_id=project.id, received_at=at, source=Source.SENTRY_ENVELOPE, **values)


def kept():
    return list(ClientLossReport.objects.order_by("id").values_list("project", "reason", "quantity", "reported_at"))


def test_d19_a_report_is_kept_with_all_that_it_says():
    project = ProjectFactory()
    [outcome] = receive([a_loss(project, reason="queue_overflow", quantity=7)], now=NOW)
    assert (outcome.accepted, outcome.problems, outcome.guid) == (True, [], None)
    report = ClientLossReport.objects.get()
    assert (report.project, report.reason, report.quantity) == (project, "queue_overflow", 7)
    assert (report.reported_at, report.received_at) == (NOW - timedelta(seconds=3), NOW)
    assert report.source == "sentry_envelope"


def test_d19_a_report_without_a_readable_clock_is_kept_too():
    project = ProjectFactory()
    receive([a_loss(project, reported_at=None)], now=NOW)
    assert kept() == [(project.id, "network_error", 1, None)]


def test_d19_the_largest_number_that_a_decoder_lets_through_can_be_stored():
    receive([a_loss(ProjectFactory(), quantity=2**31 - 1, reason="x" * 100)], now=NOW)
    assert ClientLossReport.objects.get().quantity == 2**31 - 1


def test_d19_the_report_and_the_check_in_beside_it_both_count():
    """The Python SDK puts its report into the envelope of the next check-in that gets through."""
    row = MonitorEnvironmentFactory()
    outcomes = receive(
        [a_loss(row.monitor.project), make_message("ok", monitor=row.monitor), a_loss(row.monitor.project)], now=NOW
    )
    assert [outcome.accepted for outcome in outcomes] == [True, True, True]
    assert [outcome.guid is not None for outcome in outcomes] == [False, True, False]
    assert (CheckIn.objects.count(), ClientLossReport.objects.count()) == (1, 2)


def test_d19_a_report_is_no_sign_of_life():
    """Nobody knows of which job it speaks: what was lost may as well have been an error."""
    row = MonitorEnvironmentFactory()
    before = (row.status, row.last_checkin, row.next_checkin, row.next_checkin_latest, row.limit_count)
    receive([a_loss(row.monitor.project, at=NOW + timedelta(minutes=4))], now=NOW + timedelta(minutes=4))
    row.refresh_from_db()
    assert (row.status, row.last_checkin, row.next_checkin, row.next_checkin_latest, row.limit_count) == before
    assert not ProcessingError.objects.exists()


def test_d19_reports_of_many_projects_are_one_statement():
    projects = ProjectFactory.create_batch(3)
    with CaptureQueriesContext(connection) as queries:
        receive([a_loss(project) for project in projects for _ in range(5)], now=NOW)
    assert len([query for query in queries if "INSERT" in query["sql"]]) == 1
    assert ClientLossReport.objects.count() == 15
