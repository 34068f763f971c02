"""Plays the story of the demo into an empty instance (shell)."""

from datetime import datetime, timedelta

from django.contrib.auth.models import User

from accounts.models import Membership
from accounts.roles import Role
from audit.entries import Actor, Source
from checkins.models import CheckIn, CheckInLog, ListeningSpan
from clocktasks.playback.play import run_scenario
from dashboard.demo.jobs import JOBS
from dashboard.demo.story import write_story
from dashboard.exceptions import DashboardError
from incidents import handling
from incidents.models import Incident, Notification
from monitors.models import Monitor, Project

NAME, SLUG = "Corner shop", "shop"
LOGS_MAX = 200


class NotEmptyError(DashboardError):
    """The instance has monitors already. The text is one sentence for the person who tried."""


def fill(now: datetime) -> int:
    """Fill an empty instance with two weeks of history up to `now`, a whole minute; returns the number of check-ins.

    Raises NotEmptyError. Nobody is notified of what happens in the story.
    """
    if Monitor.objects.exists():
        raise NotEmptyError(
            "This instance has monitors already; the demo needs an empty one (make demo makes its own)."
        )
    run_scenario(write_story(now))
    project = Project.objects.get(slug="simulation")
    Project.objects.filter(pk=project.pk).update(name=NAME, slug=SLUG)
    for job in JOBS:
        Monitor.objects.filter(project=project, slug=job.slug).update(
            name=job.name, owner=job.owner, severity=job.severity
        )
    # Somebody listened up to now; from now on the web says so itself.
    ListeningSpan.objects.filter(until__gt=now).update(until=now)
    _print_logs()
    _acknowledge(now)
    Notification.objects.filter(addressed_at__isnull=True).update(addressed_at=now, sent_at=now)
    for user in User.objects.filter(is_superuser=True):
        Membership.objects.get_or_create(project=project, user=user, defaults={"role": Role.OWNER, "added_at": now})
    return CheckIn.objects.count()


def _print_logs() -> None:
    """Have failed runs print what their job prints."""
    logs = {job.slug: job.log for job in JOBS if job.log}
    failed = CheckIn.objects.filter(status="error").select_related("monitor_environment__monitor").order_by("-id")
    CheckInLog.objects.bulk_create(
        CheckInLog(
            monitor_environment=run.monitor_environment,
            guid=run.guid,
            status="error",
            received_at=run.date_updated,
            source=run.source,
            body=text.encode(),
            size_bytes=len(text.encode()),
        )
        for run in failed[:LOGS_MAX]
        if (text := logs.get(run.monitor_environment.monitor.slug))
    )


def _acknowledge(now: datetime) -> None:
    """Somebody looks after the oldest open incident."""
    oldest = Incident.objects.filter(resolved_at__isnull=True).order_by("started_at", "id").first()
    if oldest is not None:
        at = now - timedelta(minutes=40)
        handling.acknowledge(oldest.guid, by=Actor(name="ada", source=Source.SYSTEM, at=at), via="the demo", now=at)
