"""Holding openings back: the facts for `holds`, and what it decides (shell).

One statement to find the openings that may be held, mostly none; then three for their dependencies.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from incidents.notifications.holds import WAITS, Hold, Opening, Upstream, hold
from incidents.notifications.outbox import OPENED, TICK
from lib.sql import array_literal, fetch_rows, update_rows
from monitors.dependencies import load_upstreams
from monitors.maintenance import window_at
from monitors.windows import load_windows

NOT_BEHIND = ("", TICK, WAITS)
"""Holds that are no reason to tell nobody if the incident is over by then."""
CHANNEL_DOUBTED = "10 minutes"
"""After that time a mail that was not accepted is not on its way any more. Other channels have a breaker."""


class _Held(NamedTuple):
    """An opening that may be held. `environment_id` is that of the project."""

    id: int
    incident_id: int
    is_open: bool
    is_quiet: bool
    held_by: str
    held_until: datetime | None
    created_at: datetime
    monitor_id: int
    environment_id: int
    snoozed_until: datetime | None


def hold_back(incident_ids: Collection[int], *, now: datetime) -> set[int]:
    """Hold or withdraw unaddressed openings of these incidents; returns the incidents of which nobody is told now.

    Of an incident that ends, or is muted or archived, while it is held nobody is told, neither of its beginning nor of
    its end. The caller holds the lock of addressing. Who was told of an opening is always told of its end.
    """
    parameters = {"incidents": array_literal("bigint", sorted(incident_ids)), "tick": TICK, "now": now}
    rows = fetch_rows(_HELD_SQL, parameters) if incident_ids else []
    if not rows:
        return set()
    found = [_Held(*row) for row in rows]
    graphs = _Graphs(found, now=now)
    held: list[tuple[_Held, Hold]] = []
    withdrawn: list[_Held] = []
    for one in found:
        verdict = hold(graphs.opening_of(one), graphs.of(one.environment_id), now=now)
        was_held = one.held_by not in NOT_BEHIND or (verdict is not None and verdict.by not in NOT_BEHIND)
        if was_held and (one.is_quiet or not one.is_open):
            withdrawn.append(one)
        elif one.is_open and verdict is not None:
            held.append((one, verdict))
        elif one.held_until is not None and one.held_until > now:
            # It has just ended: both changes are told together.
            held.append((one, Hold(now, one.held_by)))
    _store(held, withdrawn, now=now)
    return {one.incident_id for one, _ in held} | {one.incident_id for one in withdrawn}


def _store(held: Sequence[tuple[_Held, Hold]], withdrawn: Sequence[_Held], *, now: datetime) -> None:
    rows = [(one.id, verdict.until, verdict.by) for one, verdict in held]
    update_rows("incidents_notification", {"held_until": "timestamptz", "held_by": "text"}, rows)
    if withdrawn:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE incidents_notification SET addressed_at = %s, nobody_since = %s WHERE incident_id = ANY(%s) "
                "AND addressed_at IS NULL",
                [now, now, [one.incident_id for one in withdrawn]],
            )


_HELD_SQL = """
    SELECT n.id, n.incident_id, i.resolved_at IS NULL, me.is_muted OR coalesce(s.status = 'archived', false),
           n.held_by, n.held_until, n.created_at, me.monitor_id, me.environment_id, m.snoozed_until
      FROM incidents_notification AS n
      JOIN incidents_incident AS i ON i.id = n.incident_id
      JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      LEFT JOIN incidents_issue AS s ON s.id = i.issue_id
     WHERE n.incident_id = ANY(%(incidents)s::bigint[])
       AND n.transition = 'opened' AND n.addressed_at IS NULL AND n.nobody_since IS NULL
       AND (n.held_by NOT IN ('', %(tick)s) OR m.snoozed_until > %(now)s
            OR EXISTS (SELECT FROM monitors_dependency WHERE downstream_id = me.monitor_id))
     ORDER BY n.id
