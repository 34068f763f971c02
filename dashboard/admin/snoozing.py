"""Snoozing monitors in the admin: for a while in the list, until an instant on the page of one."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import instant, label
from dashboard.admin.recording import actor_of
from dashboard.admin.tables import counted, keys_of
from incidents.handling import SnoozeError, snooze
from lib.wallclock import utcnow
from monitors.models import Monitor
from monitors.schedule import zone_to_show


class Snoozing(InspectionAdmin):
    """The part of the pages of monitors that snoozes them."""

    actions = ("mute", "unmute", "enable", "disable", "snooze_an_hour", "snooze_a_day", "snooze_a_week", "end_snooze")

    def get_urls(self) -> list[URLPattern]:
        """Add the address that takes the form on the page of a monitor."""
        view = self.admin_site.admin_view(self.snooze_view)
        urls: list[URLPattern] = super().get_urls()
        return [path("<int:pk>/snooze/", view, name="monitors_monitor_snooze"), *urls]

    def snooze_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Snooze a monitor until the instant in the form, in the monitor's zone; empty ends the snooze."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        monitor = self.get_object(request, str(pk))
        if monitor is None or not self.has_handle_permission(request, monitor):
            raise PermissionDenied
        typed = request.POST.get("until", "").strip()
        try:
            until = _instant(typed, monitor.timezone) if typed else None
        except (ValueError, OverflowError):  # In UTC, the first day of all may be in no year.
            messages.error(request, f"{typed[:50]!r} is no date and time, such as 2026-12-24T18:00.")
        else:
            _snooze(request, [pk], until)
        return HttpResponseRedirect(reverse("admin:monitors_monitor_change", args=[pk]))

    def snooze_context(self, request: HttpRequest, monitor: Monitor, *, now: datetime) -> dict[str, Any]:
        """Return what the form needs, and until when the monitor is snoozed."""
        is_snoozed = monitor.snoozed_until is not None and monitor.snoozed_until > now
        return {
            "snoozed_until": instant(monitor.snoozed_until, monitor.timezone, now=now) if is_snoozed else "",
            "snooze_url": reverse("admin:monitors_monitor_snooze", args=[monitor.pk])
            if self.has_handle_permission(request, monitor)
            else "",
        }

    @admin.action(description="Snooze for an hour: notify nobody of new incidents until then", permissions=["handle"])
    def snooze_an_hour(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Snooze the selected monitors."""
        _snooze(request, keys_of(queryset), utcnow() + timedelta(hours=1))

    @admin.action(description="Snooze for a day", permissions=["handle"])
    def snooze_a_day(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Snooze the selected monitors."""
        _snooze(request, keys_of(queryset), utcnow() + timedelta(days=1))

    @admin.action(description="Snooze for a week", permissions=["handle"])
    def snooze_a_week(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Snooze the selected monitors."""
        _snooze(request, keys_of(queryset), utcnow() + timedelta(weeks=1))

    @admin.action(description="End the snooze", permissions=["handle"])
    def end_snooze(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """End the snooze of the selected monitors: whoever would have been notified is notified now."""
        _snooze(request, keys_of(queryset), None)


def _instant(typed: str, timezone: str) -> datetime:
    """Return what was typed, on the wall clock of a zone unless it says another. Raises ValueError, OverflowError."""
    until = datetime.fromisoformat(typed)
    return (until if until.tzinfo else until.replace(tzinfo=zone_to_show(timezone))).astimezone(UTC)


def _snooze(request: HttpRequest, keys: Collection[int], until: datetime | None) -> None:
    now = utcnow()
    try:
        count = snooze(keys, until, now=now, by=actor_of(request, at=now))
    except SnoozeError as error:
        messages.error(request, str(error))
        return
    done = "Ended the snooze of" if until is None else "Snoozed"
    messages.success(request, f"{done} {counted(count, 'monitor')}.")


def snoozed_label(monitor: Monitor) -> list[SafeString]:
    """Return the label of a monitor that is snoozed now; else none."""
    until = monitor.snoozed_until
    if until is None or until <= utcnow():
        return []
    return [
        label("snoozed", "doubtful", title=f"Nobody is notified of new incidents until {until:%Y-%m-%d %H:%M} UTC.")
    ]
