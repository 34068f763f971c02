"""What surrounds every page: the line on the clock, and what the navigation offers."""

from typing import Any

from django.http import HttpRequest

from health import poller
from health.clock.lag import explain

THEMES = {"light", "dark"}
THEME_COOKIE = "watchclock_theme"


def surroundings(request: HttpRequest) -> dict[str, Any]:
    """Return template variables for pages: the clock's state, of the newest poll (no statement), and the theme."""
    if not is_page(request):
        return {}
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return {"clock_line": clock_line(), "theme": theme if theme in THEMES else ""}


def is_page(request: HttpRequest) -> bool:
    """Return whether an address is that of a page for people, and not of the admin."""
    return not request.path.startswith("/admin/")


def clock_line() -> dict[str, Any] | None:
    """Return whether the clock is on time, at which minute it is, and why; None if this process does not know yet."""
    facts = poller.running.facts() if poller.running else None
    if facts is None:
        return None
    status = explain(facts)
    return {"is_normal": status.is_normal, "at": status.at, "headline": status.headline, "now": facts.now}
