"""What a weekly report says about a project, and that it comes once."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dashboard.report.sending import plan_from, report_now, send_due_reports
from incidents.models import Channel, Message, Notification, Unsubscription, WeeklyReport
from incidents.notifications import delivery
from tests.factories import (
    NOW,
    ChannelFactory,
    CheckInFactory,
    EnvironmentFactory,
    IncidentFactory,
    IssueFactory,
    MessageFactory,
    MonitorEnvironmentFactory,
    MonitorFactory,
    ProjectFactory,
    WeeklyReportFactory,
)

pytestmark = pytest.mark.django_db
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
LAST_TUESDAY = NOW - 6 * DAY
"""In the week that the report of Monday, 5 January 2026 is about."""


@pytest.fixture
def project():
    return ProjectFactory(name="Operations", slug="ops")


@pytest.fixture
def report(project):
    return WeeklyReportFactory(project=project)


def job(project, name="backup", **columns):
    monitor = MonitorFactory(project=project, slug=name, name=name, created_at=LAST_TUESDAY)
    return MonitorEnvironmentFactory(
        monitor=monitor, environment=EnvironmentFactory(project=project), **{"last_checkin": NOW} | columns
    )


def runs(environment, *statuses, at=LAST_TUESDAY, seconds=None):
    for number, status in enumerate(statuses):
        CheckInFactory(
            monitor_environment=environment,
            status=status,
            date_added=at + number * HOUR,
            duration_ms=None if seconds is None else seconds * 1000,
        )


def sent(mailoutbox, at=NOW):
    """The mail of the report of the week, as text."""
    assert send_due_reports(now=at) == 1
    delivery.deliver(utcnow=lambda: at)
    [mail] = mailoutbox
    assert mail.alternatives
    return mail


# --- what it says


def test_it_counts_the_runs_of_the_week_and_of_the_one_before(project, report, mailoutbox):
    environment = job(project)
    runs(environment, "ok", "ok", "ok", "error", "missed", "timeout", "unknown")
    runs(environment, "ok", "error", at=LAST_TUESDAY - WEEK)
    runs(environment, "error", at=NOW - HOUR)
    runs(job(ProjectFactory(), "of another project"), "error")

    mail = sent(mailoutbox)

    assert mail.subject == "[Watchclock] Weekly report of Operations: 2025-12-29 to 2026-01-04"
    assert mail.extra_headers["List-Id"].startswith("<ops.watchclock.")
    assert "3 of 6 runs were kept (50.0 %); 3 failed: 1 with an error, 1 missed, 1 timed out." in mail.body
    assert "The week before: 1 kept, 1 failed." in mail.body
    assert "another project" not in mail.body


def test_a_quiet_week_is_reported_too(report, mailoutbox):
    body = sent(mailoutbox).body
    assert "No run was judged in these seven days." in body
    assert "0 incidents opened; 0 are open now." in body


def test_it_lists_the_slowest(project, report, mailoutbox):
    runs(job(project, "quick"), "ok", "ok", seconds=2)
    slow = job(project, "slow")
    runs(slow, "ok", seconds=60)
    runs(slow, "ok", seconds=180, at=LAST_TUESDAY + HOUR)

    listed = sent(mailoutbox).body.partition("Slowest\n\n")[2].splitlines()
    assert listed[:2] == [
        "- slow (production): 3 minutes, 2 minutes on average",
        "- quick (production): 2 seconds, 2 seconds on average",
    ]


def test_it_lists_the_noisiest_and_what_fails_now(project, report, mailoutbox):
    loud = job(project, "loud", status="error")
    runs(loud, "error", "error")
    issue = IssueFactory(monitor_environment=loud)
    for day in range(3):
        IncidentFactory(monitor_environment=loud, issue=issue, started_at=LAST_TUESDAY + day * DAY, resolved=True)
    IncidentFactory(monitor_environment=loud, issue=issue, started_at=NOW - 2 * DAY)
    IncidentFactory(monitor_environment=job(project, "older"), started_at=LAST_TUESDAY - 2 * WEEK, resolved=True)

    body = sent(mailoutbox).body
    assert "4 incidents opened; 1 is open now." in body
    assert "Noisiest\n\n- loud (production): 4 incidents, 2 failed runs" in body.replace(
        "6 failed runs", "2 failed runs"
    )
    assert "Failing now\n\n- loud (production): since 2026-01-03 10:00 UTC" in body
    assert "older" not in body


def test_it_lists_who_is_silent_and_who_was_never_heard_from(project, report, mailoutbox):
    job(project, "silent", last_checkin=NOW - 2 * WEEK, next_checkin=NOW - 13 * DAY)
    job(project, "new", status="active", last_checkin=None)
    MonitorFactory(project=project, slug="bare", name="bare", created_at=LAST_TUESDAY)
    job(project, "well")

    body = sent(mailoutbox).body
    assert "Silent\n\n- silent (production): last check-in 2025-12-22 10:00 UTC" in body
    assert "Never reported\n\n- bare\n- new (production)" in body
    assert "well" not in body


def test_it_lists_channels_that_failed(project, report, mailoutbox):
    broken = ChannelFactory(project=project, name="pager", open_since=NOW, probe_at=NOW)
    MessageFactory(
        channel=broken, recipient=str(broken.guid), status="failed", finished_at=LAST_TUESDAY, created_at=LAST_TUESDAY
    )
    ChannelFactory(project=project, name="healthy")

    assert "Channels that failed\n\n- pager: 1 message given up; it fails now" in sent(mailoutbox).body


def test_a_long_list_is_counted(project, report, mailoutbox):
    for number in range(12):
        MonitorFactory(project=project, slug=f"bare-{number:02}", created_at=LAST_TUESDAY)
    assert "- bare-09\nand 2 more\n" in sent(mailoutbox).body


def test_times_and_days_are_those_of_its_zone(project, report, mailoutbox):
    report.timezone = "Asia/Kathmandu"
    report.save()
    IncidentFactory(monitor_environment=job(project, "loud", status="error"), started_at=NOW - 2 * DAY)

    assert "since 2026-01-03 15:45 Asia/Kathmandu" in sent(mailoutbox).body


def test_it_takes_as_many_statements_for_many_monitors_as_for_one(project, report):
    def statements(count):
        for number in range(count):
            runs(job(project, f"{count}-{number}"), "ok", "error", seconds=3)
        with CaptureQueriesContext(connection) as context:
            assert report_now(report, now=NOW + count * timedelta(seconds=1)) == 1
        return len(context)

    assert statements(1) == statements(12)


# --- once


def test_it_is_sent_once_however_often_the_sweep_looks(report):
    assert [send_due_reports(now=NOW + n * HOUR) for n in range(3)] == [1, 0, 0]
    assert send_due_reports(now=NOW + WEEK) == 1
    assert Message.objects.filter(kind="report").count() == 2


def test_a_transaction_that_is_undone_is_done_again(report, monkeypatch):
    monkeypatch.setattr(WeeklyReport, "save", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        send_due_reports(now=NOW)
    assert not Message.objects.exists()
    monkeypatch.undo()
    assert send_due_reports(now=NOW) == 1


def test_a_new_plan_begins_with_its_next_week(report):
    plan_from(report, now=NOW)
    report.save()
    assert send_due_reports(now=NOW + 6 * DAY) == 0
    assert send_due_reports(now=NOW + WEEK) == 1


@pytest.mark.parametrize("change", [{"is_enabled": False}, {"removed_at": NOW}])
def test_while_its_channel_is_not_in_use_it_waits(report, change):
    Channel.objects.update(**change)
    assert send_due_reports(now=NOW) == 0
    Channel.objects.update(is_enabled=True, removed_at=None)
    assert send_due_reports(now=NOW + DAY) == 1


def test_off_is_off(report):
    WeeklyReport.objects.update(is_enabled=False)
    assert send_due_reports(now=NOW + WEEK) == 0


def test_who_unsubscribed_from_reports_gets_none_and_who_did_from_alerts_does(report):
    channel = report.channel
    channel.values = {"to": "ada@example.com, bob@example.com"}
    channel.save()
    Unsubscription.objects.create(channel=channel, address="ada@example.com", topic="reports", unsubscribed_at=NOW)
    Unsubscription.objects.create(channel=channel, address="bob@example.com", topic="alerts", unsubscribed_at=NOW)
    send_due_reports(now=NOW)
    assert [message.recipient for message in Message.objects.all()] == ["bob@example.com"]


def test_its_mail_has_a_link_that_ends_reports_only(report, mailoutbox, settings):
    settings.PUBLIC_URL = "https://watch.example.com"
    link = sent(mailoutbox).extra_headers["List-Unsubscribe"]
    assert link.startswith("<https://watch.example.com/u/")
    assert ".reports:" in link


def test_a_report_is_about_no_incident(report, mailoutbox):
    sent(mailoutbox)
    assert not Notification.objects.exists()
    assert Message.objects.get().status == "sent"
