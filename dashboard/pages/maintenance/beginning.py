"""Maintenance that begins at once, with one button on the page of a monitor."""

from datetime import datetime, timedelta

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext as _

from checkins.maintenance import TooManyWindowsError, next_minute, plan_window
from dashboard.pages.buttons import actor_of
from dashboard.texts import said
from monitors.models import Environment, MaintenanceWindow, Monitor

HOURS = (1, 4)
"""How long it may be."""


def begin_now(request: HttpRequest, monitor: Monitor, environment: Environment, *, now: datetime) -> None:
    """Begin the maintenance of a monitor in an environment, for the hours that the button says (`for`)."""
    wanted = request.POST.get("for", "")
    hours = next((hours for hours in HOURS if str(hours) == wanted), None)
    if hours is None:
        choices = ", ".join(map(str, HOURS))
        text = _("%(what)r is no number of hours of the button; it has %(choices)s.")
        messages.error(request, text % {"what": wanted[:20], "choices": choices})
        return
    begins_at = next_minute(now)
    row = MaintenanceWindow(
        project=monitor.project,
        name=_("Maintenance"),
        monitor=monitor,
        environment=environment,
        starts_at=begins_at,
        ends_at=begins_at + timedelta(hours=hours),
        timezone=monitor.timezone,
    )
    try:
        plan_window(row, now=now, by=actor_of(request, at=now))
    except TooManyWindowsError as error:
        messages.error(request, said(error))
    else:
        text = _("%(monitor)s is in maintenance from the next minute on: nothing is judged.")
        messages.success(request, text % {"monitor": monitor.name})
