"""Shards with work for many ticks, workers that do it, and all rows that come of it in a form that can be compared."""

import contextlib
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

from django.db import models, transaction

from checkins.models import CheckIn
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import finish_ticks
from clocktasks.models import AppliedTick, ShardClock, Tick
from clocktasks.shards import process_clock_task
from incidents.models import Incident, Issue, Notification, Occurrence
from monitors.changes import attach_config_snapshots
from monitors.models import Environment, Monitor, MonitorEnvironment
from monitors.sharding import shard_of
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory

SHARD = 5
MINUTE = timedelta(minutes=1)
WRITTEN_BY_THE_CLOCK: dict[type[models.Model], tuple[str, ...]] = {
    CheckIn: (),
    MonitorEnvironment: (),
    Incident: ("issue", "starting_checkin", "resolving_checkin"),
    Issue: (),
    Occurrence: ("incident", "issue", "checkin"),
    Notification: ("incident",),
    AppliedTick: (),
    Tick: (),
}


def after(minutes: float) -> Any:
    return NOW + timedelta(minutes=minutes)


def drain(tasks: Collection[Any]) -> int:
    """Do what these clock tasks ask for, and what they wake. Returns how many check-ins were marked."""
    waiting, marked = list(tasks), 0
    while waiting:
        result = process_clock_task(waiting.pop(0))
        marked += result.marked_count
        if result.wake is not None:
            waiting.append(result.wake)
    finish_ticks(now=NOW)
    return marked


def tick_until(until: Any) -> int:
    """Apply everything up to `until` at once. Returns how many check-ins were marked."""
    return drain(advance_ledger(until, now=NOW))


def tick_by_tick(since: Any, until: Any) -> int:
    """Apply each minute by itself, as a clock does that is never late."""
    marked = 0
    while since <= until:
        marked += tick_until(since)
        since += MINUTE
    return marked


def rows() -> dict[str, list[Any]]:
    """Everything that the clock writes, by table, in one order that is not time's.

    Rows are told apart by guids and environments, not by their ids.
    """
    return {
        model.__name__: sorted(map(_row, model._default_manager.select_related(*related)), key=repr)
        for model, related in WRITTEN_BY_THE_CLOCK.items()
    }


def rows_in_order() -> dict[str, list[Any]]:
    """The same, in the order in which they were written; without the ids themselves, which count on from any try.

    What a tick marked of each kind is looked up by tick, and in no order.
    """
    return {
        model.__name__: [
            _row(row)
            for row in model._default_manager.select_related(*related).order_by(
                *(("tick", "kind") if model is AppliedTick else ("pk",))
            )
        ]
        for model, related in WRITTEN_BY_THE_CLOCK.items()
    }


def _row(instance: models.Model) -> dict[str, Any]:
    columns = {
        field.attname: getattr(instance, field.attname)
        for field in instance._meta.concrete_fields
        if not field.is_relation and field.attname != "id"
    }
    match instance:
        case MonitorEnvironment():
            columns["id"] = instance.id
        case CheckIn():
            columns["monitor_environment"] = instance.monitor_environment_id
        case Incident():
            resolving = instance.resolving_checkin
            columns |= {
                "environment": instance.monitor_environment_id,
                "issue": instance.issue and instance.issue.fingerprint,
                "starting_checkin": instance.starting_checkin.guid,
                "resolving_checkin": resolving and resolving.guid,
            }
        case Occurrence():
            columns |= {
                "incident": instance.incident.guid,
                "issue": instance.issue.fingerprint,
                "checkin": instance.checkin.guid,
            }
        case Notification():
            columns["incident"] = instance.incident.guid
        case Tick():
            del columns["dispatched_at"], columns["decided_at"], columns["finished_at"]
    return columns


def positions() -> dict[tuple[int, str], Any]:
    """Where the clocks stand."""
    return {(clock.shard, clock.kind): clock.position for clock in ShardClock.objects.all()}


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """What happens inside is rolled back, so that the same rows can be treated in another way."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def make_monitor_in(shard: int, **columns: Any) -> Any:
    """A monitor whose environments live in the given shard."""
    taken = Monitor.objects.filter(id__gte=1_000_000).count()
    return MonitorFactory(id=1_000_000 // 16 * 16 + 16 * taken + shard, **columns)


def seed_mixed_shards() -> None:
    """Jobs of two shards that were well at 10:00 and say nothing more; some left runs behind that hang.

    Thresholds, margins longer than the gap, muted and disabled ones; misses and timeouts of the same environment
    alternate, in the same minute and in different ones.
    """
    project = ProjectFactory()
    jobs: list[tuple[int, dict[str, Any], list[float]]] = [
        (SHARD, {"crontab": "*/5 * * * *"}, [6, 7.5, 11]),
        (SHARD, {"crontab": "*/5 * * * *", "failure_threshold": 3}, [3, 6, 40]),
        (SHARD, {"crontab": "*/20 * * * *", "failure_threshold": 2, "checkin_margin": 10}, [29, 30, 31, 50]),
        (SHARD, {"interval": 15, "interval_unit": "minute", "checkin_margin": 20}, [35, 36]),
        (SHARD, {"interval": 1, "interval_unit": "hour", "failure_threshold": 4}, [10, 62, 90, 130]),
        (SHARD, {"crontab": "*/7 * * * *", "is_muted": True}, [8]),
        (SHARD, {"crontab": "*/5 * * * *", "status": "disabled"}, [12]),
        (SHARD + 1, {"crontab": "*/10 * * * *", "timezone": "Asia/Kathmandu"}, [11, 12, 41]),
        (SHARD + 1, {"crontab": "0 11 * * *", "timezone": "Europe/London", "max_runtime": 5}, [5]),
        (SHARD + 1, {"crontab": "* * * * *", "failure_threshold": 5, "checkin_margin": 3}, [4, 5, 9, 100]),
    ]
    for shard, columns, deadlines in jobs:
        environment = MonitorEnvironmentFactory(monitor=make_monitor_in(shard, project=project, **columns))
        for deadline in deadlines:
            CheckInFactory(
                monitor_environment=environment,
                status="in_progress",
                date_added=after(deadline / 2),
                timeout_at=after(deadline),
            )


def seed_silent(count: int, *, shard: int = SHARD, running: bool = False) -> None:
    """`count` jobs of one shard, expected at 10:05; with `running`, each has a run with a deadline at 10:06."""
    project = ProjectFactory()
    place = Environment.objects.create(project=project, name="production")
    template = MonitorFactory.build(project=project, config=None)
    attach_config_snapshots([template])
    first = shard + 16 * (1 + Monitor.objects.count())
    monitors = [
        Monitor(
            id=first + 16 * n, project=project, slug=f"silent-{n}", name=f"Silent {n}", schedule_type="crontab",
            crontab="*/5 * * * *", config_id=template.config_id, created_at=NOW,
        )
        for n in range(count)
    ]  # fmt: skip
    Monitor.objects.bulk_create(monitors)
    assert {shard_of(monitor.id, 16) for monitor in monitors} <= {shard}
    environments = MonitorEnvironment.objects.bulk_create(
        MonitorEnvironmentFactory.build(
            monitor=monitor, environment=place, shard=shard,
            pending_slot=after(5), next_checkin=after(5), next_checkin_latest=after(6),
        )
        for monitor in monitors
    )  # fmt: skip
    if running:
        CheckIn.objects.bulk_create(
            CheckInFactory.build(
                monitor_environment=environment, config=None, config_id=template.config_id, status="in_progress",
                date_added=after(1), timeout_at=after(6),
            )
            for environment in environments
        )  # fmt: skip
