"""Whom the incidents of a monitor would go to, for its page; and what nobody would be notified of, for lists."""

from django.contrib import messages
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from dashboard.admin.cells import label, table
from incidents.notifications.previewing import Forecast
from incidents.notifications.previews import find_uncaught, preview
from monitors.models import Monitor


def would_be_notified(monitor: Monitor) -> SafeString:
    """Return a table of the failures of a monitor, and who would be notified of each, by which route."""
    environments, forecasts = preview(monitor)
    rows = [(forecast.when(environments), _who(forecast)) for forecast in forecasts]
    return table(("If it fails", "Who would be notified"), rows, title="Who would be notified")


def _who(forecast: Forecast) -> SafeString:
    if not forecast.notified:
        return format_html("{} {}", label("nobody", "bad"), forecast.why_nobody)
    return format_html_join("", "<div>{} ({})</div>", forecast.notified)


def warn_of_uncaught(request: HttpRequest) -> None:
    """Add a message to a page of a list: of which monitors nobody would be notified."""
    found = find_uncaught() if request.method == "GET" else None
    if found is not None and found.count:
        messages.warning(request, found.sentence())
