"""Labels say what is so, times are the reader's, and what a person looks for first stands first."""

import html
import re
from datetime import timedelta

import pytest
from django.urls import reverse

from checkins.models import CheckIn
from dashboard.admin.tables import environment_status
from dashboard.standing import why_of
from monitors.models import Monitor
from tests import factories
from tests.dashboard.wall import set_clock
from tests.factories import NOW

LIST = reverse("admin:monitors_monitor_changelist")
MINUTE = timedelta(minutes=1)


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def read(client, url, **query):
    """What a page says, with single blanks and without its marks."""
    text = re.sub(r"<(script|style).*?</\1>", " ", client.get(url, query).text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.fixture(autouse=True)
def _the_time_is_ten(monkeypatch):
    set_clock(monkeypatch, lambda: NOW)


class TestLabels:
    def test_a_start_is_not_called_a_check_in_and_what_lies_ahead_is_not_called_missed(self, staff_client):
        row = factories.MonitorEnvironmentFactory()
        for url in (LIST, page_of(row.monitor), page_of(row), reverse("admin:monitors_monitorenvironment_changelist")):
            text = read(staff_client, url)
            assert "Last run started" in text
            assert "Last check-in" not in text
            assert "Missed at" not in text
        assert "Missed if silent until" in read(staff_client, page_of(row.monitor))

    def test_a_failure_of_today_is_not_expected_tomorrow(self, staff_client):
        tomorrow = NOW + timedelta(days=1)
        row = factories.MonitorEnvironmentFactory(monitor__crontab="0 0 1 1 *", status="error")
        checkin = factories.CheckInFactory(monitor_environment=row, status="error", expected_time=tomorrow)
        incident = factories.IncidentFactory(monitor_environment=row, starting_checkin=checkin)
        occurrence = factories.OccurrenceFactory(incident=incident, checkin=checkin)
        for shown in (row.monitor, incident, occurrence):
            assert "2026-01-06" not in read(staff_client, page_of(shown))

    def test_a_run_that_ended_says_when(self, staff_client):
        for status in ("ok", "error"):
            checkin = factories.CheckInFactory(status=status, duration_ms=120_000)
            assert "Ended 2026-01-05 10:02" in read(staff_client, page_of(checkin))
        assert "Ended -" in read(staff_client, page_of(factories.CheckInFactory(status="in_progress")))

    def test_an_environment_of_a_disabled_monitor_is_not_green(self, staff_client):
        row = factories.MonitorEnvironmentFactory(monitor__status="disabled", status="ok")
        assert ">disabled</span>" in environment_status(row)
        assert ">ok</span>" not in staff_client.get(page_of(row.monitor)).text

    def test_an_issue_that_was_resolved_by_hand_is_not_green_while_its_incident_is_open(self, staff_client):
        incident = factories.IncidentFactory(issue__status="resolved")
        for url in (page_of(incident.issue), reverse("admin:incidents_issue_changelist")):
            assert "resolved by hand, still failing" in read(staff_client, url)
        over = factories.IncidentFactory(resolved=True)
        assert "still failing" not in read(staff_client, page_of(over.issue))

    def test_the_title_of_a_row_keeps_its_small_letters(self, admin_client):
        monitor = factories.MonitorFactory(name="abc-backup")
        assert "Abc-backup" not in admin_client.get(page_of(monitor)).text

    def test_a_page_that_nobody_edits_leads_back_and_has_no_history_of_changes(self, staff_client, admin_client):
        incident = factories.IncidentFactory()
        page = staff_client.get(page_of(incident)).text
        assert "Back to the list" in page
        assert not re.search(r">\s*Close\s*<", page)
        assert reverse("admin:incidents_incident_history", args=[incident.pk]) not in page
        monitor = incident.monitor_environment.monitor
        history = reverse("admin:monitors_monitor_history", args=[monitor.pk])
        assert history in admin_client.get(page_of(monitor)).text
        assert "Nobody has changed it in the admin." in read(admin_client, history)

    def test_an_empty_list_says_why(self, staff_client):
        url = reverse("admin:incidents_incident_changelist")
        assert "There is nothing here yet." in read(staff_client, url)
        assert "Nothing matches the search and the filters." in read(staff_client, url, q="nothing")

    def test_one_is_not_many(self, staff_client):
        factories.IncidentFactory()
        notification = factories.NotificationFactory()
        assert "1 notification " in read(staff_client, reverse("admin:incidents_notification_changelist"))
        assert "1 environment with an open incident" in staff_client.get(LIST).text
        assert "1 environments" not in staff_client.get(LIST).text
        assert notification.pk

    def test_who_may_only_look_sees_the_schedule(self, staff_client):
        """Without a form there is no `schedule_type` that could show or hide the fields."""
        monitor = factories.MonitorFactory(crontab="7 3 * * *")
        page = html.unescape(staff_client.get(page_of(monitor)).text)
        conditions = re.findall(r'x-show="([^"]*schedule_type[^"]*)"', page)
        assert conditions
        assert all(condition.startswith("typeof schedule_type === 'undefined' || ") for condition in conditions)
        assert "7 3 * * *" in page


class TestReadersTime:
    def shown(self, client, url, zone):
        client.cookies["watchclock_zone"] = zone
        return read(client, url)

    def test_times_are_the_readers_with_the_monitors_beside_them(self, staff_client):
        row = factories.MonitorEnvironmentFactory(monitor__timezone="America/New_York", monitor__crontab="0 12 * * *")
        text = self.shown(staff_client, LIST, "Europe%2FVienna")
        assert "2026-01-05 18:00 (12:00 New York)" in text
        text = self.shown(staff_client, page_of(row.monitor), "Asia/Tokyo")
        assert "2026-01-06 02:00 (01-05 12:00)" in text
        assert "times in Asia/Tokyo, in brackets in America/New_York where that differs" in text

    def test_a_reader_in_the_monitors_own_time_reads_it_once(self, staff_client):
        factories.MonitorEnvironmentFactory(monitor__timezone="Europe/Vienna", monitor__crontab="0 12 * * *")
        assert "2026-01-05 12:00 Vienna" in self.shown(staff_client, LIST, "Europe/Berlin")

    @pytest.mark.parametrize("zone", ["", "Mars/Base", "../../etc/passwd", "%00", "x" * 4000])
    def test_a_zone_that_there_is_not_is_none(self, zone, staff_client):
        factories.MonitorEnvironmentFactory(monitor__timezone="America/New_York", monitor__crontab="0 12 * * *")
        assert "2026-01-05 12:00 New York" in self.shown(staff_client, LIST, zone)

    def test_the_next_reader_does_not_get_it(self, staff_client, admin_client):
        factories.MonitorEnvironmentFactory(monitor__timezone="America/New_York", monitor__crontab="0 12 * * *")
        self.shown(staff_client, LIST, "Asia/Tokyo")
        assert "2026-01-05 12:00 New York" in read(admin_client, LIST)

    def test_the_page_of_the_clock_stays_in_utc(self, staff_client):
        factories.TickFactory(at=NOW)
        text = self.shown(staff_client, reverse("clock"), "Asia/Tokyo")
        assert "2026-01-05 10:00 UTC" in text
        assert "2026-01-05 19:00" not in text


class TestList:
    def test_what_fails_stands_first_with_since_and_why(self, staff_client):
        factories.MonitorEnvironmentFactory(monitor__slug="a-healthy")
        row = factories.MonitorEnvironmentFactory(monitor__slug="z-failing", status="error")
        incident = factories.IncidentFactory(monitor_environment=row, started_at=NOW - 90 * MINUTE)
        factories.OccurrenceFactory(incident=incident)
        off = factories.MonitorEnvironmentFactory(monitor__slug="m-off", monitor__status="disabled", status="error")
        factories.IncidentFactory(monitor_environment=off)

        response = staff_client.get(LIST)

        assert [monitor.slug for monitor in response.context["cl"].result_list] == ["z-failing", "a-healthy", "m-off"]
        assert "failing error, since 2026-01-05 08:30 UTC" in read(staff_client, LIST)

    @pytest.mark.parametrize(
        ("explanation", "words"),
        [
            ({"kind": "missed"}, "missed"),
            ({"kind": "timeout"}, "timed out"),
            ({"kind": "error", "exit_status": 137}, "error, exit status 137"),
            ({}, ""),
        ],
    )
    def test_why_in_a_few_words(self, explanation, words):
        assert why_of(explanation) == words

    def test_what_runs_now_is_shown_with_for_how_long(self, staff_client):
        row = factories.MonitorEnvironmentFactory()
        for minutes in (20, 5):
            factories.CheckInFactory(monitor_environment=row, status="in_progress", date_added=NOW - minutes * MINUTE)
        assert "2, longest 20 minutes" in read(staff_client, LIST)


class TestNewMonitor:
    ADD = reverse("admin:monitors_monitor_add")

    def form(self, **fields):
        usual = {"name": "Nightly backup", "slug": "nightly-backup", "status": "active", "schedule_type": "crontab"}
        numbers = {"checkin_margin": 1, "max_runtime": 30, "failure_threshold": 1, "recovery_threshold": 1}
        return usual | numbers | {"crontab": "0 * * * *", "timezone": "UTC", "severity": "error"} | fields

    def test_the_only_project_is_chosen(self, admin_client):
        project = factories.ProjectFactory()
        form = admin_client.get(self.ADD).context["adminform"].form
        assert form.get_initial_for_field(form.fields["project"], "project") == str(project.pk)
        factories.ProjectFactory()
        form = admin_client.get(self.ADD).context["adminform"].form
        assert form.get_initial_for_field(form.fields["project"], "project") is None

    def test_the_slug_follows_the_name_of_a_new_monitor_only(self, admin_client):
        [followed] = admin_client.get(self.ADD).context["adminform"].prepopulated_fields
        assert (followed["field"].name, [name.name for name in followed["dependencies"]]) == ("slug", ["name"])
        there = admin_client.get(page_of(factories.MonitorFactory()))
        assert not there.context["adminform"].prepopulated_fields

    def test_saving_leads_to_the_ping_url_which_can_be_copied_and_stands_first(self, admin_client):
        response = admin_client.post(self.ADD, self.form(project=factories.ProjectFactory().pk), follow=True)
        monitor = Monitor.objects.get()
        assert response.redirect_chain[-1][0].startswith(page_of(monitor))
        text = response.text
        assert f"/ping/{monitor.guid}</pre>" in text
        assert 'data-copies="ping-url"' in text
        assert text.index('id="ping-url"') < text.index('id="live-state"') < text.index('id="monitor_form"')

    def test_the_runs_of_a_monitor_stand_before_its_form(self, admin_client):
        row = factories.MonitorEnvironmentFactory()
        text = admin_client.get(page_of(row.monitor)).text
        assert text.index('id="history"') < text.index('id="monitor_form"') < text.index('id="ping-url"')


class TestIncidentPage:
    def test_it_shows_exit_status_and_the_end_of_the_log_of_the_newest_failure(self, staff_client):
        incident = factories.IncidentFactory()
        checkin = incident.starting_checkin
        checkin.exit_status = 137
        checkin.save()
        lines = "\n".join(f"line {number}" for number in range(1, 31))
        factories.CheckInLogFactory(checkin=checkin, body=lines.encode())
        factories.OccurrenceFactory(incident=incident)

        page = staff_client.get(page_of(incident)).text
        text = read(staff_client, page_of(incident))

        assert "Exit status 137" in text
        assert "line 11 line 12" in text
        assert "line 30" in text
        assert "line 10 " not in text
        assert page_of(checkin) in page
        assert page_of(incident.monitor_environment.monitor) in page

    def test_what_has_grown_too_old_to_be_kept_is_read_from_the_explanation(self, staff_client):
        explanation = {"kind": "error", "reason": "error", "exit_status": 137, "log_tail": "copying\nkilled"}
        occurrence = factories.OccurrenceFactory(explanation=explanation)
        CheckIn.objects.all().delete()

        text = read(staff_client, page_of(occurrence.incident))

        assert "Exit status 137" in text
        assert "copying killed" in text

    def test_a_failure_that_left_nothing_shows_nothing(self, staff_client):
        occurrence = factories.OccurrenceFactory()
        assert "newest-failure" not in staff_client.get(page_of(occurrence.incident)).text


class TestCheckInPage:
    def test_it_says_how_many_errors_were_folded_into_it(self, staff_client):
        checkin = factories.CheckInFactory(status="error", folded_count=1_234)
        assert "1,234 of the same minute, all counted" in read(staff_client, page_of(checkin))

    def test_it_says_why_it_was_not_judged(self, staff_client):
        checkin = factories.CheckInFactory(status="unknown", unknown_because="disabled")
        assert "Not judged, because its monitor was disabled" in read(staff_client, page_of(checkin))
