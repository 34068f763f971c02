"""Editing monitors in the admin: what may be typed, what follows from it, and what the page says."""

import html
from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import IntegrityError
from django.urls import reverse

from dashboard.addresses import address_of, key_of
from dashboard.admin.monitors import MonitorAdmin
from lib.wallclock import utcnow
from monitors.hot_rows import state_of
from monitors.models import IngestKey, Monitor, MonitorEnvironment, Project
from monitors.snippets import client_lines, ping_lines
from tests import factories
from tests.dashboard.wall import set_clock
from tests.factories import NOW

LIST = reverse("admin:monitors_monitor_changelist")
ADD = reverse("admin:monitors_monitor_add")


@pytest.fixture(autouse=True)
def _the_time_is_ten(monkeypatch):
    set_clock(monkeypatch, lambda: NOW)


def page_of(row):
    return reverse(f"admin:monitors_{row._meta.model_name}_change", args=[row.pk])


def typed(monitor=None, **changes):
    """What the form sends for a monitor as it is, with some fields changed."""
    values = {
        "slug": "nightly-backup",
        "name": "Nightly backup",
        "status": "active",
        "schedule_type": "crontab",
        "crontab": "0 * * * *",
        "interval": "",
        "interval_unit": "",
        "timezone": "UTC",
        "checkin_margin": "1",
        "max_runtime": "30",
        "failure_threshold": "1",
        "recovery_threshold": "1",
        "severity": "error",
        "owner": "",
        "tags": "",
    }
    if monitor is not None:
        values |= {name: getattr(monitor, name) for name in values if name != "tags"}
    return {name: "" if value is None else value for name, value in (values | changes).items() if value is not False}


def save(client, monitor, **changes):
    return client.post(page_of(monitor), typed(monitor, **changes))


def errors_of(response):
    assert response.status_code == 200, response.status_code
    return {field: list(messages) for field, messages in response.context["adminform"].form.errors.items()}


def expected(row):
    row.refresh_from_db()
    return f"{row.next_checkin:%H:%M} {row.next_checkin_latest:%H:%M}"


def deadline_of(row):
    row.refresh_from_db()
    return row.next_checkin_latest


