"""What surrounds every page: the line on the clock, what is wrong with Watchclock itself, and the theme."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest

from accounts.membership import is_administrator
from accounts.preferences import preferences_of
from dashboard.texts import said
from health import poller
from health.clock.lag import explain
from health.facts import Finding
from health.problems import find_problems

THEMES = {"light", "dark"}
THEME_COOKIE = "watchclock_theme"


def surroundings(request: HttpRequest) -> dict[str, Any]:
    """Return template variables for pages: the state of Watchclock of the newest poll (no statement), and the theme."""
    if not is_page(request):
        return {}
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return {
        "clock_line": clock_line(),
        "findings": partial(findings_for, request),  # Asked only by pages with an account.
        "theme": theme if theme in THEMES else "",
        "without_single_keys": partial(is_without_single_keys, request),
    }


def is_without_single_keys(request: HttpRequest) -> bool:
    """Return whether the reader wants no shortcuts of a single character. At most one statement, asked before."""
    return isinstance(request.user, User) and preferences_of(request.user).without_single_keys


def is_page(request: HttpRequest) -> bool:
    """Return whether an address is that of a page for people, and not of the admin."""
    return not request.path.startswith("/admin/")


def findings_for(request: HttpRequest) -> Sequence[Finding]:
    """Return what is wrong with Watchclock itself: for its administrators all, for others what stops its work."""
    facts = poller.running.facts() if poller.running else None
    if facts is None:
        return []
    problems = find_problems(facts)
    if is_administrator(request.user):
        return problems
    return [finding for finding in problems if finding.is_bad and not finding.of_project]


def clock_line() -> dict[str, Any] | None:
    """Return whether the clock is on time, at which minute it is, and why; None if this process does not know yet."""
    facts = poller.running.facts() if poller.running else None
    if facts is None:
        return None
    status = explain(facts)
    return {"is_normal": status.is_normal, "at": status.at, "headline": said(status.headline), "now": facts.now}
