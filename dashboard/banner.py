"""The banner on every page of the admin: problems of Watchclock itself.

It costs no statement and waits for nothing: it shows the newest findings of this process's poller.
"""

from typing import Any

from django.http import HttpRequest

from health import poller
from health.problems import find_problems


def findings(request: HttpRequest) -> dict[str, Any]:
    """Return template variables for people who may view the clock: current problems, bad ones first."""
    user = getattr(request, "user", None)
    facts = poller.running.facts() if poller.running else None
    if facts is None or user is None or not user.is_staff or not user.has_perm("clocktasks.view_tick"):
        return {}
    return {"watchclock_findings": find_problems(facts)}
