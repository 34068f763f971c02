"""Finding check-ins and incidents in the admin, reading why, and handling issues."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from checkins import partitions
from checkins.models import CheckIn
from checkins.partitions import DEFAULT, guid_index, of_day
from incidents.notifications.letters import why
from incidents.tasks import deliver
from tests import factories
from tests.days import make_day
from tests.factories import NOW

CHECKINS = reverse("admin:checkins_checkin_changelist")
ISSUES = reverse("admin:incidents_issue_changelist")
INCIDENTS = reverse("admin:incidents_incident_changelist")


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def found(client, url, **query):
    return list(client.get(url, query).context["cl"].result_list)


class TestFindingCheckIns:
    def test_one_is_found_by_its_id_in_any_project(self, staff_client):
        checkins = factories.CheckInFactory.create_batch(3)
        for guid in (str(checkins[1].guid), checkins[1].guid.hex.upper()):
            assert found(staff_client, CHECKINS, q=f" {guid} ") == [checkins[1]]

    def test_the_search_for_an_id_uses_the_unique_index(self, staff_client):
        checkin = factories.CheckInFactory(status="ok")
        with connection.cursor() as cursor:
            # Of a table with one row the planner takes any index.
            columns = (
                "project_id, monitor_environment_id, shard, status, date_added, date_updated, received_at,"
                " source, config_id"
            )
            cursor.execute(
                f"INSERT INTO checkins_checkin (guid, {columns})"  # noqa: S608
                f" SELECT gen_random_uuid(), {columns} FROM checkins_checkin, generate_series(1, 5000)"
            )
            cursor.execute("ANALYZE checkins_checkin")
        with CaptureQueriesContext(connection) as captured:
            found(staff_client, CHECKINS, q=str(checkin.guid))
        statement = next(q["sql"] for q in captured if '"guid" = ' in q["sql"] and "LIMIT" not in q["sql"])
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert guid_index(DEFAULT) in plan
        assert f"Seq Scan on {DEFAULT}" not in plan

    def test_those_of_a_monitor_are_found_by_its_slug(self, staff_client):
        wanted, _other = factories.CheckInFactory.create_batch(2)
        assert found(staff_client, CHECKINS, q=wanted.monitor_environment.monitor.slug) == [wanted]
        assert found(staff_client, CHECKINS, q="no-such-job") == []

    def test_filters(self, staff_client):
        missed = factories.CheckInFactory(status="missed", date_added=NOW - timedelta(days=2))
        newer = factories.CheckInFactory()
        assert found(staff_client, CHECKINS) == [newer, missed]
        assert found(staff_client, CHECKINS, status__exact="missed") == [missed]
        assert found(staff_client, CHECKINS, day="2026-01-03") == [missed]
        assert found(staff_client, CHECKINS, day="nonsense") == [newer, missed]
        assert found(
            staff_client, CHECKINS, monitor_environment__monitor__id__exact=newer.monitor_environment.monitor_id
        ) == [newer]
        assert found(staff_client, CHECKINS, monitor_environment__id__exact=newer.monitor_environment_id) == [newer]
        assert found(staff_client, CHECKINS, project__id__exact=missed.project_id) == [missed]

    def test_a_day_ends_before_the_next_begins(self, staff_client):
        midnight = NOW.replace(hour=0)
        first = factories.CheckInFactory(date_added=midnight)
        factories.CheckInFactory(date_added=midnight + timedelta(days=1))
        last = factories.CheckInFactory(date_added=midnight + timedelta(days=1) - timedelta(microseconds=1))
        assert found(staff_client, CHECKINS, day="2026-01-05") == [last, first]

    def test_a_list_longer_than_what_is_counted_shows_an_estimate_and_all_its_pages(self, staff_client, monkeypatch):
        monkeypatch.setattr("dashboard.admin.base.EXACT_COUNT_MAX", 10)
        row = factories.MonitorEnvironmentFactory()
        checkins = factories.CheckInFactory.create_batch(120, monitor_environment=row)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE checkins_checkin")
        changelist = staff_client.get(CHECKINS, {"p": 3}).context["cl"]
        # The planner expects at least one row in each partition.
        assert 120 <= changelist.result_count <= 130
        assert list(changelist.result_list) == checkins[19::-1]


class TestReadingACheckIn:
    def test_a_late_finish_and_earlier_attempts_are_shown(self, staff_client):
        checkin = factories.CheckInFactory(
            status="timeout", finished_status="ok", finished_at=NOW + timedelta(hours=2), duration_ms=7_200_000
        )
        factories.AttemptFactory(checkin=checkin, duration_ms=61_000)
        text = staff_client.get(page_of(checkin)).text
        assert "timeout, then ok" in text
        assert "2026-01-05 12:00" in text
        assert "2 hours" in text
        assert "1 minute and 1 second" in text

    def test_the_configuration_is_the_one_in_force_then(self, staff_client):
        checkin = factories.CheckInFactory(monitor_environment__monitor__crontab="7 3 * * *")
        assert "7 3 * * *" in staff_client.get(page_of(checkin)).text


class TestIncidents:
    def test_the_page_links_to_its_check_ins_its_issue_and_its_occurrences(self, staff_client):
        incident = factories.IncidentFactory(resolved=True)
        occurrence = factories.OccurrenceFactory(incident=incident)
        text = staff_client.get(page_of(incident)).text
        for row in (incident.starting_checkin, incident.resolving_checkin, incident.issue, occurrence):
            assert page_of(row) in text

    def test_open_and_resolved_ones_are_told_apart(self, staff_client):
        is_open = factories.IncidentFactory()
        resolved = factories.IncidentFactory(resolved=True)
        assert found(staff_client, INCIDENTS, state="open") == [is_open]
        assert found(staff_client, INCIDENTS, state="resolved") == [resolved]

    def test_p8_the_explanation_can_be_read_without_knowing_json(self, staff_client):
        incident = factories.IncidentFactory(
            monitor_environment__monitor__timezone="Europe/Vienna",
            monitor_environment__monitor__crontab="0 11 * * *",
            monitor_environment__monitor__failure_threshold=3,
        )
        checkin = factories.CheckInFactory(monitor_environment=incident.monitor_environment, status="missed")
        occurrence = factories.OccurrenceFactory(incident=incident, checkin=checkin)
        text = staff_client.get(page_of(occurrence)).text
        for words in ("Why it counts", "threshold reached", "At 11:00 (Europe/Vienna)", "2026-01-05 11:00"):
            assert words in text
        assert "threshold_reached" not in text

    def test_an_explanation_may_hold_more_than_this_page_has_words_for(self, staff_client):
        occurrence = factories.OccurrenceFactory(explanation={"coverage": ["10:01", "10:02"], "kind": "missed"})
        for row in (occurrence, occurrence.incident, occurrence.issue):
            assert staff_client.get(page_of(row)).status_code == 200
        assert "10:02" in staff_client.get(page_of(occurrence)).text


def run(client, action, issues):
    return client.post(ISSUES, {"action": action, "_selected_action": [issue.pk for issue in issues]}, follow=True)


class TestIssues:
    def test_unresolved_ones_come_first_and_archived_ones_last(self, staff_client):
        issues = {status: factories.IssueFactory(status=status) for status in ("archived", "unresolved", "resolved")}
        assert found(staff_client, ISSUES) == [issues["unresolved"], issues["resolved"], issues["archived"]]

    @pytest.mark.parametrize(
        ("action", "said", "status"),
        [("resolve", "Resolved 2 issues.", "resolved"), ("archive", "Archived 2 issues.", "archived")],
    )
    def test_actions_do_what_they_say_and_say_how_many(self, action, said, status, operator_client):
        issues = factories.IssueFactory.create_batch(2)
        assert said in run(operator_client, action, issues).text
        for issue in issues:
            issue.refresh_from_db()
            assert issue.status == status

    def test_unarchiving(self, operator_client):
        incident = factories.IncidentFactory()
        run(operator_client, "archive", [incident.issue])
        assert "Unarchived 1 issue." in run(operator_client, "unarchive", [incident.issue]).text
        incident.issue.refresh_from_db()
        assert incident.issue.status == "unresolved"

    @pytest.mark.parametrize("action", ["resolve", "archive", "unarchive"])
    def test_staff_without_the_permission_is_refused(self, action, staff_client):
        issue = factories.IssueFactory()
        assert run(staff_client, action, [issue]).status_code == 403
        issue.refresh_from_db()
        assert issue.status == "unresolved"


def test_a_processing_error_shows_its_payload_and_links_to_its_monitor(staff_client):
    error = factories.ProcessingErrorFactory(
        monitor=factories.MonitorFactory(), kind="MONITOR_DISABLED", payload={"monitor_slug": "x", "deep": {"a": [1]}}
    )
    text = staff_client.get(page_of(error)).text
    assert page_of(error.monitor) in text
    assert "accepts no check-ins" in text
    assert "&quot;deep&quot;: {\n" in text


def test_a_processing_error_of_a_kind_that_this_version_does_not_know_is_shown(staff_client):
    error = factories.ProcessingErrorFactory(kind="MONITOR_OVER_QUOTA", message="What was stored then.")
    text = staff_client.get(page_of(error)).text
    assert "monitor over quota" in text
    assert "This version does not record such errors." in text
    assert "What was stored then." in staff_client.get(reverse("admin:checkins_processingerror_changelist")).text


def test_text_from_clients_is_escaped_everywhere(staff_client):
    script = "<script>alert(1)</script>"
    monitor = factories.MonitorFactory(name=script)
    row = factories.MonitorEnvironmentFactory(monitor=monitor, status="error")
    incident = factories.IncidentFactory(monitor_environment=row)
    factories.OccurrenceFactory(incident=incident, failure_reason=script, explanation={"kind": script})
    error = factories.ProcessingErrorFactory(monitor=monitor, message=script, payload={"a": script})
    for row_ in (monitor, row, incident, incident.issue, error, CheckIn.objects.get()):
        meta = row_._meta
        for url in (page_of(row_), reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")):
            assert script not in staff_client.get(url).text


def test_lists_never_count_facets():
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label in ("audit", "monitors", "checkins", "incidents", "clocktasks"):
            assert model_admin.show_facets is admin.ShowFacets.NEVER


class TestWhatIsLeftOfADayThatWasDropped:
    """CHECKIN_RETENTION_DAYS: the check-ins are gone, and what they led to can still be read."""

    @pytest.fixture
    def incident(self, db):
        incident = factories.IncidentFactory(resolved=True)
        occurrence = factories.OccurrenceFactory(incident=incident)
        factories.NotificationFactory(incident=incident)
        day = of_day(occurrence.checkin.date_added.date())
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        later = NOW + timedelta(days=100)
        make_day(day)
        assert day.name in partitions.ensure_partitions(now=later, drop_as_of=later).dropped
        assert not CheckIn.objects.filter(id=occurrence.checkin_id).exists()
        return incident

    def test_the_pages_of_incident_issue_and_occurrence_say_so_and_keep_the_explanation(self, staff_client, incident):
        for row in (incident, incident.occurrences.get()):
            text = staff_client.get(page_of(row)).text
            assert "removed (older than the retention)" in text
        for row in (incident, incident.issue, incident.occurrences.get()):
            assert why(incident.occurrences.get().explanation) in staff_client.get(page_of(row)).text
        assert "Why it counts" in staff_client.get(page_of(incident.occurrences.get())).text

    def test_every_other_page_around_it_still_opens(self, staff_client, incident):
        row = incident.monitor_environment
        for around in (row, row.monitor, incident.notifications.get()):
            assert staff_client.get(page_of(around)).status_code == 200
        for url in (CHECKINS, INCIDENTS, ISSUES, reverse("admin:incidents_occurrence_changelist")):
            assert staff_client.get(url).status_code == 200

    def test_people_are_still_told(self, incident, mailoutbox, settings):
        settings.ALERT_EMAIL_TO = ["oncall@example.com"]
        incident.notifications.update(sent_at=None, addressed_at=None)
        deliver()
        assert len(mailoutbox) == 1
