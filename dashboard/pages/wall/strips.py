"""The strips of rows (shell): runs counted in the database, with what is late, what runs and what was in maintenance.

One statement for any number of rows; two more where the projects have maintenance windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from dashboard.pages.monitor.state import is_due
from dashboard.pages.wall.cells import ORDER, Cells, complete, covered, in_words, move_unknown, strip
from dashboard.pages.wall.ranges import Range
from dashboard.vocabulary import word
from lib.sql import array_literal, fetch_rows
from monitors.windows import TagsOfMonitor, load_windows


@dataclass(frozen=True, slots=True)
class Drawn:
    """An environment as its strip shows it. `late_slot`: expected and not served yet. `tags`: read if not given."""

    id: int
    monitor_id: int
    project_id: int
    environment: str
    created_at: datetime
    maintained_until: datetime | None
    late_slot: datetime | None
    is_running: bool
    tags: TagsOfMonitor | None = None


def late_slot(
    monitor_status: str, slot: datetime | None, deadline: datetime | None, *, now: datetime
) -> datetime | None:
    """Return the slot that is late, if there is one."""
    return slot if monitor_status == "active" and is_due(slot, deadline, now=now) else None


def load_strips(
    environments: Sequence[Drawn], shown: Range, *, now: datetime, is_large: bool = False
) -> dict[int, str]:
    """Return the strip of each environment. At most three statements, which count in the database."""
    counts = load_counts([one.id for one in environments], shown, now=now)
    maintained = load_maintained(environments, shown, now=now)
    start = shown.start(now)
    found = {}
    for one in environments:
        cells = counts.get(one.id, {})
        if not shown.from_runs:
            move_unknown(cells, maintained.get(one.id, ()))
        late = None if one.late_slot is None else (one.late_slot - start) // shown.cell
        complete(cells, maintained.get(one.id, ()), late=late, running=shown.cells - 1 if one.is_running else None)
        found[one.id] = strip(cells, shown.cells, _totals(cells, shown), since=(start, shown.cell), is_large=is_large)
    return found


def _totals(cells: Cells, shown: Range) -> str:
    """Return what happened in all cells, in words."""
    totals = {
        status: sum(cell[status] for cell in cells.values() if status in cell)
        for status in ORDER
        if any(status in cell for cell in cells.values())
    }
    return _("last %(range)s: %(counts)s") % {"range": word(shown.words), "counts": in_words(totals, word)}


def load_maintained(environments: Sequence[Drawn], shown: Range, *, now: datetime) -> dict[int, frozenset[int]]:
    """Return in which cells environments were in maintenance. No statement without windows, at most two with them."""
    start = shown.start(now)
    some = [one for one in environments if one.maintained_until is not None and one.maintained_until > start]
    if not some:
        return {}
    tags = [one.tags for one in some if one.tags is not None]
    windows = load_windows(
        {one.monitor_id: one.project_id for one in some},
        since=start,
        tags=list({of[0]: of for of in tags}.values()) or None,
    )
    cells_of: dict[Any, frozenset[int]] = {}
    found = {}
    for one in some:
        cells: frozenset[int] = frozenset()
        for window in windows.of_environment(one.monitor_id, one.environment):
            if window not in cells_of:  # Those of a whole project are computed once.
                cells_of[window] = covered(window, shown, now=now)
            cells |= cells_of[window]
        born = (one.created_at - start) // shown.cell
        found[one.id] = frozenset(cell for cell in cells if cell >= born)
    return found


def load_counts(ids: Sequence[int], shown: Range, *, now: datetime) -> dict[int, Cells]:
    """Return how many runs ended how, by environment and number of the cell. One statement."""
    start = shown.start(now)
    parameters = {
        "ids": array_literal("bigint", ids),
        "start": start,
        "end": start + shown.cells * shown.cell,
        "seconds": shown.cell.total_seconds(),
    }
    found: dict[int, Cells] = {}
    for id_, cell, *counts in fetch_rows(_RUNS_SQL if shown.from_runs else _HOURS_SQL, parameters):
        found.setdefault(id_, {})[cell] = {
            status: count for status, count in zip(_COUNTED, counts, strict=True) if count
        }
    return found


_COUNTED = ("ok", "error", "missed", "timeout", "unknown", "maintenance")
_HOURS_SQL = """
    SELECT h.monitor_environment_id, floor(extract(epoch FROM h.hour - %(start)s) / %(seconds)s)::integer AS cell,
           sum(h.ok), sum(h.error), sum(h.missed), sum(h.timeout), sum(h.unknown), 0
      FROM checkins_runhour AS h
     WHERE h.hour >= %(start)s AND h.hour < %(end)s AND h.monitor_environment_id = ANY(%(ids)s::bigint[])
     GROUP BY 1, 2
"""
_RUNS_SQL = """
    SELECT wanted.id, c.cell, c.ok, c.error, c.missed, c.timeout, c.unknown, c.maintained
      FROM unnest(%(ids)s::bigint[]) AS wanted (id)
     CROSS JOIN LATERAL (
           SELECT floor(extract(epoch FROM run.date_added - %(start)s) / %(seconds)s)::integer AS cell,
                  count(*) FILTER (WHERE run.status = 'ok') AS ok,
                  count(*) FILTER (WHERE run.status = 'error') AS error,
                  count(*) FILTER (WHERE run.status = 'missed') AS missed,
                  count(*) FILTER (WHERE run.status = 'timeout') AS timeout,
                  count(*) FILTER (WHERE run.status = 'unknown'
                                     AND run.unknown_because IS DISTINCT FROM 'maintained') AS unknown,
                  count(*) FILTER (WHERE run.status = 'unknown' AND run.unknown_because = 'maintained') AS maintained
             FROM checkins_checkin AS run
            WHERE run.monitor_environment_id = wanted.id
              AND run.date_added >= %(start)s AND run.date_added < %(end)s
            GROUP BY 1) AS c
"""
"""Index: checkin_history."""
