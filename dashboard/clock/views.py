"""Pages of the clock beside the lists of its rows."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from clocktasks.models import Tick
from dashboard.clock.page import clock_context
from dashboard.moments import READER_ZONE
from health import poller
from health.clock.overview import read_overview
from lib.wallclock import utcnow


def clock(request: HttpRequest) -> HttpResponse:
    """Show the position of the clock and all that it depends on, to people who may view its ticks."""
    if not admin.site.get_model_admin(Tick).has_view_permission(request):
        raise PermissionDenied
    READER_ZONE.set(None)  # Everything here is UTC, as the ledger is.
    overview = read_overview(utcnow(), known=poller.running.facts() if poller.running else None)
    context = admin.site.each_context(request) | {"title": "The clock"} | clock_context(overview)
    return TemplateResponse(request, "admin/clocktasks/clock.html", context)
