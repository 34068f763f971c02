"""The demo: two weeks of a small shop, made by the real code."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command

from checkins.models import CheckIn, RunHour
from dashboard.demo import live
from dashboard.demo.fill import fill
from dashboard.demo.jobs import JOBS, Job
from dashboard.demo.story import write_story
from incidents.models import Incident, Notification
from monitors.models import MonitorEnvironment
from tests import factories

NOW = datetime(2026, 11, 30, 20, 0, tzinfo=UTC)
"""A Monday evening."""


def test_the_story_of_an_instant_is_always_the_same_and_in_order():
    story = write_story(NOW)
    assert story == write_story(NOW)
    instants = [event.at for event in story.events]
    assert instants == sorted(instants)
    assert len(story.events) > 5_000


def test_a_trouble_begins_and_ends():
    job = Job("a", "A", "0 * * * *", 1, troubles={10: (2, "missed")})
    found = [job.trouble_at(NOW - timedelta(hours=hours), NOW) for hours in (11, 10, 9, 8)]
    assert found == ["", "missed", "missed", ""]


@pytest.mark.long
@pytest.mark.django_db
def test_it_fills_an_empty_instance_with_open_and_resolved_incidents():
    factories.ProjectFactory(slug="my-project")
    count = fill(NOW)
    assert count == CheckIn.objects.count() > 3_000
    assert MonitorEnvironment.objects.count() == len(JOBS)
    failing = set(MonitorEnvironment.objects.filter(status="error").values_list("monitor__slug", flat=True))
    assert {"nightly-backup", "queue-drain"} <= failing
    assert Incident.objects.filter(resolved_at__isnull=True, acknowledged_by="ada").count() == 1
    assert Incident.objects.filter(resolved_at__isnull=False).count() >= 3
    assert set(CheckIn.objects.values_list("status", flat=True)) >= {"ok", "error", "missed", "timeout"}
    assert RunHour.objects.exists()
    assert not Notification.objects.filter(addressed_at__isnull=True).exists(), "nobody is notified of the past"


@pytest.mark.django_db
def test_an_instance_with_monitors_is_left_as_it_is():
    factories.MonitorFactory()
    with pytest.raises(CommandError, match="This instance has monitors already"):
        call_command("demo")
    call_command("demo", "--if-empty")
    assert not CheckIn.objects.exists()


@pytest.mark.django_db
def test_jobs_cannot_go_on_where_there_is_no_demo():
    with pytest.raises(CommandError, match="There is no demo here"):
        call_command("demo", "--live")


def test_a_job_that_goes_on_begins_and_ends_each_run(monkeypatch):
    """On a clock that jumps to where the next report is due."""
    now, asked = [NOW], []

    class Over(Exception):  # noqa: N818 - the end of the story, and no error
        pass

    def urlopen(address, timeout):
        asked.append(address.rpartition("/ping/")[2])
        if len(asked) == 40:
            raise Over
        raise OSError("nobody listens")

    monkeypatch.setattr(live, "utcnow", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + timedelta(seconds=seconds)))
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(Over):
        live.go_on("http://127.0.0.1:1", "key")
    feed = [address for address in asked if "import-feed" in address]
    assert feed[:2] == ["key/import-feed/start?env=production", "key/import-feed?env=production"]
    assert not any("queue-drain" in address for address in asked), "it is missed until its trouble ends"
