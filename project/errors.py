"""What a person gets when a page cannot be shown."""

import sys

from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views import defaults

from health import poller
from project import starting


def server_error(request: HttpRequest) -> HttpResponse:
    """Report that PostgreSQL is away and since when, if that is why; else Django's own page.

    Reads neither session nor user: they are in the database. So it cannot know who asks, and names no host.
    """
    error = sys.exc_info()[1]
    if error is None or not starting.is_unreachable(error):
        return defaults.server_error(request)
    facts = poller.running.facts() if poller.running else None
    page = loader.get_template("database_away.html").render(
        {"since": facts.postgres.since if facts and facts.postgres else None, "path": request.path}
    )
    return HttpResponse(page, status=503, headers={"Retry-After": "10", "Cache-Control": "no-store"})
