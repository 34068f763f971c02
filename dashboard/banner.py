"""The banner on every page of the admin: what is wrong with Watchclock itself.

It costs no statement and waits for nothing: it shows what the lookout of this process found a few seconds ago.
"""

from typing import Any

from django.http import HttpRequest

from health import lookout
from health.problems import find_problems


def findings(request: HttpRequest) -> dict[str, Any]:
    """Template variables for people who may see the clock: what is wrong now, bad things first."""
    user = getattr(request, "user", None)
    running = lookout.running
    facts = None if running is None else running.facts()
    if facts is None or user is None or not user.is_staff or not user.has_perm("clocktasks.view_tick"):
        return {}
    return {"watchclock_findings": find_problems(facts)}
