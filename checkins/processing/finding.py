"""Finding the monitors and environments that messages name: from hints, or from the database (shell)."""

import uuid
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import msgspec

from checkins.processing.items import BatchItem, KnownMonitor
from checkins.protocols.request import KnownSender, Sender
from lib.sql import array_literal, fetch_rows
from monitors.configuration import CONFIGURATION_COLUMNS, shared_rules
from monitors.state import MonitorStatus


class Hints:
    """Monitors and environments that earlier batches of this process have found, to save queries.

    Nothing here is trusted: `lock_batch` compares it with the locked rows, and if anything has changed, all hints are
    forgotten and the batch queries again. Only active monitors are remembered, since only these are locked.
    `senders` maps the guids of monitors to their known senders, the monitors' ids, and when they were looked up.
    """

    PLACES_MAX = 50_000
    """Environments to remember: some 20 MB."""
    SENDERS_FOR = timedelta(minutes=5)
    """How long the address of a monitor is remembered: no lock shows that another one replaced it."""

    def __init__(self) -> None:
        self.monitors: dict[tuple[int, str], KnownMonitor] = {}
        self.environments: dict[tuple[int, str], int] = {}
        self.senders: dict[uuid.UUID, tuple[KnownSender, int, datetime]] = {}
        self._seen_senders: dict[Sender, None] = {}

    def sender(self, guid: uuid.UUID, *, at: datetime) -> KnownSender | None:
        """Return the sender with the address of a monitor, if it is remembered, and its monitor too."""
        found = self.senders.get(guid)
        if found is None or at - found[2] >= self.SENDERS_FOR:
            return None
        monitor = self.monitors.get((found[0].project_id, found[0].slug or ""))
        return found[0] if monitor is not None and monitor.id == found[1] else None

    def note_sender(self, sender: Sender, *, is_known: bool) -> None:
        """Remember whether the last query for a sender found it."""
        self._seen_senders.pop(sender, None)
        if is_known:
            if len(self._seen_senders) >= self.PLACES_MAX:
                del self._seen_senders[next(iter(self._seen_senders))]
            self._seen_senders[sender] = None

    def has_seen(self, sender: Sender) -> bool:
        """Return whether the last query for a sender found it. Outlives `forget`, and an absent PostgreSQL."""
        return sender.monitor_guid in self.senders or sender in self._seen_senders

    def forget(self) -> None:
        """Start anew."""
        self.monitors.clear()
        self.environments.clear()
        self.senders.clear()

    def remember(self, key: tuple[int, str], monitor: KnownMonitor, environment: str, environment_id: int) -> None:
        """Remember where check-ins for this project and slug, in this environment, belong."""
        if monitor.status is not MonitorStatus.ACTIVE:
            return
        if len(self.environments) >= self.PLACES_MAX:
            self.forget()
        self.monitors[key] = monitor
        self.environments[monitor.id, environment] = environment_id

    def drop(self, key: tuple[int, str]) -> None:
        """Forget one monitor."""
        self.monitors.pop(key, None)


class Found:
    """The monitors and environments that items name, as found in the hints or in the database."""

    def __init__(self, items: Iterable[BatchItem], hints: Hints) -> None:
        self.monitors: dict[tuple[int, str], KnownMonitor] = {}
        self.environments: dict[tuple[int, str], int] = {}
        unknown = set()
        for item in items:
            key, name = item.key, item.message.environment
            monitor = hints.monitors.get(key)
            environment_id = None if monitor is None else hints.environments.get((monitor.id, name))
            if monitor is None or environment_id is None or _meets_lock(item, monitor):
                unknown.add((*key, name))
            else:
                self.monitors[key] = monitor
                self.environments[monitor.id, name] = environment_id
                item.is_hinted = True
        self._look_up(unknown, hints)

    def _look_up(self, wanted: Collection[tuple[int, str, str]], hints: Hints) -> None:
        if not wanted:
            return
        projects, slugs, names = zip(*sorted(wanted), strict=True)
        # OFFSET 0 and no joins: each is found by its pair. A cached plan from a time without monitors scanned all
        # those of the project, or of the environment, for each wanted pair.
        rows = fetch_rows(
            f"""
            SELECT m.project_id, m.slug, wanted.name,
                   (SELECT me.id FROM monitors_monitorenvironment AS me
                     WHERE me.monitor_id = m.id AND me.environment_id = e.id),
                   m.id, m.status, m.is_upserting, m.owner, {", ".join(CONFIGURATION_COLUMNS)},
                   coalesce(m.is_config_locked,
                            (SELECT is_config_locked FROM monitors_project p WHERE p.id = m.project_id)),
                   m.refused_changes::text
              FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS wanted (project_id, slug, name)
             CROSS JOIN LATERAL (SELECT * FROM monitors_monitor AS found
                                  WHERE found.project_id = wanted.project_id AND found.slug = wanted.slug
                                    AND found.status <> 'pending_deletion' OFFSET 0) AS m
              LEFT JOIN monitors_environment e ON e.project_id = wanted.project_id AND e.name = wanted.name
            """,  # noqa: S608 - names of columns
            [array_literal("bigint", projects), array_literal("text", slugs), array_literal("text", names)],
        )
        looked_up: dict[tuple[int, str], KnownMonitor] = {}
        for project_id, slug, name, environment_id, id_, status, is_upserting, owner, *rest in rows:
            *rules, is_locked, refused = rest
            key = project_id, slug
            monitor = looked_up.get(key)
            if monitor is None:
                refused_before = () if refused is None else tuple(msgspec.json.decode(refused))
                status = MonitorStatus(status)
                monitor = KnownMonitor(
                    id_, status, is_upserting, owner, shared_rules(*rules), is_locked, refused_before
                )
                self.monitors[key] = looked_up[key] = monitor
            if environment_id is not None:
                self.environments[id_, name] = environment_id
                hints.remember(key, monitor, name, environment_id)


def _meets_lock(item: BatchItem, monitor: KnownMonitor) -> bool:
    """Return whether an item asks to change a locked monitor. Hints are not updated when a lock is lifted (D40)."""
    return monitor.is_locked and item.config is not None and not monitor.has_in_force(item.config)


def find_monitors(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Return the ids of the monitors with these pairs of project id and slug. One statement."""
    if not keys:
        return {}
    projects, slugs = zip(*sorted(keys), strict=True)
    rows = fetch_rows(
        """
        SELECT m.project_id, m.slug, m.id
          FROM unnest(%s::bigint[], %s::text[]) AS wanted (project_id, slug)
          JOIN monitors_monitor m
            ON m.project_id = wanted.project_id AND m.slug = wanted.slug AND m.status <> 'pending_deletion'
        """,
        [array_literal("bigint", projects), array_literal("text", slugs)],
    )
    return {(project_id, slug): id_ for project_id, slug, id_ in rows}
