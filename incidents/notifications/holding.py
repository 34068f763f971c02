"""Holding openings back: the facts for `holds`, and what it decides (shell).

Two statements to find what may be held, mostly nothing; then three for dependencies, and one for runs if it may flap.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection

from incidents.notifications.flapping import History, has_settled, starts
from incidents.notifications.flaps import begin, end, find_held_ends, load_histories
from incidents.notifications.holds import FLAPS, WAITS, Hold, Opening, Upstream, hold, until_settled
from incidents.notifications.outbox import OPENED, RESOLVED, TICK
from lib.sql import array_literal, fetch_rows, update_rows
from monitors.dependencies import load_upstreams
from monitors.maintenance import window_at
from monitors.windows import load_windows

NOT_BEHIND = ("", TICK, WAITS)
"""Holds that are no reason to notify nobody if the incident is over by then."""
OFTEN, OFTEN_WITHIN = 2, timedelta(days=60)
"""Whether it flaps is asked about an environment that had so many incidents before, in that time."""
CHANNEL_DOUBTED = "10 minutes"
"""After that time a mail that was tried and not accepted is not on its way any more. Other channels have a breaker."""


class _Held(NamedTuple):
    """An opening that may be held. `environment_id` is that of the project; `is_frequent`: it had others before."""

    id: int
    incident_id: int
    is_open: bool
    is_quiet: bool
    held_by: str
    held_until: datetime | None
    created_at: datetime
    monitor_id: int
    environment_id: int
    monitor_environment_id: int
    is_flapping: bool
    is_frequent: bool
    snoozed_until: datetime | None


def hold_back(incident_ids: Collection[int], *, now: datetime) -> set[int]:
    """Hold or withdraw unaddressed changes of these incidents; returns those of which nobody is notified now.

    Of an incident that ends, or is muted or archived, while its opening is held nobody is notified, neither of
    its beginning nor of its end. The caller holds the lock of addressing. Whoever was notified of an opening is always
    notified of its end: if it flaps, when it has settled.
    """
    if not incident_ids:
        return set()
    parameters = {
        "incidents": array_literal("bigint", sorted(incident_ids)),
        "tick": TICK,
        "now": now,
        "since": now - OFTEN_WITHIN,
        "often": OFTEN,
    }
    found = [_Held(*row) for row in fetch_rows(_HELD_SQL, parameters)]
    ends = find_held_ends(incident_ids)
    if not found and not ends:
        return set()
    looked_at = {one.monitor_environment_id for one in found if one.is_flapping or one.is_frequent}
    histories = load_histories(looked_at | set(ends.values()), now=now)
    settled = {id_ for id_, history in histories.items() if has_settled(history, now=now)}
    left_out = _hold_openings(found, histories, settled, now=now)
    waiting = {incident_id for incident_id, environment_id in ends.items() if environment_id not in settled}
    _hold_ends(waiting, now=now)
    end(settled, now=now)
    return left_out | waiting


def _hold_openings(
    found: Sequence[_Held], histories: Mapping[int, History], settled: Collection[int], *, now: datetime
) -> set[int]:
    graphs = _Graphs(found, now=now)
    held: list[tuple[_Held, Hold]] = []
    withdrawn: list[_Held] = []
    flapping: list[tuple[int, int, History]] = []
    for one in found:
        still_flaps = one.is_flapping and one.monitor_environment_id not in settled
        opening = graphs.opening_of(one, is_flapping=still_flaps)
        verdict = hold(opening, graphs.of(one.environment_id), now=now)
        was_held = one.held_by not in NOT_BEHIND or (verdict is not None and verdict.by not in NOT_BEHIND)
        if was_held and (one.is_quiet or not one.is_open):
            withdrawn.append(one)
        elif one.is_open and verdict is not None:
            held.append((one, verdict))
        elif one.held_until is not None and one.held_until > now:
            # It has just ended: both changes are sent together.
            held.append((one, Hold(now, one.held_by)))
        elif one.is_frequent and not one.is_flapping and one.is_open and one.held_by != FLAPS:
            history = histories[one.monitor_environment_id]
            if starts(history):
                flapping.append((one.monitor_environment_id, one.incident_id, history))
    _store(held, withdrawn, now=now)
    begin(flapping, now=now)
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


def _hold_ends(incident_ids: Collection[int], *, now: datetime) -> None:
    """Hold the ends of incidents whose environments flap."""
    if incident_ids:
        until = until_settled(now=now)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE incidents_notification SET held_until = %s, held_by = %s "
                "WHERE incident_id = ANY(%s) AND transition = %s AND addressed_at IS NULL",
                [until.until, until.by, sorted(incident_ids), RESOLVED],
            )


_HELD_SQL = f"""
    SELECT n.id, n.incident_id, i.resolved_at IS NULL, me.is_muted OR coalesce(s.status = 'archived', false),
           n.held_by, n.held_until, n.created_at, me.monitor_id, me.environment_id, me.id,
           f.id IS NOT NULL, earlier.count >= %(often)s, m.snoozed_until
      FROM incidents_notification AS n
      JOIN incidents_incident AS i ON i.id = n.incident_id
      JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      LEFT JOIN incidents_issue AS s ON s.id = i.issue_id
      LEFT JOIN incidents_flapping AS f ON f.monitor_environment_id = me.id AND f.ended_at IS NULL
     CROSS JOIN LATERAL (
           SELECT count(*) FROM (
                  SELECT FROM incidents_incident AS o
                   WHERE o.monitor_environment_id = me.id AND o.id < i.id AND o.opened_at > %(since)s
                   LIMIT %(often)s) AS before) AS earlier
     WHERE n.incident_id = ANY(%(incidents)s::bigint[])
       AND n.transition = '{OPENED}' AND n.addressed_at IS NULL AND n.nobody_since IS NULL
       AND (n.held_by NOT IN ('', %(tick)s) OR m.snoozed_until > %(now)s OR f.id IS NOT NULL
            OR earlier.count >= %(often)s
            OR EXISTS (SELECT FROM monitors_dependency WHERE downstream_id = me.monitor_id))
     ORDER BY n.id
