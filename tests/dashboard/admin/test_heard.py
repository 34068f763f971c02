"""Reading in the admin what jobs printed, what waits and why, and what clients say that they lost."""

from datetime import timedelta

import pytest
from django.urls import reverse

from checkins.messages import RunLog
from checkins.models import CheckIn, WaitingCheckIn
from checkins.processing.waiting import store_failed, store_failed_request
from checkins.protocols.request import IngestRequest, KnownSender
from tests import factories
from tests.dashboard.admin.test_history import found, page_of
from tests.factories import NOW
from tests.messages import make_config, make_message, run_id

WAITING = reverse("admin:checkins_waitingcheckin_changelist")
LOSSES = reverse("admin:checkins_clientlossreport_changelist")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SCRIPT = b"<script>alert(1)</script>"


class TestLogs:
    def test_the_page_of_a_run_shows_what_it_printed_and_its_exit_status(self, staff_client):
        checkin = factories.CheckInFactory(status="error", exit_status=137)
        factories.CheckInLogFactory(checkin=checkin, body=b"out of memory")
        text = staff_client.get(page_of(checkin)).text
        assert "out of memory" in text
        assert "13 bytes" in text
        assert "137" in text

    def test_what_is_no_text_is_shown_as_far_as_it_can_be(self, staff_client):
        checkin = factories.CheckInFactory()
        factories.CheckInLogFactory(checkin=checkin, body=b"caf\xe9 \x00\x1b[31m " + SCRIPT)
        text = staff_client.get(page_of(checkin)).text
        assert "caf\ufffd \ufffd\ufffd[31m &lt;script&gt;" in text
        assert SCRIPT.decode() not in text

    def test_a_log_of_which_only_the_end_was_kept_says_so(self, staff_client):
        checkin = factories.CheckInFactory()
        factories.CheckInLogFactory(checkin=checkin, body=b"the end", size_bytes=3_000_000)
        assert "the last 7 of 3,000,000 bytes" in staff_client.get(page_of(checkin)).text

    def test_of_several_logs_the_newest_comes_first_each_with_what_was_said(self, staff_client):
        checkin = factories.CheckInFactory()
        for minute, status in enumerate(["in_progress", "", "ok"]):
            log = factories.CheckInLogFactory(checkin=checkin, status=status, received_at=NOW + minute * MINUTE)
            log.body = f"part {minute}".encode()
            log.save()
        text = staff_client.get(page_of(checkin)).text
        assert text.index("part 2") < text.index("part 1") < text.index("part 0")
        assert "output only" in text

    def test_the_logs_of_other_runs_and_environments_are_not_shown(self, staff_client):
        checkin = factories.CheckInFactory()
        stranger = factories.CheckInFactory(guid=checkin.guid)
        other = factories.CheckInFactory(monitor_environment=checkin.monitor_environment)
        for row in (stranger, other):
            factories.CheckInLogFactory(checkin=row, body=b"not mine")
        assert "not mine" not in staff_client.get(page_of(checkin)).text

    def test_output_that_came_before_its_run_is_shown(self, staff_client):
        checkin = factories.CheckInFactory()
        factories.CheckInLogFactory(checkin=checkin, received_at=NOW - HOUR, body=b"early")
        assert "early" in staff_client.get(page_of(checkin)).text

    def test_notes_are_shown_with_their_environment(self, staff_client):
        checkin = factories.CheckInFactory()
        row = checkin.monitor_environment
        factories.CheckInLogFactory(monitor_environment=row, body=b"a note")
        factories.CheckInLogFactory(checkin=checkin, body=b"a log")
        text = staff_client.get(page_of(row)).text
        assert "a note" in text
        assert "a log" not in text


def kept_back(monitor, run, **fields):
    store_failed(make_message("ok", monitor=monitor, run=run, **fields), ValueError(f"number {run}"))
    return WaitingCheckIn.objects.latest("id")


def process_again(client, rows):
    chosen = [row.pk for row in rows]
    return client.post(WAITING, {"action": "process_again", "_selected_action": chosen}, follow=True)


