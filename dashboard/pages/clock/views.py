"""Why the clock is not at now, in one sentence, and all that it depends on. The facts are those of the admin's page."""

from datetime import datetime
from functools import partial

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.membership import is_administrator
from dashboard import moments
from dashboard.clock.page import Look, clock_context
from dashboard.moments import READER_ZONE
from dashboard.pages.access import page
from health import poller
from health.clock.overview import read_overview
from lib.wallclock import utcnow

MARKS = {"good": "ok", "bad": "error", "doubtful": "late", "running": "running", "quiet": "unknown"}
"""The marks of the tones of labels."""
CLASSES = {tone: f"tick tick-{tone}" for tone in MARKS}


@page
def clock(request: HttpRequest) -> HttpResponse:
    """Show where the clock is, and what it waits for, to everybody with an account; names of projects to few."""
    READER_ZONE.set(None)  # The sentences have UTC, as the ledger has.
    now = utcnow()
    look = Look(partial(_instant, at_page=now), _label, lambda _, text: text, CLASSES)
    overview = read_overview(now, known=poller.running.facts() if poller.running else None)
    context = clock_context(overview, look, sees_projects=is_administrator(request.user))
    return render(request, "pages/clock.html", context)


def _instant(at: datetime | None, *, now: datetime | None = None, at_page: datetime) -> SafeString:
    return moments.moment(at, now=at_page, is_relative=now is not None)


def _label(text: str, tone: str = "quiet", *, title: str = "") -> SafeString:
    return format_html('<span class="mark mark-{}" title="{}">{}</span>', MARKS[tone], title, text)
