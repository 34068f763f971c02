"""What a TV shows (shell): how many fail, and the rows of the wall that matter most."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from dashboard.models import ShareLink
from dashboard.pages.wall.filters import Filters
from dashboard.pages.wall.rows import Counts, Row, count_rows, find_rows, load_rows, slice_in_order
from dashboard.shared.facts import newest_check
from incidents.models import Incident
from monitors.models import MonitorEnvironment, Project

ROWS_SHOWN = 24
"""So many can be read from across a room."""


@dataclass(frozen=True, slots=True)
class TvFacts:
    """What a TV shows: each row with the instant since which it fails, if it does."""

    counts: Counts
    rows: Sequence[tuple[Row, datetime | None]]
    clock_at: datetime | None
    is_current: bool

    @property
    def further(self) -> int:
        """How many rows have no room."""
        return self.counts.all - len(self.rows)


def load_tv(link: ShareLink, *, now: datetime) -> TvFacts:
    """Return what a TV shows. Five statements."""
    filters = Filters(environment=link.environment)
    rows = _in_scope(find_rows(Project.objects.filter(pk=link.project_id), filters, now=now), link)
    shown = load_rows(slice_in_order(rows, filters, end=ROWS_SHOWN, now=now), filters, now=now)
    open_ = Incident.objects.filter(monitor_environment__any_of=[row.id for row in shown], resolved_at__isnull=True)
    since = dict(open_.values_list("monitor_environment_id", "started_at"))
    counts = count_rows(rows, now=now)
    return TvFacts(counts, [(row, since.get(row.id)) for row in shown], *newest_check(now))


def _in_scope(rows: QuerySet[MonitorEnvironment], link: ShareLink) -> QuerySet[MonitorEnvironment]:
    if link.monitor is not None:
        return rows.filter(monitor=link.monitor)
    return rows.filter(monitor__tags__overlap=link.tags) if link.tags else rows