class TestWaiting:
    def test_the_list_says_what_waits_since_when_and_why(self, staff_client):
        monitor = factories.MonitorFactory()
        factories.WaitingCheckInFactory(slug="nightly-backup", environment="staging")
        kept_back(monitor, 7)
        text = staff_client.get(WAITING).text
        for words in ("nightly-backup", "staging", "monitor unknown", "processing failed", "ValueError: number 7"):
            assert words in text
        assert "2026-01-05 10:00" in text

    def test_filters(self, staff_client):
        failed = kept_back(factories.MonitorFactory(), 7)
        parked = factories.WaitingCheckInFactory(slug="nightly-backup")
        assert found(staff_client, WAITING) == [parked, failed]
        assert found(staff_client, WAITING, reason__exact="failed") == [failed]
        assert found(staff_client, WAITING, q="night") == [parked]
        assert found(staff_client, WAITING, project__id__exact=failed.project_id) == [failed]

    def test_the_page_shows_the_whole_message_readably(self, staff_client):
        row = kept_back(
            factories.MonitorFactory(),
            7,
            config=make_config("7 3 * * *"),
            log=RunLog(b"caf\xe9 " + SCRIPT, 300_000),
            payload={"deep": {"a": [1]}},
        )
        text = staff_client.get(page_of(row)).text
        for words in (str(run_id(7)), "7 3 * * *", "caf\ufffd &lt;script&gt;", "300000 bytes", "&quot;deep&quot;: {\n"):
            assert words in text
        assert "ValueError: number 7" in text
        assert "It stays until it is processed again" in text

    def test_the_page_of_a_request_that_could_not_be_read_shows_it(self, staff_client):
        request = IngestRequest(
            method="POST",
            path="/api/v1/checkins",
            query="a=1",
            headers={"user-agent": "curl/8"},
            body=b'{"monitor_slug": "job"}',
            body_bytes=23,
            received_at=NOW,
        )
        store_failed_request(request, KnownSender(factories.ProjectFactory().id), ValueError("7"))
        text = staff_client.get(page_of(WaitingCheckIn.objects.get())).text
        for words in ("/api/v1/checkins", "curl/8", "{&quot;monitor_slug&quot;: &quot;job&quot;}"):
            assert words in text

    def test_the_page_shows_what_another_version_wrote_as_it_is(self, staff_client):
        row = factories.WaitingCheckInFactory()
        WaitingCheckIn.objects.update(message={"type": "Unknown", "fields": {"body": "no base64!", "x": {"y": 1}}})
        assert "no base64!" in staff_client.get(page_of(row)).text

    def test_d14_processing_again_says_how_many_were_applied_and_how_many_failed(self, operator_client):
        monitor = factories.MonitorFactory()
        rows = [kept_back(monitor, run) for run in (1, 2, 3)]
        broken = {"type": "CheckInMessage", "fields": {"status": "asleep"}}
        WaitingCheckIn.objects.filter(pk=rows[2].pk).update(message=broken)
        assert "Applied 2, 1 failed again." in process_again(operator_client, rows).text
        assert set(CheckIn.objects.values_list("guid", flat=True)) == {run_id(1), run_id(2)}
        assert CheckIn.objects.filter(date_added=NOW).count() == 2
        [left] = WaitingCheckIn.objects.all()
        assert "ValidationError" in left.error

    def test_what_is_parked_is_left_to_wait(self, operator_client):
        row = factories.WaitingCheckInFactory()
        assert "1 parked for a monitor that does not exist yet" in process_again(operator_client, [row]).text
        assert WaitingCheckIn.objects.get() == row

    def test_staff_without_the_permission_is_refused(self, staff_client):
        row = kept_back(factories.MonitorFactory(), 7)
        assert process_again(staff_client, [row]).status_code == 403
        assert WaitingCheckIn.objects.get() == row


LOST_ONE = "This project's SDK reports that it lost"


def a_silent_failure(status="missed", *, at=NOW, **fields):
    """An incident that began with a miss or a timeout, with its occurrence."""
    row = factories.MonitorEnvironmentFactory(status="error", **fields)
    checkin = factories.CheckInFactory(monitor_environment=row, status=status, date_added=at)
    incident = factories.IncidentFactory(monitor_environment=row, starting_checkin=checkin)
    return factories.OccurrenceFactory(incident=incident, checkin=checkin)


