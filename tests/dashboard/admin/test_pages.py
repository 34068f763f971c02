"""Every page of every model can be looked at, by those who may look, at a cost that does not grow with rows."""

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from checkins.models import CheckIn
from incidents.models import Incident
from tests import factories

OURS = ("audit", "monitors", "accounts", "checkins", "incidents", "clocktasks")
MODELS = [model for model in admin.site._registry if model._meta.app_label in OURS]
EVERYTHING = [*MODELS, *(model for model in admin.site._registry if model._meta.app_label == "auth")]
QUERIES_MAX = 30


def url_of(model, page, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def change_url(row):
    return url_of(type(row), "change", quote(row.pk))


def label_of(model):
    return model._meta.label


def test_every_model_of_ours_is_in_the_admin():
    from django.apps import apps

    hidden = {"Attempt", "CheckInLog"}  # Shown on the pages of their check-ins and environments.
    hidden |= {"RunningCheckIn"}  # What runs, for the clock; each is a check-in.
    hidden |= {"DeferredEnding"}  # There for seconds, and the check-in is shown.
    hidden |= {"ListeningSpan", "LostSpan", "MinuteVolume"}  # Summed up in ticks, and kept for days only.
    hidden |= {"ShardLayout"}  # One row with a number, which belongs to the command that changes it.
    hidden |= {"ConfigChange"}  # Shown on the pages of their monitors.
    hidden |= {"FormerAddress"}  # Shown on the pages of their monitors, for people.
    hidden |= {"FormerRules"}  # For the clock only; what an edit changed is in the history of its monitor.
    hidden |= {"Housekeeping"}  # One row: how far the removal of old rows has come.
    hidden |= {"Flapping", "LongBroken"}  # People read of it in the messages about its incident.
    hidden |= {"RecentRuns", "RunHour"}  # Summed up on the pages of monitors.
    hidden |= {"Storm"}  # Its messages are shown.
    hidden |= {"MailOutage"}  # One row; the mails that wait for it are shown.
    hidden |= {"Dependency"}  # Shown on the pages of their monitors.
    hidden |= {"Invitation", "Membership"}  # Shown on the pages of their projects.
    hidden |= {"Preferences"}  # People see and change their own.
    hidden |= {"Duty"}  # Shown on the pages of their incidents.
    hidden |= {"FollowUp"}  # What is still to come, for the sweep; what has come is on the pages of their incidents.
    hidden |= {"Comment"}  # Shown on the pages of their issues.
    hidden |= {"Unsubscription"}  # Shown on the pages of their channels.
    hidden |= {"RecentRuns", "RunHour"}  # Shown as percentiles and a chart on the pages of their monitors.
    hidden |= {"Storm"}  # What is told together; its messages are shown.
    hidden |= {"KeyUse"}  # Counters of an hour or a day; what is beyond them is a processing error.
    wanted = {model for app in OURS for model in apps.get_app_config(app).get_models() if model.__name__ not in hidden}
    assert set(MODELS) == wanted


def test_the_index_shows_everything(admin_client):
    response = admin_client.get(reverse("admin:index"))
    assert response.status_code == 200
    for model in MODELS:
        assert url_of(model, "changelist") in response.text


class TestOneOfEach:
    @pytest.mark.parametrize("model", EVERYTHING, ids=label_of)
    def test_the_list_of_every_model_renders(self, model, admin_client, one_of_each):
        assert admin_client.get(url_of(model, "changelist")).status_code == 200

    @pytest.mark.parametrize("model", MODELS, ids=label_of)
    def test_the_page_of_a_row_of_every_model_renders(self, model, admin_client, one_of_each):
        for row in model._default_manager.all():
            response = admin_client.get(change_url(row))
            assert response.status_code == 200, row

    @pytest.mark.parametrize("model", MODELS, ids=label_of)
    def test_every_list_can_be_searched_and_sorted_by_every_column(self, model, admin_client, one_of_each):
        model_admin = admin.site._registry[model]
        url = url_of(model, "changelist")
        if model_admin.search_fields:
            assert admin_client.get(url, {"q": "job"}).status_code == 200
        columns = ".".join(f"-{column}" for column in range(1, len(model_admin.list_display) + 1))
        assert admin_client.get(url, {"o": columns}).status_code == 200

    @pytest.mark.parametrize("model", MODELS, ids=label_of)
    def test_staff_with_the_view_permissions_may_look_at_everything_but_keys(self, model, staff_client, one_of_each):
        status = 403 if model.__name__ == "IngestKey" else 200
        assert staff_client.get(url_of(model, "changelist")).status_code == status
        assert staff_client.get(change_url(model._default_manager.first())).status_code == status

    @pytest.mark.parametrize("model", MODELS, ids=label_of)
    def test_people_who_are_not_staff_see_nothing(self, model, outsider_client, one_of_each):
        for url in (url_of(model, "changelist"), change_url(model._default_manager.first())):
            response = outsider_client.get(url)
            assert response.status_code == 302
            assert response.url.startswith(reverse("admin:login"))

    @pytest.mark.parametrize("model", MODELS, ids=label_of)
    def test_history_is_written_by_nobody(self, model, admin_client, staff_client, one_of_each):
        made_by_people = {"Monitor", "Project", "IngestKey", "MaintenanceWindow", "Channel", "Route", "WeeklyReport"}
        may_add = admin_client.get(url_of(model, "add")).status_code == 200
        assert may_add == (model.__name__ in made_by_people)
        assert staff_client.get(url_of(model, "add")).status_code == 403
        row = model._default_manager.first()
        for client in (staff_client, *(() if model.__name__ in made_by_people else (admin_client,))):
            assert client.post(change_url(row), {}).status_code == 403


def queries_of(client, urls):
    """How many statements each page costs."""
    counts = {}
    for url in urls:
        client.get(url)  # Content types and the like are cached by the first request.
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        counts[url] = len(captured)
    return counts


def many_rows(count):
    for _ in range(count):
        incident = factories.IncidentFactory()
        environment = incident.monitor_environment
        factories.OccurrenceFactory(incident=incident)
        factories.NotificationFactory(incident=incident)
        factories.ProcessingErrorFactory(monitor=environment.monitor)
        factories.IngestKeyFactory(project=environment.monitor.project)
        factories.MembershipFactory(project=environment.monitor.project)
        factories.AuditEntryFactory(project_id=environment.monitor.project_id)
        factories.MaintenanceWindowFactory(project=environment.monitor.project)
        factories.WaitingCheckInFactory(project=environment.monitor.project)
        factories.ClientLossReportFactory(project=environment.monitor.project)
        factories.TickFactory()
        factories.AppliedTickFactory()
        factories.ClockIncidentFactory()
    for shard in range(min(count, 16)):
        factories.ShardClockFactory(shard=shard)


def test_every_list_costs_the_same_number_of_queries_for_five_and_for_twenty_five_rows(admin_client):
    many_rows(5)
    urls = [url_of(model, "changelist") for model in MODELS]
    few = queries_of(admin_client, urls)
    many_rows(20)
    many = queries_of(admin_client, urls)
    assert many == few
    assert max(many.values()) <= QUERIES_MAX


def grow(environment, incident, count):
    """More of everything that the pages of a monitor, an environment, an incident and an issue show."""
    monitor = environment.monitor
    for number in range(count):
        checkin = factories.CheckInFactory(monitor_environment=environment, status="error")
        factories.OccurrenceFactory(incident=incident, checkin=checkin)
        factories.AttemptFactory(checkin=checkin)
        missed = factories.CheckInFactory(monitor_environment=environment, status="missed")
        factories.OccurrenceFactory(incident=incident, checkin=missed)
        factories.CheckInLogFactory(checkin=checkin)
        factories.CheckInLogFactory(monitor_environment=environment)
        factories.ClientLossReportFactory(project=monitor.project)
        factories.ProcessingErrorFactory(monitor=monitor, field=f"{count}-{number}")
        factories.IngestKeyFactory(project=monitor.project)
        factories.MaintenanceWindowFactory(project=monitor.project)
        name = factories.EnvironmentFactory(project=monitor.project, name=f"place-{count}-{number}")
        other = factories.MonitorEnvironmentFactory(monitor=monitor, environment=name, status="error")
        factories.IncidentFactory(monitor_environment=other)


def test_a_page_costs_the_same_number_of_queries_for_five_and_for_twenty_five_rows_on_it(admin_client):
    incident = factories.IncidentFactory()
    environment = incident.monitor_environment
    missed = factories.CheckInFactory(monitor_environment=environment, status="missed")
    occurrence = factories.OccurrenceFactory(incident=incident, checkin=missed)
    monitor = environment.monitor
    urls = [
        change_url(row) for row in (monitor, environment, incident, incident.issue, monitor.project, occurrence, missed)
    ]
    grow(environment, incident, 5)
    few = queries_of(admin_client, urls)
    grow(environment, incident, 20)
    many = queries_of(admin_client, urls)
    assert many == few
    assert max(many.values()) <= QUERIES_MAX


@pytest.mark.parametrize("resolved", [False, True])
def test_an_incident_outlives_the_check_ins_that_it_points_at(resolved, admin_client):
    occurrence = factories.OccurrenceFactory(incident=factories.IncidentFactory(resolved=resolved))
    CheckIn.objects.all().delete()
    incident = Incident.objects.get()
    for row in (incident, incident.issue, occurrence):
        response = admin_client.get(change_url(row))
        assert response.status_code == 200
        assert "removed" in response.text
    assert admin_client.get(url_of(Incident, "changelist")).text.count(str(incident.issue)) >= 1


def test_an_incident_without_an_issue_can_be_looked_at(admin_client):
    incident = factories.IncidentFactory(issue=None)
    assert "the environment was muted" in admin_client.get(change_url(incident)).text
    assert "none (muted)" in admin_client.get(change_url(incident.monitor_environment.monitor)).text
