"""What happens to incidents: jobs fail and recover, some together, and people mute and unmute them."""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from audit.entries import Actor, Source
from drills.delivery.rows import SECOND, START
from incidents.failures import FailedCheckIn, OkCheckIn, PastRuns
from incidents.handling import acknowledge, snooze
from incidents.models import Incident
from incidents.notifications.outbox import release_ticks
from incidents.notifications.pursuing import pursue
from incidents.services import mark_failed, mark_ok
from incidents.thresholds import FailureKind
from monitors.hot_rows import lock_environments, save_environments
from monitors.services import set_environments_muted

SOMEBODY = Actor("anna", Source.ADMIN, START, 1)
NO_PAST = PastRuns(lambda _: [], lambda _: {})
"""Every failure opens, so no earlier run matters."""


HOLD = 5 * SECOND


@dataclass(frozen=True)
class Change:
    """Jobs that fail or recover in one transaction: found by a tick (`missed`), or by their check-ins (`error`)."""

    jobs: tuple[int, ...]
    fails: bool
    kind: str


@dataclass(frozen=True)
class Muting:
    """Somebody mutes a job's environment, or unmutes it."""

    job: int
    is_muted: bool


@dataclass(frozen=True)
class Finished:
    """The clock has finished the ticks of the last seconds in all shards."""


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody looks after the open incident of a job, if there is one."""

    job: int


@dataclass(frozen=True)
class Snooze:
    """Somebody snoozes the monitor of a job for so many seconds, or ends its snooze (0)."""

    job: int
    seconds: int


@dataclass(frozen=True)
class Pursuit:
    """The sweep of reminders and escalations."""


Happening = Change | Muting | Finished | Acknowledgement | Snooze | Pursuit


def choose_changes(chance: random.Random, jobs: int, mutes: float) -> list[tuple[int, Happening]]:
    """Return what happens when, in seconds: each job fails once or twice, some at the same instants."""
    instants = [chance.randrange(0, 60) for _ in range(2)]
    failures: dict[tuple[int, str], list[int]] = {}
    plan: list[tuple[int, Happening]] = []
    for job in range(1, jobs + 1):
        begin = chance.choice([*instants, *instants, chance.randrange(90)])
        for _ in range(chance.choice([1, 1, 1, 2])):
            failures.setdefault((begin, chance.choice(["missed", "missed", "error"])), []).append(job)
            end = begin + chance.choice([0, 1, 5, 20, 60, 200, 8_000])
            is_last = chance.random() < 0.1
            if not is_last:
                plan.append((end, Change((job,), fails=False, kind="ok")))
            plan += _about(chance, job, begin, end)
            if chance.random() < mutes:
                plan.append((chance.randint(begin, end), Muting(job, is_muted=True)))
                if chance.random() < 0.7:
                    plan.append((end + chance.choice([0, 5, 30]), Muting(job, is_muted=False)))
            begin = end + chance.choice([1, 30])
            if is_last:
                break
    # Now and then the clock does not come to finish a tick in time.
    plan += [(at + chance.choice([0, 1, 3, 30]), Finished()) for at, kind in failures if kind == "missed"]
    opened = [(at, Change(tuple(own), fails=True, kind=kind)) for (at, kind), own in failures.items()]
    # Of what happens in the same second, the failures come first: a job that recovers has failed.
    return sorted([*opened, *plan], key=lambda one: (one[0], not (isinstance(one[1], Change) and one[1].fails)))


def _about(chance: random.Random, job: int, begin: int, end: int) -> list[tuple[int, Happening]]:
    """What people and the sweep do about an incident."""
    plan: list[tuple[int, Happening]] = []
    if chance.random() < 0.3:
        plan.append((chance.randint(begin, end + 1), Acknowledgement(job)))
    if chance.random() < 0.2:
        at = chance.randint(max(begin - 20, 0), end)
        plan.append((at, Snooze(job, chance.choice([5, 30, 3_600]))))
        if chance.random() < 0.3:
            plan.append((at + 10, Snooze(job, 0)))
    plan += [(begin + after, Pursuit()) for after in (61, 63, 125, 190, 3_605, 7_900) if begin + after <= end + 60]
    return plan


def apply_change(change: Change, *, checkin: int, guid: Callable[[], uuid.UUID], now: datetime) -> None:
    """Do what ingest and the clock do with their environments."""
    begun = now - timedelta(minutes=1)
    with transaction.atomic():
        environments = lock_environments(change.jobs)
        if change.fails:
            is_missed = change.kind == "missed"
            tick = now if is_missed else None
            mark_failed(
                [
                    FailedCheckIn(
                        environment=one,
                        id=checkin + one.id,
                        guid=guid(),
                        kind=FailureKind(change.kind),
                        rules=one.rules,
                        started_at=begun if is_missed else now,
                        failed_at=now,
                        expected_time=begun if is_missed else None,
                        deadline=tick,
                        tick=tick,
                        received_at=None if is_missed else now,
                    )
                    for one in environments.values()
                ],
                past=NO_PAST,
                held_until=now + HOLD if is_missed else None,
            )
        else:
            mark_ok(
                [
                    OkCheckIn(environment=one, id=checkin + one.id, rules=one.rules, started_at=now, received_at=now)
                    for one in environments.values()
                ]
            )
        save_environments(environments.values())


def apply_muting(muting: Muting) -> None:
    """Mute or unmute, as the admin does."""
    set_environments_muted([muting.job], muting.is_muted)


def do(happening: Acknowledgement | Snooze | Pursuit, *, now: datetime) -> None:
    """Do what a person does in the admin, or the sweep."""
    match happening:
        case Acknowledgement(job):
            found = Incident.objects.filter(monitor_environment_id=job, resolved_at__isnull=True)
            for guid in found.values_list("guid", flat=True):
                acknowledge(guid, by=SOMEBODY, via="the admin", now=now)
        case Snooze(job, seconds):
            snooze([job], now + seconds * SECOND if seconds else None, now=now)
        case Pursuit():
            pursue(now=now)


@transaction.atomic
def finish_ticks(*, now: datetime) -> None:
    """Do what the clock does when all shards are done."""
    release_ticks(now)