class TestEditing:
    def test_d10_a_new_schedule_is_expected_from_now_in_every_environment(self, admin_client):
        row = factories.MonitorEnvironmentFactory(monitor__crontab="*/5 * * * *")
        staging = factories.EnvironmentFactory(project=row.monitor.project, name="staging")
        other = factories.MonitorEnvironmentFactory(monitor=row.monitor, environment=staging)
        assert expected(row) == "10:05 10:06"
        assert save(admin_client, row.monitor, crontab="30 * * * *").status_code == 302
        assert [expected(row), expected(other)] == ["10:30 10:31"] * 2

    def test_d10_a_new_time_zone_is_expected_from_now(self, admin_client):
        row = factories.MonitorEnvironmentFactory(monitor__crontab="0 12 * * *")
        save(admin_client, row.monitor, timezone="Europe/Vienna")
        assert expected(row) == "11:00 11:01"

    def test_d10_a_new_margin_moves_the_deadline(self, admin_client):
        row = factories.MonitorEnvironmentFactory(monitor__crontab="0 * * * *")
        save(admin_client, row.monitor, checkin_margin=20)
        assert expected(row) == "11:00 11:20"

    def test_a_crontab_becomes_an_interval(self, admin_client):
        row = factories.MonitorEnvironmentFactory()
        save(admin_client, row.monitor, schedule_type="interval", interval="90", interval_unit="minute")
        assert expected(row) == "11:30 11:31"
        row.monitor.refresh_from_db()
        assert (row.monitor.crontab, row.monitor.interval) == (None, 90)

    def test_a_nickname_is_saved_as_the_fields_it_stands_for(self, admin_client):
        monitor = factories.MonitorFactory()
        save(admin_client, monitor, crontab="@daily")
        monitor.refresh_from_db()
        assert monitor.crontab == "0 0 * * *"

    def test_a_new_name_changes_nothing_that_is_expected(self, admin_client):
        row = factories.MonitorEnvironmentFactory(last_checkin=NOW - timedelta(minutes=3))
        before = expected(row)
        save(admin_client, row.monitor, name="Another name")
        row.monitor.refresh_from_db()
        assert (row.monitor.name, expected(row)) == ("Another name", before)

    def test_a_monitor_has_each_tag_once_and_not_too_many(self, admin_client):
        monitor = factories.MonitorFactory()
        save(admin_client, monitor, tags="a,b,a")
        monitor.refresh_from_db()
        assert monitor.tags == ["a", "b"]
        errors = errors_of(save(admin_client, monitor, tags=",".join(map(str, range(21)))))
        assert errors["tags"] == ["A monitor has at most 20 tags, these are 21."]

    def test_tags_and_owner_are_saved(self, admin_client):
        monitor = factories.MonitorFactory()
        save(admin_client, monitor, tags="money,night", owner="team:billing")
        monitor.refresh_from_db()
        assert (monitor.tags, monitor.owner) == (["money", "night"], "team:billing")

    def test_the_severity_is_one_of_four(self, admin_client):
        monitor = factories.MonitorFactory()
        save(admin_client, monitor, severity="critical")
        monitor.refresh_from_db()
        assert monitor.severity == "critical"
        assert "bad is not one of" in errors_of(save(admin_client, monitor, severity="bad"))["severity"][0]

    def test_what_it_depends_on_is_saved_and_a_cycle_is_an_error_at_the_field(self, admin_client):
        app = factories.MonitorFactory(slug="app")
        db = factories.MonitorFactory(slug="db", project=app.project)
        save(admin_client, app, depends_on="db")
        assert [row.upstream for row in app.dependencies.all()] == [db]
        errors = errors_of(save(admin_client, db, depends_on="app"))
        assert errors["depends_on"] == ["It would depend on itself: db → app → db."]
        save(admin_client, app, depends_on="")
        assert not app.dependencies.exists()

    def test_muting_on_the_page_mutes_every_environment(self, admin_client):
        row = factories.MonitorEnvironmentFactory()
        save(admin_client, row.monitor, is_muted="on")
        row.refresh_from_db()
        assert row.is_muted

    def test_the_configuration_snapshot_follows(self, admin_client):
        monitor = factories.MonitorFactory()
        save(admin_client, monitor, max_runtime=7)
        monitor.refresh_from_db()
        assert monitor.config.config["max_runtime"] == 7

    def test_d10_re_enabling_on_the_page_never_leaves_an_overdue_deadline(self, admin_client):
        row = factories.MonitorEnvironmentFactory(last_checkin=NOW - timedelta(days=3))
        save(admin_client, row.monitor, status="disabled")
        assert deadline_of(row) < NOW, "what had come is left to the clock, which records it as unknown (D23)"
        row.monitor.refresh_from_db()
        save(admin_client, row.monitor, status="active")
        assert deadline_of(row) < NOW, "it still is the clock's, beside what is expected now (D32)"
        latest = state_of(row).spans[-1].next_checkin_latest
        assert latest is not None
        assert latest > NOW

    def test_a_monitor_stays_in_its_project(self, admin_client):
        monitor = factories.MonitorFactory()
        save(admin_client, monitor, project=factories.ProjectFactory().pk)
        before = monitor.project_id
        monitor.refresh_from_db()
        assert monitor.project_id == before


