"""Weekly reports in the admin: an e-mail channel of the project, an hour of a weekday, and a report at once."""

import pytest

from audit.models import AuditEntry
from incidents.models import Message, WeeklyReport
from tests.factories import ChannelFactory, ProjectFactory, WeeklyReportFactory

pytestmark = pytest.mark.django_db
REPORTS = "/admin/incidents/weeklyreport/"


def form(project, channel, **changes):
    values = {"project": project.pk, "channel": channel.pk, "weekday": 0, "hour": 8, "timezone": "Europe/Vienna"}
    return values | {"is_enabled": "on"} | changes


def mail_channel(**columns):
    return ChannelFactory(kind="email", values={"to": "ops@example.com"}, **columns)


def test_a_plan_is_stored_recorded_and_begins_with_its_next_week(admin_client):
    channel = mail_channel()
    response = admin_client.post(f"{REPORTS}add/", form(channel.project, channel))

    assert response.status_code == 302
    stored = WeeklyReport.objects.get()
    assert (stored.weekday, stored.hour, stored.timezone) == (0, 8, "Europe/Vienna")
    assert stored.last_day is not None
    assert AuditEntry.objects.get().action == "created"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"timezone": "Europe/Nowhere"}, "timezone", "Europe/Nowhere"),
        ({"hour": 24}, "hour", "24 is no hour: 0 to 23 are."),
        ({"weekday": 7}, "weekday", "7"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field(admin_client, changes, field, words):
    channel = mail_channel()
    response = admin_client.post(f"{REPORTS}add/", form(channel.project, channel, **changes))

    assert words in response.context["adminform"].form.errors[field][0]
    assert not WeeklyReport.objects.exists()


@pytest.mark.parametrize("which", ["of another project", "no mail"])
def test_the_channel_is_an_e_mail_channel_of_the_project(admin_client, which):
    project = ProjectFactory()
    channel = mail_channel() if which == "of another project" else ChannelFactory(project=project)
    response = admin_client.post(f"{REPORTS}add/", form(project, channel))

    assert "no e-mail channel of this project" in response.context["adminform"].form.errors["channel"][0]


def test_an_edit_is_recorded_with_what_changed(admin_client):
    report = WeeklyReportFactory()
    admin_client.post(f"{REPORTS}{report.pk}/change/", form(report.project, report.channel, hour=9))

    report.refresh_from_db()
    assert report.hour == 9
    assert AuditEntry.objects.get().changes["hour"] == [8, 9]


def test_the_newest_week_is_sent_at_once_by_hand(admin_client):
    report = WeeklyReportFactory()
    for _ in range(2):
        response = admin_client.post(REPORTS, {"action": "send_now", "_selected_action": [report.pk]}, follow=True)
        assert "sent to 1 address" in response.content.decode()
    assert Message.objects.filter(kind="report").count() == 2
    report.refresh_from_db()
    assert report.last_day is None, "the planned one comes all the same"
