"""Unknown check-ins: due while nothing could be received, or far too little was (shell)."""

from datetime import datetime

from checkins.processing.counting import count_deferred
from checkins.processing.rows import (
    insert_checkins,
    load_overdue,
    look_later,
    overdue_environments,
    update_checkins,
)
from checkins.processing.transitions import CheckInState
from clocktasks.clock import MINUTE
from clocktasks.kinds import bounds
from clocktasks.kinds.marked import Marked, Pass, marked_row, tick_of
from clocktasks.kinds.runs import end_unknown, put_off, unheard_run, without_unjudged
from clocktasks.kinds.slots import deaf_minutes, ids_due_at, unjudged_slots, unknown_slot
from clocktasks.models import Tick
from clocktasks.volume import VolumeDecision
from monitors.hot_rows import LockedEnvironment, lock_environments, save_environments
from monitors.spans import decide_due


def mark_unknown(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Mark what is due in the shard as unknown at a tick at which nothing, or far too little, was received (D2, D4).

    `last` is the last tick of a time without a listener that begins with `first`, if it is done at once: each row says
    the tick of its own.
    Slots get an unknown check-in, and runs in progress whose deadline has come become unknown: no failure, and no
    streak ends. At a deaf tick, a slot whose window was not wholly deaf waits instead.
    Source: docs/reference/behaviour.md, section 12.3.
    """
    last = last or first
    is_incident = Tick.objects.filter(at=last, decision=VolumeDecision.INCIDENT.value).exists()
    marked: list[Marked] = []
    for ids in bounds.chunks(ids_due_at(shard, last)):
        environments = lock_environments(ids, due_at=last, since=first)
        deaf = deaf_minutes(environments.values(), last)
        unknown: list[tuple[LockedEnvironment, CheckInState]] = []
        for environment in environments.values():
            slots, environment.state = decide_due(
                environment.state,
                environment.rules,
                environment.former,
                tick=last,
                deaf=deaf,
                all_unknown=is_incident,
            )
            unknown += [
                (environment, unknown_slot(environment, due, tick=tick_of(due.deadline, first, last), because=why))
                for due, why in unjudged_slots(environment, slots)
            ]
        stored = insert_checkins(unknown, on_conflict="ON CONFLICT DO NOTHING")
        count_deferred(environments.values())
        save_environments(environments.values())
        marked += [
            marked_row(environment, checkin)
            for environment, checkin in unknown
            if (environment.id, checkin.guid) in stored
        ]
    for ids in bounds.chunks(overdue_environments(shard, last)):
        # An end may have been received in the minute before.
        environments = lock_environments(ids, since=first - MINUTE)
        found = put_off(load_overdue(ids, last), environments, until=last)
        look_later((run, later) for run, later in found if later is not None)
        due = [run for run, later in found if later is None]
        overdue, unjudged = without_unjudged(due, environments, first, last)
        marked += unjudged
        unfinished = [unheard_run(run, first, last) for run in overdue if run.finished_status is None]
        update_checkins(unfinished)
        end_unknown(environments, [run for run in overdue if run.finished_status is not None])
        count_deferred(environments.values())
        save_environments(environments.values())
        marked += [marked_row(environments[run.environment_id], run) for run in unfinished]
    return Pass(last, {last: marked})
