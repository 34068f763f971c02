"""Configurations in check-ins: reports of refused changes, and the record of who changed what (D40).

People can lock a monitor's configuration. None of this runs while a configuration equals that of its monitor.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from checkins.messages import Problem, ProblemKind
from lib.encoding import to_json
from lib.sql import array_literal, fetch_rows, insert_rows
from monitors.configuration import Difference
from monitors.models import CONFIG_CHANGES_KEPT, IngestKey

REFUSED_KEPT = 10
"""Refused changes that a monitor remembers: so many jobs may ask for different ones, and each is reported once."""
VALUE_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a monitor by a check-in. `key_id`: as in a message, 0 for a ping address, None without a key."""

    monitor_id: int
    at: datetime
    key_id: int | None
    difference: Difference


def digest(wanted: Difference) -> str:
    """Return a digest that identifies a refused change. It differs once the monitor itself has changed."""
    return hashlib.sha256(to_json(sorted(wanted.items()))).hexdigest()[:16]


def refusal(wanted: Difference) -> Problem:
    """Return the problem to report for a configuration that a locked monitor refuses."""
    parts = ", ".join(f"{column} from {before!r} to {after!r}" for column, (before, after) in wanted.items())
    return Problem(
        ProblemKind.MONITOR_CONFIG_LOCKED,
        "monitor_config",
        ", ".join(f"{column}={after}" for column, (_, after) in wanted.items())[:VALUE_CHARACTERS_MAX],
        f"monitor_config would change {parts}, but this monitor accepts no configuration from check-ins; "
        "change the monitor in the admin, or unlock its configuration there. The check-in itself counts.",
    )


def remembered(refused: Sequence[str] | None, new: str) -> list[str]:
    """Return the refused changes of a monitor with one more, the newest last."""
    return [*(refused or ()), new][-REFUSED_KEPT:]


def record_changes(changes: Iterable[Change]) -> None:
    """Store who changed what, the newest `CONFIG_CHANGES_KEPT` of each monitor. The caller has locked the monitors.

    Three statements; none if nothing has changed.
    """
    by_monitor: dict[int, list[Change]] = {}
    for change in changes:
        by_monitor.setdefault(change.monitor_id, []).append(change)
    kept = [change for ones in by_monitor.values() for change in ones[-CONFIG_CHANGES_KEPT:]]
    if not kept:
        return
    ids = {change.key_id for change in kept if change.key_id}
    names = {key.pk: str(key) for key in IngestKey.objects.filter(id__any_of=ids)}
    insert_rows(
        "monitors_configchange",
        {"monitor_id": "bigint", "changed_at": "timestamptz", "made_by": "text", "difference": "jsonb"},
        [(change.monitor_id, change.at, _made_by(change.key_id, names), change.difference) for change in kept],
    )
    fetch_rows(
        """
        DELETE FROM monitors_configchange WHERE id = ANY(ARRAY(
            SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY monitor_id ORDER BY id DESC) AS age
                              FROM monitors_configchange WHERE monitor_id = ANY(%s::bigint[])) AS aged
             WHERE age > %s)) RETURNING id
        """,
        [array_literal("bigint", sorted(by_monitor)), CONFIG_CHANGES_KEPT],
    )


def _made_by(key_id: int | None, names: Mapping[int, str]) -> str:
    if key_id is None:
        return "no key"
    return "the monitor's ping address" if key_id == 0 else names.get(key_id, "a deleted key")
