"""The audit log of a project: who changed what, from where, when; before and after."""

from zoneinfo import ZoneInfo

from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from audit.entries import Entry
from audit.recording import record_alone
from dashboard.moments import READER_ZONE
from dashboard.pages.access import find_project, page, rights_in
from dashboard.pages.auditlog.entries import load_page, load_proposals
from dashboard.pages.auditlog.export import FORMATS, ROWS_MAX, write_export
from dashboard.pages.auditlog.filters import Filters, read_filters
from dashboard.pages.buttons import actor_of
from lib.wallclock import utcnow


@page
def audit_log(request: HttpRequest, project: str) -> HttpResponseBase:
    """Show a page of entries, to everybody who may see the project."""
    row = find_project(request, project)
    filters = _filters(request)
    rights = rights_in(request, row.pk)
    entries, older = load_page(row.pk, filters, sees_channels=rights["manage_channels"])
    context = {
        "now": utcnow(),
        "project": row,
        "rights": rights,
        "filters": filters,
        "zone": _zone(),
        "entries": entries,
        "older": None if older is None else filters.query(before=older),
        "newest": filters.query() if filters.before is not None else None,
        "query": filters.query(),
        "formats": list(FORMATS),
        "export_max": f"{ROWS_MAX:,}",
        **load_proposals(row.pk),
    }
    return render(request, "pages/audit_log.html", context)


@page
def export_audit_log(request: HttpRequest, project: str) -> HttpResponseBase:
    """Return the entries that the filters leave as a file, and note that in the log."""
    row = find_project(request, project)
    as_format = request.GET.get("format", "csv")
    if as_format not in FORMATS:
        raise Http404(_("There is no such format; there are: %(formats)s.") % {"formats": ", ".join(FORMATS)})
    now = utcnow()
    filters = _filters(request)
    changes = {"format": (None, as_format), "filters": (None, filters.query())}
    record_alone(Entry("audit log", None, row.slug, "exported", row.pk, changes), by=actor_of(request, at=now))
    sees_channels = rights_in(request, row.pk)["manage_channels"]
    pieces = write_export(row.pk, filters, as_format=as_format, sees_channels=sees_channels)
    name = f"audit-{row.slug}-{now:%Y-%m-%d}.{as_format}"
    return StreamingHttpResponse(
        pieces,
        content_type=FORMATS[as_format],
        headers={"Content-Disposition": f'attachment; filename="{name}"', "X-Accel-Buffering": "no"},
    )


def _filters(request: HttpRequest) -> Filters:
    return read_filters(request.GET.dict(), zone=_zone())


def _zone() -> ZoneInfo:
    return READER_ZONE.get() or ZoneInfo("UTC")
