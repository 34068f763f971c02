"""Which occurrences of an incident are kept (D42): the first and the newest, with a count of all."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkins.processing.apply import receive
from incidents.models import Incident, Issue, Occurrence
from incidents.thinning import OCCURRENCES_FIRST, OCCURRENCES_NEWEST, is_kept
from tests.factories import NOW, MonitorFactory
from tests.messages import make_message, run_id

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
KEPT_MAX = OCCURRENCES_FIRST + OCCURRENCES_NEWEST


def fail(monitor, *numbers):
    """Let the job fail once a minute: run number n at minute n, all of them in one batch."""
    messages = [make_message("error", monitor=monitor, at=NOW + n * MINUTE, run=n) for n in numbers]
    receive(messages, now=NOW + numbers[-1] * MINUTE)


def kept():
    """The runs whose occurrences are kept, in order."""
    by_guid = {run_id(n): n for n in range(1, 1_000)}
    return [by_guid[o.checkin.guid] for o in Occurrence.objects.order_by("number")]


@pytest.mark.parametrize("count", [0, 1, 10, 11, 110, 111, 500])
def test_so_many_of_a_count_are_kept(count):
    numbers = [number for number in range(1, count + 1) if is_kept(number, count=count)]
    assert len(numbers) == min(count, KEPT_MAX)
    assert numbers[:10] == list(range(1, min(count, 10) + 1))
    assert numbers[-100:] == list(range(max(count - 99, 1), count + 1))


def test_d42_an_incident_keeps_its_first_ten_and_newest_hundred_occurrences_and_counts_all():
    monitor = MonitorFactory()
    fail(monitor, *range(1, 106))
    assert kept() == list(range(1, 106))
    fail(monitor, *range(106, 131))
    assert kept() == [*range(1, 11), *range(31, 131)]
    fail(monitor, 131)
    assert kept() == [*range(1, 11), *range(32, 132)]
    assert (Incident.objects.get().occurrence_count, Issue.objects.get().occurrence_count) == (131, 131)


def test_d42_what_is_kept_explains_itself_as_before():
    monitor = MonitorFactory(failure_threshold=2)
    fail(monitor, *range(1, 121))
    for occurrence in Occurrence.objects.all():
        assert occurrence.explanation["received_at"] == f"{NOW + occurrence.number * MINUTE:%Y-%m-%dT%H:%M:%SZ}"
        assert occurrence.explanation["failure_threshold"] == 2


def test_d42_a_threshold_of_hundreds_records_no_more_when_it_opens():
    monitor = MonitorFactory(failure_threshold=200)
    fail(monitor, *range(1, 200))
    assert not Occurrence.objects.exists()
    fail(monitor, 200)
    assert kept() == [*range(1, 11), *range(101, 201)]
    assert Incident.objects.get().occurrence_count == 200


def test_d42_the_next_incident_begins_with_a_count_of_its_own():
    monitor = MonitorFactory()
    fail(monitor, *range(1, 121))
    receive([make_message("ok", monitor=monitor, at=NOW + 121 * MINUTE, run=121)], now=NOW + 121 * MINUTE)
    fail(monitor, 122)
    assert list(Incident.objects.order_by("id").values_list("occurrence_count", flat=True)) == [120, 1]
    assert Occurrence.objects.count() == KEPT_MAX + 1


def test_d42_thinning_takes_one_statement_whatever_the_number_of_incidents():
    def statements(count):
        monitors = MonitorFactory.create_batch(count)
        for monitor in monitors:
            fail(monitor, *range(1, 111))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            messages = [make_message("error", monitor=m, at=NOW + 111 * MINUTE, run=200) for m in monitors]
            receive(messages, now=NOW + 111 * MINUTE)
        return [query["sql"] for query in queries if "DELETE FROM incidents_occurrence" in query["sql"]]

    assert (len(statements(1)), len(statements(5))) == (1, 1)
    assert Occurrence.objects.count() == 6 * KEPT_MAX


def test_d42_a_muted_environment_counts_nothing():
    monitor = MonitorFactory(is_muted=True)
    fail(monitor, 1, 2)
    assert (Incident.objects.get().occurrence_count, Occurrence.objects.count()) == (0, 0)
