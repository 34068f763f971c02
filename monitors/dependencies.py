"""What monitors depend on: read and changed (shell, around one pure question).

All writers of a project wait for each other, so that no two of them close a cycle together.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from django.db import connection, transaction
from django.utils.translation import gettext as _

from audit.entries import CHANGED, Actor
from audit.recording import record
from lib.sql import array_literal, fetch_rows
from monitors.exceptions import MonitorsError
from monitors.models import Dependency, Monitor
from monitors.services import monitor_entry

UPSTREAMS_MAX = 10
"""Monitors that one may depend on directly."""


class DependencyError(MonitorsError):
    """Dependencies that cannot be stored. The text is for people."""


def path_between(upstreams: Mapping[int, Iterable[int]], start: int, end: int) -> list[int]:
    """Return a way from one monitor up to another, both included; empty if there is none (pure).

    >>> path_between({1: [2], 2: [3]}, 1, 3)
    [1, 2, 3]
    """
    came_from: dict[int, int] = {start: start}
    waiting = [start]
    while waiting:
        at = waiting.pop()
        if at == end:
            way = [end]
            while way[-1] != start:
                way.append(came_from[way[-1]])
            return way[::-1]
        for above in upstreams.get(at, ()):
            if above not in came_from:
                came_from[above] = at
                waiting.append(above)
    return []


def upstream_slugs(monitor_id: int) -> list[str]:
    """Return the slugs of the monitors that one depends on directly, in order."""
    found = Monitor.objects.filter(dependents__downstream_id=monitor_id).not_deleted()
    return list(found.order_by("slug").values_list("slug", flat=True))


def check_upstreams(project_id: int, monitor_id: int | None, slugs: Sequence[str]) -> list[Monitor]:
    """Return the monitors of a project with these slugs, on which a monitor may depend; None: one that is new.

    Raises DependencyError: for too many, for unknown ones, or for a cycle, whose monitors are named.
    """
    wanted = list(dict.fromkeys(slugs))
    if len(wanted) > UPSTREAMS_MAX:
        text = _("A monitor depends on at most %(most)d others, these are %(count)d.")
        raise DependencyError(text % {"most": UPSTREAMS_MAX, "count": len(wanted)})
    above = list(Monitor.objects.filter(project_id=project_id, slug__any_of=wanted).not_deleted().order_by("slug"))
    if unknown := sorted(set(wanted) - {monitor.slug for monitor in above}):
        raise DependencyError(_("The project has no monitor %(names)s.") % {"names": ", ".join(unknown)})
    if monitor_id is None or not above:
        return above
    edges = load_upstreams([other.id for other in above])
    for other in above:
        if way := path_between(edges, other.id, monitor_id):
            named = dict(Monitor.objects.filter(id__any_of=way).values_list("id", "slug"))
            circle = " → ".join(named[id_] for id_ in (monitor_id, *way))
            raise DependencyError(_("It would depend on itself: %(way)s.") % {"way": circle})
    return above


@transaction.atomic
def set_upstreams(monitor_id: int, slugs: Sequence[str], *, now: datetime, by: Actor | None = None) -> None:
    """Let a monitor depend on those of its project with these slugs, and on no others.

    Raises DependencyError, as `check_upstreams`.
    """
    monitor = Monitor.objects.get(id=monitor_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtext('watchclock: dependencies'), %s::integer)",
            [monitor.project_id % 2**31],
        )
    before = upstream_slugs(monitor_id)
    above = check_upstreams(monitor.project_id, monitor_id, slugs)
    wanted = {other.id for other in above}
    Dependency.objects.filter(downstream_id=monitor_id).exclude(upstream_id__in=wanted).delete()
    Dependency.objects.bulk_create(
        (Dependency(downstream_id=monitor_id, upstream_id=id_, created_at=now) for id_ in sorted(wanted)),
        ignore_conflicts=True,
    )
    after = [other.slug for other in above]
    if after != before:
        record([monitor_entry(monitor, CHANGED, {"depends_on": (before, after)})], by=by)


def load_upstreams(monitor_ids: Collection[int]) -> dict[int, list[int]]:
    """Return what monitors depend on, and all above that, as the upstreams of each. One statement."""
    found: dict[int, list[int]] = {}
    for downstream, upstream in fetch_rows(_UPSTREAMS_SQL, [array_literal("bigint", sorted(monitor_ids))]):
        found.setdefault(downstream, []).append(upstream)
    return found


_UPSTREAMS_SQL = """
    WITH RECURSIVE above AS (
         SELECT downstream_id, upstream_id FROM monitors_dependency WHERE downstream_id = ANY(%s::bigint[])
          UNION
         SELECT next.downstream_id, next.upstream_id
           FROM above JOIN monitors_dependency AS next ON next.downstream_id = above.upstream_id)
    SELECT downstream_id, upstream_id FROM above ORDER BY downstream_id, upstream_id
"""
"""Index: dependency_once. A deleted monitor is in it until its rows are removed; it holds nobody."""