"""  # noqa: S608 - constants
"""Indexes: notification_once_per_transition_and_channel, dependency_once, flapping_once_at_a_time, and that of the
incidents of an environment."""


class _Graphs:
    """What openings depend on, in each of their environments."""

    def __init__(self, openings: Collection[_Held], *, now: datetime) -> None:
        self._edges = load_upstreams({one.monitor_id for one in openings}) if openings else {}
        above = {upstream for upstreams in self._edges.values() for upstream in upstreams}
        environments = {one.environment_id for one in openings}
        self._by_environment = _load(above, environments, self._edges, now=now) if above else {}

    def of(self, environment_id: int) -> Mapping[int, Upstream]:
        """Return the monitors that run in an environment, by id."""
        return self._by_environment.get(environment_id, {})

    def opening_of(self, one: _Held, *, is_flapping: bool) -> Opening:
        """Return an opening as a value."""
        return Opening(
            created_at=one.created_at,
            upstreams=self._edges.get(one.monitor_id, ()),
            snoozed_until=one.snoozed_until,
            is_flapping=is_flapping,
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
        pending_slot, judged_at, ok_at, is_failing, over_at, is_notified, is_being_notified = columns
        found.setdefault(environment_id, {})[monitor_id] = Upstream(
            name=f"{slug} ({environment})",
            upstreams=edges.get(monitor_id, ()),
            is_failing=is_failing,
            is_notified=is_notified,
            is_being_notified=is_being_notified,
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
                                        THEN o.attempt_count = 0
                                          OR o.created_at > %(now)s::timestamptz - interval '{CHANNEL_DOUBTED}'
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
