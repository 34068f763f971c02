"""Who should have been told, by the routes at that time, in plain loops."""

from collections import defaultdict
from datetime import datetime

from drills.delivery.changes import Change, Muting, Snooze
from drills.delivery.config import DEFAULT, Config
from drills.delivery.rows import recipient_of
from drills.delivery.world import Committed, World
from lib.sql import fetch_rows


def kinds_of(config: Config) -> dict[str, str]:
    """Return the kinds of the recipients."""
    return {recipient_of(config, number, DEFAULT): kind for number, kind in enumerate(config.kinds)}


def wrong_recipients(world: World) -> list[str]:
    """A change is told to whom the routes name, by a configuration in force between the change and its routing."""
    told: dict[int, set[str]] = defaultdict(set)
    for incident, recipient in fetch_rows(_TOLD_SQL, []):
        told[incident].add(recipient)
    log = fetch_rows("SELECT seq, what, id FROM drill_log WHERE what <> 'message' ORDER BY seq", [])
    edits = [(seq, id_) for seq, what, id_ in log if what == "config"]
    held = {id_ for _, what, id_ in log if what == "held"}
    may_be_held = {below for below, _ in world.configs[0].depends}
    may_be_held |= {one.what.job for one in world.history if isinstance(one.what, Snooze)}
    # Unmuted or not in the end: a hold that ended meanwhile found it muted.
    was_muted = {one.what.job for one in world.history if isinstance(one.what, Muting) and one.what.is_muted}
    nobody = {id_ for _, what, id_ in log if what == "nobody"}
    routed = {id_: seq for seq, what, id_ in log if what == "addressed"}
    found = []
    for notification, incident, kind, opened_at, is_quiet, job in fetch_rows(_OPENINGS_SQL, []):
        if notification not in routed:
            continue
        first = _edits_before(world.history, opened_at)
        last = max([number for seq, number in edits if seq < routed[notification]], default=0)
        allowed = [_names(config, kind) for config in world.configs[min(first, last) : max(first, last) + 1]]
        # Nobody is told late, or after a hold, of what is over or muted by then.
        is_late = not told[incident] and (
            notification in nobody or ((is_quiet or job in was_muted) and (notification in held or job in may_be_held))
        )
        if told[incident] not in allowed and not is_late:
            found.append(f"recipients of incident {incident}: {sorted(told[incident])}, and not one of {allowed}")
    return found


_TOLD_SQL = """
    SELECT d.incident_id, d.recipient
      FROM incidents_duty AS d JOIN incidents_notification AS n ON n.id = d.notification_id
     WHERE n.transition = 'opened'
"""
_OPENINGS_SQL = """
    SELECT n.id, n.incident_id, o.explanation ->> 'kind', i.opened_at,
           i.resolved_at IS NOT NULL OR e.is_muted, e.id
      FROM incidents_notification AS n
      JOIN incidents_incident AS i ON i.id = n.incident_id
      JOIN monitors_monitorenvironment AS e ON e.id = i.monitor_environment_id
      JOIN incidents_occurrence AS o ON o.incident_id = i.id AND o.number = 1
     WHERE n.transition = 'opened' ORDER BY n.id
"""


def _edits_before(history: list[Committed], opened_at: datetime) -> int:
    """Return how many edits were committed before the transaction that opened incidents at this instant."""
    return min(
        (one.edits for one in history if isinstance(one.what, Change) and one.what.fails and one.at >= opened_at),
        default=0,
    )


def _names(config: Config, kind: str) -> set[str]:
    return {recipient_of(config, channel, DEFAULT) for channel in config.told(kind)}
