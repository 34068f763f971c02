"""Which monitors' messages are held because of an incident (shell; `holding` holds them).

One statement for any number of incidents. It goes down from the monitor of each, in its environment.
"""

from collections.abc import Sequence
from typing import NamedTuple

from incidents.notifications.holds import BEHIND, WAITS
from incidents.notifications.letters import Held
from incidents.notifications.outbox import OPENED
from lib.sql import fetch_rows

LISTED_MAX = 10
"""Monitors that a message names; it counts the others."""


class _Row(NamedTuple):
    incident: int
    name: str
    total: int


def held_behind(incident_ids: Sequence[int]) -> dict[int, Held]:
    """Return the monitors that are held behind each incident, by name, at most ten, and how many there are."""
    parameters = {
        "ids": list(incident_ids),
        "opened": OPENED,
        "behind": BEHIND,
        "waits": WAITS,
        "listed": LISTED_MAX,
    }
    found: dict[int, list[_Row]] = {}
    for row in (_Row(*values) for values in fetch_rows(_HELD_SQL, parameters)):
        found.setdefault(row.incident, []).append(row)
    return {id_: Held(tuple(row.name for row in rows), rows[0].total) for id_, rows in found.items()}


_HELD_SQL = """
    WITH RECURSIVE below AS (
         SELECT i.id AS root, me.environment_id, d.downstream_id AS monitor_id
           FROM incidents_incident AS i
           JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
           JOIN monitors_dependency AS d ON d.upstream_id = me.monitor_id
          WHERE i.id = ANY(%(ids)s)
          UNION
         SELECT below.root, below.environment_id, d.downstream_id
           FROM below JOIN monitors_dependency AS d ON d.upstream_id = below.monitor_id)
    SELECT root, name, count FROM (
           SELECT below.root, coalesce(nullif(m.name, ''), m.slug) AS name,
                  count(*) OVER (PARTITION BY below.root) AS count,
                  row_number() OVER (PARTITION BY below.root ORDER BY m.slug, i.id) AS place
             FROM below
             JOIN incidents_incident AS r ON r.id = below.root
             JOIN monitors_monitorenvironment AS above ON above.id = r.monitor_environment_id
             JOIN monitors_monitor AS o ON o.id = above.monitor_id
             JOIN monitors_environment AS e ON e.id = above.environment_id
             JOIN monitors_monitor AS m ON m.id = below.monitor_id
             JOIN monitors_monitorenvironment AS me
               ON me.monitor_id = m.id AND me.environment_id = below.environment_id
             JOIN incidents_incident AS i ON i.monitor_environment_id = me.id AND i.resolved_at IS NULL
             JOIN incidents_notification AS n ON n.incident_id = i.id
            WHERE n.transition = %(opened)s AND n.addressed_at IS NULL AND n.nobody_since IS NULL
              AND (n.held_by = %(waits)s
                   OR starts_with(n.held_by, %(behind)s) AND strpos(n.held_by, o.slug || ' (' || e.name || ')') > 0)
           ) AS ranked
     WHERE place <= %(listed)s
     ORDER BY root, place
"""
"""A hold names its roots in words. Index: that of dependencies by the monitor above."""