class TestCreating:
    def test_a_monitor_is_created_with_its_snapshot(self, admin_client):
        project = factories.ProjectFactory()
        response = admin_client.post(ADD, typed(project=project.pk, timezone="", tags="a"))
        assert response.status_code == 302
        monitor = Monitor.objects.get()
        assert (monitor.slug, monitor.timezone, monitor.created_at) == ("nightly-backup", "UTC", NOW)
        assert monitor.config.config["crontab"] == "0 * * * *"

    @pytest.mark.parametrize(
        "slug", ["Backup", "12345", "with space", "a/b", "x" * 51, "ünder", "_", "a--b", "-a", "a_"]
    )
    def test_d27_a_slug_that_no_check_in_could_name_is_refused(self, slug, admin_client):
        response = admin_client.post(ADD, typed(project=factories.ProjectFactory().pk, slug=slug))
        assert list(errors_of(response)) == ["slug"]

    @pytest.mark.parametrize("slug", ["a", "1-a", "x" * 50, "under_score-1"])
    def test_a_slug_of_small_letters_digits_dashes_and_underscores_is_taken(self, slug, admin_client):
        assert admin_client.post(ADD, typed(project=factories.ProjectFactory().pk, slug=slug)).status_code == 302

    def test_a_taken_slug_is_an_error_at_the_slug(self, admin_client):
        monitor = factories.MonitorFactory(slug="nightly-backup")
        response = admin_client.post(ADD, typed(project=monitor.project_id))
        assert errors_of(response) == {"slug": ["The project already has a monitor with the slug nightly-backup."]}

    def test_a_slug_taken_in_another_project_is_free(self, admin_client):
        factories.MonitorFactory(slug="nightly-backup")
        assert admin_client.post(ADD, typed(project=factories.ProjectFactory().pk)).status_code == 302

    def test_renaming_to_a_taken_slug_is_an_error_at_the_slug(self, admin_client):
        monitor = factories.MonitorFactory()
        other = factories.MonitorFactory(project=monitor.project)
        assert list(errors_of(save(admin_client, monitor, slug=other.slug))) == ["slug"]

    def test_a_slug_taken_between_check_and_insert_causes_no_traceback(self, admin_client, monkeypatch):
        project = factories.ProjectFactory()

        def beaten(monitor, by):
            monkeypatch.undo()
            for _ in range(2):
                factories.MonitorFactory(project=project, slug=monitor.slug)

        monkeypatch.setattr("dashboard.admin.monitors.create_monitor", beaten)
        response = admin_client.post(ADD, typed(project=project.pk))
        # The other monitor is rolled back with this request, so the second look finds the slug free and saves.
        assert response.status_code == 302
        assert Monitor.objects.get().name == "Nightly backup"

    def test_any_other_broken_constraint_is_loud(self, admin_client, monkeypatch):
        def broken(monitor, by):
            factories.MonitorFactory(project=monitor.project, checkin_margin=0)

        monkeypatch.setattr("dashboard.admin.monitors.create_monitor", broken)
        with pytest.raises(IntegrityError, match="monitor_margin_in_range"):
            admin_client.post(ADD, typed(project=factories.ProjectFactory().pk))


class TestWhatMayBeTyped:
    @pytest.mark.parametrize(
        ("changes", "field", "sentence"),
        [
            (
                {"crontab": "61 * * * *"},
                "crontab",
                "the field for the minute holds '61', it takes numbers from 0 to 59",
            ),
            ({"crontab": "0 0 31 2 *"}, "crontab", "crontab '0 0 31 2 *' cannot be used: it never matches, it takes"),
            ({"crontab": ""}, "crontab", "crontab '' cannot be used: "),
            ({"crontab": "* * * * * *"}, "crontab", "a field for seconds is not supported"),
            ({"crontab": "@reboot"}, "crontab", "this nickname is not known"),
            ({"timezone": "Mars/Olympus"}, "timezone", "timezone 'Mars/Olympus' cannot be used: it takes a name of"),
            (
                {"schedule_type": "interval", "interval": "0", "interval_unit": "hour"},
                "interval",
                "interval '0' cannot be used: it takes a whole number from 1 to 876000",
            ),
            (
                {"schedule_type": "interval", "interval": "two", "interval_unit": "hour"},
                "interval",
                "interval 'two' cannot be used",
            ),
            (
                {"schedule_type": "interval", "interval": "5", "interval_unit": ""},
                "interval_unit",
                "interval_unit '' cannot be used: it takes one of minute, hour, day, week, month, year",
            ),
            ({"checkin_margin": "0"}, "checkin_margin", "Enter a whole number from 1 to 40320."),
            ({"checkin_margin": "40321"}, "checkin_margin", "Enter a whole number from 1 to 40320."),
            ({"checkin_margin": "soon"}, "checkin_margin", "Enter a whole number from 1 to 40320."),
            ({"max_runtime": "10081"}, "max_runtime", "Enter a whole number from 1 to 10080."),
            ({"failure_threshold": "721"}, "failure_threshold", "Enter a whole number from 1 to 720."),
            ({"recovery_threshold": ""}, "recovery_threshold", "Enter a whole number from 1 to 720."),
        ],
    )
    def test_what_cannot_be_used_is_said_at_its_field_and_saves_nothing(self, changes, field, sentence, admin_client):
        row = factories.MonitorEnvironmentFactory()
        before = expected(row)
        errors = errors_of(save(admin_client, row.monitor, **changes))
        assert list(errors) == [field]
        assert sentence in errors[field][0]
        assert len(errors[field]) == 1
        assert expected(row) == before

    @pytest.mark.parametrize("name", ["checkin_margin", "max_runtime", "failure_threshold", "recovery_threshold"])
    def test_the_ends_of_every_range_can_be_saved(self, name, admin_client):
        most = {"checkin_margin": 40_320, "max_runtime": 10_080}.get(name, 720)
        monitor = factories.MonitorFactory()
        for value in (1, most):
            assert save(admin_client, monitor, **{name: value}).status_code == 302


