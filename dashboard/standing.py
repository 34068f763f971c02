"""The standing of monitors in their list: failing since when and why, and running now. Two statements a page."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, Min, OuterRef, Subquery, When
from django.utils.translation import gettext as _

from checkins.models import RunningCheckIn
from dashboard.vocabulary import word
from incidents.models import Incident, Occurrence

RUN_MAX = timedelta(days=8)
"""No run is open for longer: a runtime is at most seven days."""
WORDS = {
    "missed": "missed",
    "timeout": "timed out",
    "error": "error",
    "slow": "too slow",
    "fast": "too fast",
    "overlap": "overlapping",
}


def failing_first() -> Case:
    """Return an order: monitors that are judged and have an open incident come first."""
    incidents = Incident.objects
    failing = incidents.filter(resolved_at__isnull=True).values("monitor_environment__monitor")
    return Case(When(status="active", pk__in=failing, then=0), default=1)


def attach_failures(monitors: Sequence[Any]) -> None:
    """Give each monitor `failing_since` (its oldest open incident) and `failing_why` (the newest failure of that)."""
    occurrences = Occurrence.objects.filter(incident=OuterRef("pk"))
    newest = Subquery(occurrences.order_by("-id").values("explanation")[:1])
    incidents = Incident.objects.filter(
        resolved_at__isnull=True, monitor_environment__monitor__in=[monitor.pk for monitor in monitors]
    )
    oldest = (
        incidents.order_by("monitor_environment__monitor", "started_at", "id")
        .distinct("monitor_environment__monitor")
        .annotate(newest=newest)
        .values_list("monitor_environment__monitor", "started_at", "newest")
    )
    found = {monitor_id: (since, why_of(explanation or {})) for monitor_id, since, explanation in oldest}
    for monitor in monitors:
        monitor.failing_since, monitor.failing_why = found.get(monitor.pk, (None, ""))


def attach_runs(monitors: Sequence[Any], *, now: datetime) -> None:
    """Give each monitor `running_count` and `running_since`: its runs in progress. Index: checkin_running."""
    runs = RunningCheckIn.objects.filter(
        monitor_environment__monitor__in=[monitor.pk for monitor in monitors], date_added__gt=now - RUN_MAX
    )
    rows = runs.order_by().values("monitor_environment__monitor").annotate(count=Count("pk"), since=Min("date_added"))
    found = {row["monitor_environment__monitor"]: (row["count"], row["since"]) for row in rows}
    for monitor in monitors:
        monitor.running_count, monitor.running_since = found.get(monitor.pk, (0, None))


def why_of(explanation: dict[str, Any]) -> str:
    """Return the reason of an occurrence in a few words: "missed", "error, exit status 3"."""
    kind = str(explanation.get("kind") or "")
    words = WORDS.get(kind, kind)
    status = explanation.get("exit_status")
    if status is None:
        return word(words)
    return _("%(kind)s, exit status %(status)s") % {"kind": word(words), "status": status}
