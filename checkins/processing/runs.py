"""The check-ins that a batch touches: as stored, and as decided so far (shell)."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.conf import settings

from checkins.messages import (
    CheckInMessage,
    CheckInStatus,
)
from checkins.processing.items import BatchItem
from checkins.processing.per_minute import SPARED_FACTOR
from checkins.processing.rows import (
    load_by_guid,
    load_newest_errors,
    load_repeatable,
    load_running,
)
from checkins.processing.transitions import LIFE_MAX, CheckInState, is_known
from monitors.hot_rows import LockedEnvironment, attach_former_rules

REPEAT_WINDOW = timedelta(seconds=45)
"""How long after an end without id the same end counts as a retry: clients retry for half a minute."""


DUE_MEANWHILE = 20
"""Runs of an environment that may fall due between the first and the last message of a batch; there are hardly any."""


@dataclass(slots=True)
class Runs:
    """The check-ins that the batch touches: as stored, and as decided so far."""

    by_guid: dict[tuple[int, uuid.UUID], CheckInState]
    running: dict[int, list[CheckInState]]
    received_ends: dict[tuple[int, uuid.UUID], datetime]
    newest_errors: dict[int, CheckInState]
    environments: Mapping[int, LockedEnvironment]
    new: dict[tuple[int, uuid.UUID], CheckInState] = field(default_factory=dict)
    changed: dict[tuple[int, uuid.UUID], CheckInState] = field(default_factory=dict)

    def find(self, item: BatchItem) -> CheckInState | None:
        """Return the run that a message refers to. Source: docs/reference/behaviour.md, section 6.3."""
        message = item.message
        if message.check_in_id is not None:
            named = self.by_guid.get((message.project_id, message.check_in_id))
            return named if named is not None and is_known(named, message.received_at) else None
        assert item.environment_id is not None, "only open items have runs"
        judged_at = self.environments[item.environment_id].judged_at
        known = [self.by_guid.get((message.project_id, run.guid), run) for run in self.running[item.environment_id]]
        still_running = [
            run
            for run in known
            if run.status is CheckInStatus.IN_PROGRESS
            and run.timeout_at is not None
            and judged_at(run.timeout_at) > message.received_at
        ]
        return max(still_running, key=lambda run: run.date_added, default=None)

    def was_received(self, environment_id: int, message: CheckInMessage) -> bool:
        """Return whether a message without id and without an open run repeats one received a moment ago."""
        if message.repeat_key is None:
            return False
        # A batch may hold a backlog: equal messages minutes apart belong to different runs.
        received_at = self.received_ends.get((environment_id, message.repeat_key))
        return received_at is not None and abs(message.received_at - received_at) <= REPEAT_WINDOW

    def newest_error(self, run: CheckInState) -> CheckInState | None:
        """Return the newest error of the environment, if it counted in the minute of this one (D39)."""
        newest = self.newest_errors.get(run.environment_id)
        if newest is None or newest.failed_at is None:
            return None
        return newest if newest.failed_at >= _minute(run.received_at) else None

    def put(self, project_id: int, run: CheckInState) -> None:
        """Record a run as decided: new, or changed."""
        key = project_id, run.guid
        if run.repeat_key is not None:
            self.received_ends[run.environment_id, run.repeat_key] = run.date_updated
        self.by_guid[key] = run
        if run.status is CheckInStatus.ERROR and run.failed_at is not None:
            self.newest_errors[run.environment_id] = run
        (self.new if run.id is None else self.changed)[key] = run
        runs = self.running.setdefault(run.environment_id, [])
        if run.id is None and all(other.guid != run.guid for other in runs):
            runs.append(run)


def load_runs(items: Sequence[BatchItem], environments: Mapping[int, LockedEnvironment]) -> Runs:
    """Load the runs that the items may refer to: six statements at most, none that no item needs."""
    named: set[tuple[int, uuid.UUID]] = set()
    unnamed: set[int] = set()
    keys: set[tuple[int, uuid.UUID]] = set()
    for item in items:
        assert item.environment_id is not None, "only open items have runs"
        message = item.message
        if message.check_in_id is not None:
            named.add((message.project_id, message.check_in_id))
            continue
        if environments[item.environment_id].state.first_timeout_at is not None:  # Else none runs.
            unnamed.add(item.environment_id)
        if isinstance(message, CheckInMessage) and message.repeat_key is not None:
            keys.add((item.environment_id, message.repeat_key))
    running: dict[int, list[CheckInState]] = {id_: [] for id_ in environments}
    since = min((item.message.received_at for item in items), default=datetime.max.replace(tzinfo=UTC))
    # Each message ends at most one run, so as many runs as messages suffice to find the next running one; plus a few
    # more, since some may fall due during the time that this batch covers.
    # A deadline that has passed may be in a maintenance window.
    is_maintained = any(environments[id_].windows for id_ in unnamed)
    due_after = since - LIFE_MAX if is_maintained else None
    for run in load_running(unnamed, since=since, due_after=due_after, each_max=len(items) + DUE_MEANWHILE):
        running[run.environment_id].append(run)
    received_ends = load_repeatable(keys, since=since - REPEAT_WINDOW)
    newest_errors = load_newest_errors(_crowded(items, environments), since=_minute(since))
    return Runs(
        by_guid=load_by_guid(named, since=since),
        running=running,
        received_ends=received_ends,
        newest_errors={run.environment_id: run for run in newest_errors},
        environments=environments,
    )


def know_rules_of_running(runs: Runs, environments: Mapping[int, LockedEnvironment]) -> None:
    """Load rules that changed since a run without an id began: they decide whether a slot has come (D22, D32)."""
    edited = [
        environments[id_]
        for id_, running in runs.running.items()
        if (since := environments[id_].rules_since) is not None
        and not environments[id_].former
        and any(run.date_added < since for run in running)
    ]
    if edited:
        attach_former_rules(edited)


def _crowded(items: Sequence[BatchItem], environments: Mapping[int, LockedEnvironment]) -> set[int]:
    """Return the environments in which errors of this batch may get no row of their own (D39)."""
    most = settings.CHECKINS_PER_MINUTE * SPARED_FACTOR
    coming = Counter(item.environment_id for item in items)
    return {id_ for id_, it in environments.items() if coming[id_] and it.state.limit_count + coming[id_] > most}


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