class TestPreview:
    URL = reverse("admin:monitors_monitor_preview")

    def test_it_shows_the_next_ten_times_of_what_is_typed_in_the_zone_that_is_typed(self, staff_client):
        query = {"schedule_type": "crontab", "crontab": "30 */6 * * *", "timezone": "Asia/Kathmandu"}
        answer = staff_client.get(self.URL, query).json()
        assert answer["text"].endswith("(Asia/Kathmandu)")
        assert len(answer["times"]) == 10
        assert answer["times"][0] == "Mon 2026-01-05 18:30 +0545"

    def test_an_interval_counts_from_now(self, staff_client):
        query = {"schedule_type": "interval", "interval": "2", "interval_unit": "hour", "timezone": ""}
        answer = staff_client.get(self.URL, query).json()
        assert answer["times"][:2] == ["Mon 2026-01-05 12:00 UTC", "Mon 2026-01-05 14:00 UTC"]

    def test_it_says_what_is_wrong_in_the_sentence_of_the_form(self, staff_client):
        query = {"schedule_type": "interval", "interval": "0", "interval_unit": "year"}
        response = staff_client.get(self.URL, query)
        assert response.status_code == 400
        assert response.json() == {
            "field": "interval",
            "error": "interval '0' cannot be used: it takes a whole number from 1 to 100 for the unit year.",
        }

    def test_it_answers_nobody_else(self, outsider_client):
        assert outsider_client.get(self.URL, {"schedule_type": "crontab", "crontab": "* * * * *"}).status_code == 302

    def test_the_page_shows_the_saved_schedule_without_a_script(self, staff_client):
        monitor = factories.MonitorFactory(crontab="0 12 * * *", timezone="Europe/Vienna")
        assert "Mon 2026-01-05 12:00 CET" in staff_client.get(page_of(monitor)).text