"""
"""Indexes: notification_once_per_transition_and_channel, dependency_once."""


class _Graphs:
    """What openings depend on, in each of their environments."""

    def __init__(self, openings: Collection[_Held], *, now: datetime) -> None:
        self._edges = load_upstreams({one.monitor_id for one in openings})
        above = {upstream for upstreams in self._edges.values() for upstream in upstreams}
        self._by_environment = _load(above, {one.environment_id for one in openings}, self._edges, now=now)

    def of(self, environment_id: int) -> Mapping[int, Upstream]:
        """Return the monitors that run in an environment, by id."""
        return self._by_environment.get(environment_id, {})

    def opening_of(self, one: _Held) -> Opening:
        """Return an opening as a value."""
        return Opening(
            created_at=one.created_at,
            upstreams=self._edges.get(one.monitor_id, ()),
            snoozed_until=one.snoozed_until,
        )


def _load(
    monitor_ids: Collection[int],
    environment_ids: Collection[int],
    edges: Mapping[int, Sequence[int]],
    *,
    now: datetime,
) -> dict[int, dict[int, Upstream]]:
    rows = fetch_rows(
        _UPSTREAMS_SQL,
        {
            "monitors": array_literal("bigint", sorted(monitor_ids)),
            "environments": array_literal("bigint", sorted(environment_ids)),
            "now": now,
            "tick": TICK,
        },
    )
    windows = load_windows({row[0]: row[1] for row in rows}, since=now) if rows else None
    found: dict[int, dict[int, Upstream]] = {}
    for monitor_id, _, environment_id, slug, environment, is_quiet, *columns in rows:
        assert windows is not None, "there are rows"
        is_maintained = window_at(windows.of_environment(monitor_id, environment), now) is not None
        pending_slot, judged_at, ok_at, is_failing, over_at, is_told, is_being_told = columns
        found.setdefault(environment_id, {})[monitor_id] = Upstream(
            name=f"{slug} ({environment})",
            upstreams=edges.get(monitor_id, ()),
            is_failing=is_failing,
            is_told=is_told,
            is_being_told=is_being_told,
            is_quiet=is_quiet or is_maintained,
            over_at=over_at,
            pending_slot=pending_slot,
            judged_at=judged_at,
            ok_at=ok_at,
        )
    return found


_UPSTREAMS_SQL = f"""
    SELECT m.id, m.project_id, me.environment_id, m.slug, e.name,
           me.is_muted OR m.status <> 'active' OR coalesce(m.snoozed_until > %(now)s, false)
           OR coalesce(s.status = 'archived', false),
           me.pending_slot, me.next_checkin_latest, me.last_ok_received_at,
           me.status = 'error', newest.over_at,
           EXISTS (SELECT FROM incidents_duty AS d
                     JOIN incidents_message AS o ON o.id = d.message_id
                     LEFT JOIN incidents_channel AS c ON c.id = o.channel_id
                    WHERE d.incident_id = newest.id
                      AND (o.status = 'sent'
                           OR (o.status = 'waiting'
                               AND CASE WHEN c.id IS NULL OR c.kind = 'email'
                                        THEN o.created_at > %(now)s::timestamptz - interval '{CHANNEL_DOUBTED}'
                                        ELSE c.open_since IS NULL AND c.is_enabled AND c.removed_at IS NULL END))),
           EXISTS (SELECT FROM incidents_notification AS n
                    WHERE n.incident_id = newest.id AND n.transition = '{OPENED}' AND n.addressed_at IS NULL
                      AND n.nobody_since IS NULL AND n.held_by IN ('', %(tick)s))
      FROM monitors_monitorenvironment AS me
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      JOIN monitors_environment AS e ON e.id = me.environment_id
      LEFT JOIN LATERAL (
           SELECT i.id, i.issue_id, CASE WHEN i.resolved_at IS NOT NULL THEN coalesce(
                  (SELECT min(n.created_at) FROM incidents_notification AS n
                    WHERE n.incident_id = i.id AND n.transition = 'resolved'), i.resolved_at) END AS over_at
             FROM incidents_incident AS i
            WHERE i.monitor_environment_id = me.id
            ORDER BY i.id DESC LIMIT 1) AS newest ON true
      LEFT JOIN incidents_issue AS s ON s.id = newest.issue_id
     WHERE me.monitor_id = ANY(%(monitors)s::bigint[]) AND me.environment_id = ANY(%(environments)s::bigint[])
       AND me.status <> 'pending_deletion' AND m.status <> 'pending_deletion'
"""  # noqa: S608 - constants