def pages_of(occurrence):
    """Every page that shows the failure."""
    row = occurrence.incident.monitor_environment
    return [
        page_of(x) for x in (occurrence, occurrence.incident, occurrence.issue, row.monitor, row, occurrence.checkin)
    ]


class TestLosses:
    @pytest.mark.parametrize("status", ["missed", "timeout"])
    def test_d19_they_are_told_wherever_a_miss_or_a_timeout_is_shown(self, status, staff_client):
        occurrence = a_silent_failure(status)
        project = occurrence.issue.project
        one = factories.ClientLossReportFactory(project=project, received_at=NOW + 4 * MINUTE)
        more = factories.ClientLossReportFactory(project=project, reason="queue_overflow", quantity=3)
        for page in pages_of(occurrence):
            text = staff_client.get(page).text
            assert text.count(LOST_ONE) == 2
            for words in ("1 check-in</a> (network_error)", "3 check-ins</a> (queue_overflow)", "2026-01-05 10:04"):
                assert words in text
            for report in (one, more):
                assert page_of(report) in text

    @pytest.mark.parametrize(
        ("received_at", "count"),
        [
            pytest.param(NOW - HOUR - MINUTE, 0, id="long before the slot"),
            pytest.param(NOW - HOUR, 1, id="an hour before the slot"),
            pytest.param(NOW + 10 * MINUTE, 1, id="while it was waited for"),
            pytest.param(NOW + 20 * MINUTE + HOUR, 1, id="an hour after it was found"),
            pytest.param(NOW + 21 * MINUTE + HOUR, 0, id="long after it was found"),
        ],
    )
    def test_d19_reports_count_from_an_hour_before_the_failure_to_an_hour_after(self, received_at, count, staff_client):
        occurrence = a_silent_failure(monitor__checkin_margin=20)
        factories.ClientLossReportFactory(project=occurrence.issue.project, received_at=received_at)
        for page in pages_of(occurrence):
            assert staff_client.get(page).text.count(LOST_ONE) == count

    def test_d19_other_projects_reports_say_nothing(self, staff_client):
        occurrence = a_silent_failure()
        factories.ClientLossReportFactory()
        for page in pages_of(occurrence):
            assert LOST_ONE not in staff_client.get(page).text

    def test_d19_an_error_was_heard_so_nothing_is_said_beside_it(self, staff_client):
        occurrence = factories.OccurrenceFactory()
        factories.ClientLossReportFactory(project=occurrence.issue.project)
        for page in pages_of(occurrence):
            assert LOST_ONE not in staff_client.get(page).text

    def test_d19_an_incident_of_a_muted_environment_has_no_occurrence_and_shows_them_all_the_same(self, staff_client):
        occurrence = a_silent_failure()
        factories.ClientLossReportFactory(project=occurrence.issue.project)
        incident = occurrence.incident
        occurrence.delete()
        assert staff_client.get(page_of(incident)).text.count(LOST_ONE) == 1

    def test_the_words_of_a_client_are_escaped(self, staff_client):
        occurrence = a_silent_failure()
        factories.ClientLossReportFactory(project=occurrence.issue.project, reason=SCRIPT.decode())
        for page in (*pages_of(occurrence), LOSSES):
            assert SCRIPT.decode() not in staff_client.get(page).text

    def test_the_list(self, staff_client):
        older = factories.ClientLossReportFactory(reason="queue_overflow")
        newer = factories.ClientLossReportFactory()
        assert found(staff_client, LOSSES) == [newer, older]
        assert found(staff_client, LOSSES, q="overflow") == [older]
        assert found(staff_client, LOSSES, project__id__exact=newer.project_id) == [newer]


def test_every_list_of_what_was_heard_is_in_the_sidebar(staff_client):
    text = staff_client.get(reverse("admin:index")).text
    for url in (WAITING, LOSSES):
        assert f'href="{url}"' in text