class TestPage:
    def test_it_shows_expected_times_in_the_zone_of_the_monitor(self, staff_client):
        row = factories.MonitorEnvironmentFactory(
            monitor__crontab="0 12 * * *", monitor__timezone="America/New_York", monitor__checkin_margin=10
        )
        for url in (LIST, page_of(row.monitor)):
            text = staff_client.get(url).text
            assert "2026-01-05 12:00" in text
            assert "America/New_York" in text
        assert "2026-01-05 12:10" in staff_client.get(page_of(row.monitor)).text

    def test_it_shows_environments_open_incidents_check_ins_and_errors(self, staff_client):
        incident = factories.IncidentFactory()
        environment = incident.monitor_environment
        error = factories.ProcessingErrorFactory(monitor=environment.monitor, message="What was sent is strange.")
        missed = factories.CheckInFactory(monitor_environment=environment, status="missed")
        text = staff_client.get(page_of(environment.monitor)).text
        for row in (environment, incident, incident.issue, missed, error):
            meta = row._meta
            assert reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk]) in text
        assert error.message in text

    def test_it_shows_the_twenty_newest_check_ins_of_all_environments(self, staff_client):
        row = factories.MonitorEnvironmentFactory()
        staging = factories.EnvironmentFactory(project=row.monitor.project, name="staging")
        other = factories.MonitorEnvironmentFactory(monitor=row.monitor, environment=staging)
        checkins = [
            factories.CheckInFactory(
                monitor_environment=(row, other)[number % 2], date_added=NOW + timedelta(minutes=number)
            )
            for number in range(30)
        ]
        text = staff_client.get(page_of(row.monitor)).text
        shown = [number for number, checkin in enumerate(checkins) if str(checkin.guid)[:8] in text]
        assert shown == list(range(10, 30))

    def test_it_shows_who_would_be_told_of_a_failure(self, admin_client):
        monitor = factories.MonitorFactory()
        pager = factories.ChannelFactory(project=monitor.project, name="Pager")
        matchers = [{"attribute": "kind", "operator": "is", "values": ["error"]}]
        factories.RouteFactory(project=monitor.project, name="errors", to=[pager], matchers=matchers)
        page = admin_client.get(page_of(monitor)).content.decode()
        told = page[page.index('id="notified"') : page.index('id="history"')]
        assert "Pager (route &#x27;errors&#x27;: kind is error)" in told
        assert "nobody" in told

    def test_it_warns_when_the_job_configures_itself(self, staff_client):
        monitor = factories.MonitorFactory(is_upserting=True)
        assert "may overwrite what is edited here" in staff_client.get(page_of(monitor)).text

    @pytest.mark.parametrize(
        ("status", "environments", "shown"),
        [
            ("active", [], "waiting"),
            ("active", ["active"], "waiting"),
            ("active", ["ok", "active"], "ok"),
            ("active", ["ok", "error"], "failing"),
            ("disabled", ["error"], "disabled"),
        ],
    )
    def test_the_list_shows_the_worst_environment(self, status, environments, shown, staff_client):
        monitor = factories.MonitorFactory(status=status)
        for number, environment_status in enumerate(environments):
            place = factories.EnvironmentFactory(project=monitor.project, name=f"place-{number}")
            factories.MonitorEnvironmentFactory(monitor=monitor, environment=place, status=environment_status)
        row = staff_client.get(LIST).context["cl"].result_list[0]
        assert f">{shown}</span>" in MonitorAdmin(Monitor, admin.site).status_labels(row)

    def test_a_monitor_that_is_being_deleted_is_out_of_sight(self, admin_client):
        monitor = factories.MonitorFactory(status="pending_deletion", slug="on-its-way-out")
        assert "on-its-way-out" not in admin_client.get(LIST).text
        assert admin_client.get(page_of(monitor)).status_code == 302

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"failing": "yes"}, ["failing"]),
            ({"failing": "no"}, ["muted", "off", "quiet"]),
            ({"muted": "yes"}, ["muted"]),
            ({"status": "disabled"}, ["off"]),
            ({"schedule_type__exact": "interval"}, ["quiet"]),
            ({"owner__icontains": "billing"}, ["failing"]),
            ({"q": "qui"}, ["quiet"]),
            ({"q": "nothing"}, []),
        ],
        ids=str,
    )
    def test_filters_and_search(self, query, found, staff_client):
        factories.MonitorEnvironmentFactory(monitor__slug="failing", monitor__owner="team:billing", status="error")
        factories.MonitorFactory(slug="muted", is_muted=True)
        factories.MonitorFactory(slug="off", status="disabled")
        factories.MonitorFactory(slug="quiet", interval=1, interval_unit="day")
        assert [monitor.slug for monitor in staff_client.get(LIST, query).context["cl"].result_list] == found


def run(client, url, action, rows):
    return client.post(url, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)


