"""Finding the maintenance windows of monitors, a set at a time (shell; no decisions).

Mostly there are none. Whoever locks environments reads the configuration of their monitors anyway, and learns there
whether their projects have any window; only then are these loaded.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from lib.encoding import to_json
from lib.sql import array_literal, fetch_rows
from monitors.configuration import RUNTIME_MINUTES_MAX
from monitors.maintenance import FormerTags, Recurrence, Window, times_with

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""For a window without an end, where a column needs one."""
FORMER_TAGS_MAX = 20
"""Edits of its tags that are stored for a monitor. Older ones are about slots and runs that were judged long ago."""
NEEDED_FOR = timedelta(minutes=RUNTIME_MINUTES_MAX)
"""How long after its end a window may still be asked for: a run that was due inside it may go on for a week."""

IS_MAINTAINED_SQL = "project_id IN (SELECT id FROM monitors_project WHERE maintained_until > %s)"
"""Whether the project of a monitor has windows that end after an instant. PostgreSQL looks once in a statement.

Index: project_maintained_until.
"""
WINDOWS_SQL = """
    SELECT w.project_id, w.monitor_id, w.tag, e.name, w.name, w.starts_at, w.ends_at,
           w.crontab, w.timezone, w.minutes, w.until
      FROM monitors_maintenancewindow w LEFT JOIN monitors_environment e ON e.id = w.environment_id
     WHERE w.id IN (
           SELECT id FROM monitors_maintenancewindow WHERE monitor_id = ANY(%(monitors)s::bigint[])
            UNION ALL
           SELECT id FROM monitors_maintenancewindow
            WHERE monitor_id IS NULL AND project_id = ANY(%(projects)s::bigint[]) AND tag IN (
                  SELECT '' UNION ALL
                  SELECT unnest(tags) FROM monitors_monitor WHERE id = ANY(%(monitors)s::bigint[])
                   UNION ALL
                  SELECT jsonb_array_elements_text(former -> 1)
                    FROM monitors_monitor CROSS JOIN LATERAL jsonb_array_elements(former_tags) AS former
                   WHERE id = ANY(%(monitors)s::bigint[]) AND former_tags IS NOT NULL))
       AND (w.ends_at IS NULL OR w.ends_at > %(since)s)
     ORDER BY w.id
"""
"""Indexes: those of windows by monitor and by project and tag, the primary keys."""
TAGS_SQL = "SELECT id, tags, former_tags FROM monitors_monitor WHERE id = ANY(%s::bigint[])"

TagsOfMonitor = tuple[int, Sequence[str], str | None]
"""The id of a monitor, its tags, and the text of its former ones."""
_former_tags = msgspec.json.Decoder(list[tuple[datetime, list[str]]])


class OfMonitor(NamedTuple):
    """A window as it applies to one monitor: in this environment, or in all of them."""

    environment: str | None
    window: Window


class Windows:
    """The windows of some monitors. Those about a whole project are one list, whatever the number of its monitors."""

    def __init__(self, projects: Mapping[int, int]) -> None:
        self._projects = projects
        self._of_project: dict[int, list[OfMonitor]] = {}
        self._of_monitor: dict[int, list[OfMonitor]] = {}
        self._shared: dict[tuple[int, str], tuple[Window, ...]] = {}

    def of_monitor(self, monitor_id: int) -> list[OfMonitor]:
        """Return the windows of a monitor; first those that are not about all of its project."""
        return [*self._of_monitor.get(monitor_id, ()), *self._of_project.get(self._projects[monitor_id], ())]

    def of_environment(self, monitor_id: int, environment: str) -> tuple[Window, ...]:
        """Return the windows of a monitor in the environment with this name, in the same order."""
        own = self._of_monitor.get(monitor_id)
        project_id = self._projects.get(monitor_id)
        if project_id is None:
            return ()
        key = project_id, environment
        if key not in self._shared:
            self._shared[key] = _in(environment, self._of_project.get(project_id, ()))
        return self._shared[key] if own is None else (*_in(environment, own), *self._shared[key])

    def add(self, project_id: int, monitor_id: int | None, one: OfMonitor) -> None:
        """Add a window of one monitor, or of all monitors of a project."""
        if monitor_id is None:
            self._of_project.setdefault(project_id, []).append(one)
        else:
            self._of_monitor.setdefault(monitor_id, []).append(one)


def _in(environment: str, windows: Iterable[OfMonitor]) -> tuple[Window, ...]:
    return tuple(one.window for one in windows if one.environment in (None, environment))


def load_windows(
    projects: Mapping[int, int], *, since: datetime, tags: Iterable[TagsOfMonitor] | None = None
) -> Windows:
    """Return the windows of monitors, given with their projects, that end after `since`.

    One statement, and one more for the tags of the monitors, if any of the windows goes by a tag and none are given.
    """
    monitors = array_literal("bigint", sorted(projects))
    rows = fetch_rows(
        WINDOWS_SQL,
        {
            "monitors": monitors,
            "projects": array_literal("bigint", sorted(set(projects.values()))),
            "since": since,
        },
    )
    found = Windows(projects)
    tagged: dict[tuple[int, str], list[OfMonitor]] = {}
    for project_id, monitor_id, tag, environment, *columns in rows:
        one = OfMonitor(environment, _window(*columns))
        if tag:
            tagged.setdefault((project_id, tag), []).append(one)
        else:
            found.add(project_id, monitor_id, one)
    if tagged:
        _add_tagged(found, tagged, projects, fetch_rows(TAGS_SQL, [monitors]) if tags is None else tags)
    return found


def _add_tagged(
    found: Windows,
    tagged: Mapping[tuple[int, str], Sequence[OfMonitor]],
    projects: Mapping[int, int],
    rows: Iterable[TagsOfMonitor],
) -> None:
    """Add the parts of windows in which each monitor had their tag."""
    for monitor_id, tags, stored in rows:
        project_id, former = projects[monitor_id], read_former_tags(stored)
        for tag in dict.fromkeys([*tags, *(tag for _, had in former for tag in had)]):
            for environment, window in tagged.get((project_id, tag), ()):
                for part in _parts(window, tag, tags, former):
                    found.add(project_id, monitor_id, OfMonitor(environment, part))


def _window(
    name: str, starts_at: datetime, ends_at: datetime | None, crontab: str, timezone: str, minutes: Any, until: Any
) -> Window:
    recurrence = Recurrence(crontab, timezone, minutes, until) if crontab else None
    return Window(name, starts_at, ends_at, recurrence)


def _parts(window: Window, tag: str, tags: Sequence[str], former: FormerTags) -> Sequence[Window]:
    if not former:
        return (window,)
    parts = (window.clipped(since, until) for since, until in times_with(tag, tags, former))
    return [part for part in parts if part is not None]


def read_former_tags(text: str | bytes | None) -> FormerTags:
    """Return the former tags in a row; none if somebody wrote by hand what cannot be read (D37)."""
    try:
        return [] if text is None else _former_tags.decode(text)
    except msgspec.DecodeError:
        return []


def former_tags_with(stored: Any, until: datetime, tags: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the column of former tags with those that a monitor had until now. It holds the newest ones.

    Of two edits in one minute the first says which tags it had before.
    """
    former = list(read_former_tags(to_json(stored or [])))
    if not former or former[-1][0] < until:
        former.append((until, tags))
    return [(at.isoformat(), list(had)) for at, had in former[-FORMER_TAGS_MAX:]]