class TestActions:
    def test_mute_and_unmute_reach_every_environment_and_say_how_many(self, operator_client):
        rows = factories.MonitorEnvironmentFactory.create_batch(2)
        monitors = [row.monitor for row in rows]
        assert "Muted 2 monitors." in run(operator_client, LIST, "mute", monitors).text
        assert MonitorEnvironment.objects.filter(is_muted=True, monitor__is_muted=True).count() == 2
        assert "Unmuted 1 monitor." in run(operator_client, LIST, "unmute", monitors[:1]).text
        assert MonitorEnvironment.objects.filter(is_muted=True).get() == rows[1]

    def test_d10_disable_expects_nothing_and_enable_never_leaves_an_overdue_deadline(self, operator_client):
        row = factories.MonitorEnvironmentFactory(last_checkin=NOW - timedelta(days=3))
        assert deadline_of(row) < NOW
        current = factories.MonitorEnvironmentFactory(last_checkin=utcnow())
        done = run(operator_client, LIST, "disable", [row.monitor, current.monitor])
        assert "Disabled 2 monitors." in done.text
        assert deadline_of(current) is None
        assert deadline_of(row) < NOW, "what had come is left to the clock, which records it as unknown (D23)"
        assert "Enabled 1 monitor." in run(operator_client, LIST, "enable", [row.monitor]).text
        assert deadline_of(row) < NOW, "it still is the clock's, beside what is expected now (D32)"
        latest = state_of(row).spans[-1].next_checkin_latest
        assert latest is not None
        assert latest > NOW

    def test_delete_goes_through_the_service_and_frees_the_slug(self, operator_client):
        row = factories.MonitorEnvironmentFactory(monitor__slug="nightly")
        checkin = factories.CheckInFactory(monitor_environment=row)
        question = run(operator_client, LIST, "delete_selected", [row.monitor])
        assert "nightly" in question.text
        assert str(checkin.guid) not in question.text
        done = operator_client.post(
            LIST, {"action": "delete_selected", "_selected_action": [row.monitor.pk], "post": "yes"}, follow=True
        )
        assert "Successfully deleted 1 monitor." in done.text
        row.refresh_from_db()
        assert (row.status, row.monitor.status) == ("pending_deletion", "pending_deletion")
        assert not Monitor.objects.filter(slug="nightly").exists()

    def test_delete_on_the_page_goes_through_the_service(self, operator_client):
        monitor = factories.MonitorFactory()
        url = reverse("admin:monitors_monitor_delete", args=[monitor.pk])
        assert operator_client.post(url, {"post": "yes"}).status_code == 302
        monitor.refresh_from_db()
        assert monitor.status == "pending_deletion"

    def test_single_environments_are_muted_and_unmuted(self, operator_client):
        url = reverse("admin:monitors_monitorenvironment_changelist")
        row = factories.MonitorEnvironmentFactory()
        assert "Muted 1 monitor environment." in run(operator_client, url, "mute", [row]).text
        row.refresh_from_db()
        assert row.is_muted
        assert "Unmuted 1 monitor environment." in run(operator_client, url, "unmute", [row]).text
        row.refresh_from_db()
        assert not row.is_muted

    def test_d15_deleting_environments_leaves_the_monitor_and_the_others(self, admin_client):
        row = factories.MonitorEnvironmentFactory()
        staging = factories.EnvironmentFactory(project=row.monitor.project, name="staging")
        other = factories.MonitorEnvironmentFactory(monitor=row.monitor, environment=staging)
        url = reverse("admin:monitors_monitorenvironment_changelist")
        admin_client.post(url, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
        statuses = {each.pk: each.status for each in MonitorEnvironment.objects.all()}
        assert statuses == {row.pk: "pending_deletion", other.pk: "ok"}
        row.monitor.refresh_from_db()
        assert row.monitor.status == "active"

    @pytest.mark.parametrize("name", ["mute", "unmute", "enable", "disable", "delete_selected"])
    def test_staff_without_the_permission_is_refused(self, name, staff_client):
        row = factories.MonitorEnvironmentFactory()
        assert run(staff_client, LIST, name, [row.monitor]).status_code == 403
        row.monitor.refresh_from_db()
        assert (row.monitor.is_muted, row.monitor.status) == (False, "active")


class TestConnecting:
    """What stands in the lines, and that they work: tests/monitors/test_snippets.py."""

    def shown(self, client, monitor, host="watchclock.example.com:8123"):
        return html.unescape(client.get(page_of(monitor), headers={"host": host}).text)

    @pytest.fixture(autouse=True)
    def _any_host(self, settings):
        settings.ALLOWED_HOSTS = ["*"]

    def test_the_page_of_a_monitor_shows_its_ping_url_and_every_line_to_the_letter(self, admin_client):
        monitor = factories.MonitorFactory(crontab="7 3 * * *", timezone="Europe/Vienna")
        key = factories.IngestKeyFactory(project=monitor.project)
        address = address_of(monitor, "http://watchclock.example.com:8123", key=key_of(monitor.project))
        assert address.public_key == key.public_key
        text = self.shown(admin_client, monitor)
        assert f"http://watchclock.example.com:8123/ping/{monitor.guid}" in text
        for line in (*ping_lines(address), *client_lines(address)):
            assert f">{line.text}</pre>" in text, line.title
            assert line.title in text

    def test_the_address_is_the_one_that_is_set(self, admin_client, settings):
        settings.PUBLIC_URL = "https://clock.example.com/jobs"
        monitor = factories.MonitorFactory()
        factories.IngestKeyFactory(project=monitor.project)
        text = self.shown(admin_client, monitor)
        assert f"https://clock.example.com/jobs/ping/{monitor.guid}" in text
        assert ":8123" not in text
        assert ":8123" not in self.shown(admin_client, monitor.project)

    def test_the_oldest_active_key_is_shown(self, admin_client):
        monitor = factories.MonitorFactory()
        keys = [factories.IngestKeyFactory(project=monitor.project, is_active=active) for active in (False, True, True)]
        text = self.shown(admin_client, monitor)
        assert [key.public_key in text for key in keys] == [False, True, False]

    def test_without_a_key_the_ping_url_works_all_the_same(self, admin_client):
        text = self.shown(admin_client, factories.MonitorFactory())
        assert "Ping URL" in text
        assert "Sentry DSN" not in text

    def test_a_monitor_that_is_being_added_has_no_address_yet(self, admin_client):
        assert "Ping URL" not in admin_client.get(ADD).text


class TestProjects:
    def test_a_new_key_generates_itself_and_the_page_shows_what_to_paste(self, admin_client):
        project = factories.ProjectFactory()
        url = reverse("admin:monitors_project_change", args=[project.pk])
        formset = {"ingest_keys-TOTAL_FORMS": "1", "ingest_keys-INITIAL_FORMS": "0", "ingest_keys-MIN_NUM_FORMS": "0"}
        formset |= {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
        blank = admin_client.get(url).context["inline_admin_formsets"][0].formset.empty_form["public_key"].value()
        line = {"ingest_keys-0-public_key": blank, "ingest_keys-0-label": "jobs", "ingest_keys-0-is_active": "on"}
        response = admin_client.post(url, {"name": project.name, "slug": project.slug, **formset, **line})
        assert response.status_code == 302
        key = IngestKey.objects.get().public_key
        assert len(key) == 32
        text = admin_client.get(url, headers={"host": "localhost:8123"}).text
        assert f"http://{key}@localhost:8123/{project.pk}" in text
        assert f"http://localhost:8123/api/{project.pk}/cron/my-job/{key}/?status=ok" in text
        assert "sentry-cli monitors run" in text
        assert "sentry_sdk.init(" in text

    def test_a_new_project_is_created(self, admin_client):
        formset = {"ingest_keys-TOTAL_FORMS": "0", "ingest_keys-INITIAL_FORMS": "0"}
        formset |= {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
        url = reverse("admin:monitors_project_add")
        assert admin_client.post(url, {"name": "Shop", "slug": "shop", **formset}).status_code == 302
        assert Project.objects.get().created_at == NOW

    def test_a_key_can_be_made_on_its_own_page(self, admin_client):
        url = reverse("admin:monitors_ingestkey_add")
        public_key = admin_client.get(url).context["adminform"].form["public_key"].value()
        project = factories.ProjectFactory()
        form = {"project": project.pk, "public_key": public_key, "label": "", "is_active": "on"}
        assert admin_client.post(url, form).status_code == 302
        assert IngestKey.objects.get().public_key == public_key

    def test_a_key_that_no_client_would_accept_is_a_form_error(self, admin_client):
        url = reverse("admin:monitors_ingestkey_add")
        form = {"project": factories.ProjectFactory().pk, "public_key": "UPPER", "label": "", "is_active": "on"}
        assert admin_client.post(url, form).status_code == 200
