"""Running seeds: the tables that all worlds share, one world after the other, and what was found."""

import logging
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from django.apps import apps
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.test import override_settings

from checkins.maintenance import note_windows
from checkins.processing.batch import take
from clocktasks.kinds import HANDLERS
from clocktasks.ledger import write_ticks
from clocktasks.playback.scratch import APPS, empty_tables
from drills.simulation.audit import Rows, audit, read_rows
from drills.simulation.history import BatchStored, TickApplied, edited
from drills.simulation.interleaving import Stage
from drills.simulation.neighbour import make_project
from drills.simulation.people import Edited, apply_edit
from drills.simulation.rules import KEY, MONITORS, RUNS_LEAST, START, columns_of, text_of
from drills.simulation.world import SHARDS, World
from lib.sql import update_rows
from monitors.apps import set_up_session
from monitors.changes import CHANGEABLE_COLUMNS, attach_config_snapshots
from monitors.models import IngestKey, MaintenanceWindow, Monitor, Project

SETTINGS = {
    "ALERT_EMAIL_TO": ["people@example.org"],
    "EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend",  # Nothing is sent, but not for want of a server.
    "CHECKINS_PER_MINUTE": 10_000,
    "EARLY_CHECKIN_SECONDS": 0.0,
    "INGEST_NODE_SILENT_SECONDS": 86_400,
    "CLOCK_SHARDS": SHARDS,
    "TEST_CLOCK": None,
}
"""Nobody is limited, nothing serves a slot that is still to come, and no node is given up while it holds check-ins."""

KEPT = {"monitors_project", "monitors_ingestkey", "monitors_monitor", "monitors_configsnapshot"}
"""The same in all worlds, each of which takes some of the monitors."""
LEDGER = {"monitors_shardlayout", "monitors_maintenancewindow", "clocktasks_tick", "clocktasks_shardclock"}
"""What a replay goes by."""
REPLAYED_EVERY = 10
_first_rows: list[list[object]] = []
"""The monitors as every world finds them."""


@dataclass(frozen=True)
class Result:
    """What a seed led to."""

    seed: int
    findings: list[str]
    counts: dict[str, int]
    trace: list[str]


@contextmanager
def stage() -> Iterator[Stage]:
    """Prepare the tables of the configured database, which must be a scratch one, and the connections of the actors."""
    empty_tables()
    project = Project.objects.create(id=1, name="Simulation", slug="simulation", created_at=START)
    IngestKey.objects.create(project=project, public_key=KEY, created_at=START)
    monitors = [
        Monitor(
            id=id_,
            project=project,
            slug=f"job-{id_}",
            name=f"Job {id_}",
            schedule_type="crontab",
            timezone="UTC",
            created_at=START,
            **columns_of(rules._asdict().items()),
        )
        for id_, rules in MONITORS.items()
    ]
    broken = make_project()
    attach_config_snapshots([*monitors, broken])
    Monitor.objects.bulk_create([*monitors, broken])
    _first_rows[:] = [[getattr(one, column) for column in ("id", *CHANGEABLE_COLUMNS)] for one in monitors]
    own = Stage(connection.settings_dict)
    try:
        # Each piece of work has a connection of its own, and a statement more for each would be one in ten.
        connection_created.disconnect(set_up_session)
        logging.disable()  # What goes wrong here goes wrong on purpose.
        with override_settings(**SETTINGS), mock.patch("monitors.limits.RUNS_LEAST", RUNS_LEAST):
            yield own
    finally:
        logging.disable(logging.NOTSET)
        connection_created.connect(set_up_session)
        own.close()
        empty_tables()


def _plan_windows(world: World) -> None:
    for monitor_id, windows in world.windows.items():
        for begin, end in windows:
            MaintenanceWindow.objects.create(
                project_id=1, name="upgrade", monitor_id=monitor_id, starts_at=begin, ends_at=end, created_at=START
            )
    note_windows(1)


def _give_limits(world: World) -> None:
    """Give monitors the limits of this world, as if they had always had them."""
    limited = list(Monitor.objects.filter(id__in=world.limits))
    for monitor in limited:
        monitor.limits = text_of(world.limits[monitor.id])
    attach_config_snapshots(limited)
    for monitor in limited:
        monitor.save(update_fields=["limits", "config"])


def simulate(seed: int, own: Stage) -> Result:
    """Let one world happen, and compare. What the product raises is a finding like any other."""
    _empty(KEPT)
    _undo_edits()
    write_ticks(START, now=START)
    world = World(seed, own)
    _plan_windows(world)
    _give_limits(world)
    if world.neighbour is not None:
        world.neighbour.move_in()
    try:
        world.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed leads there again
        findings = [f"{type(error).__name__}: {error}"]
    else:
        findings = audit(world)
        if seed % REPLAYED_EVERY == 0 and not findings and not _was_any_overtaken(world):
            findings = _replay(world)
    return Result(seed, findings, world.counts, world.trace)


def _was_any_overtaken(world: World) -> bool:
    """Tell whether a batch was committed after its monitor was edited, which it may not have seen."""
    return any(
        isinstance(entry, BatchStored) and edited(world.history[entry.begun : number])
        for number, entry in enumerate(world.history)
    )


def _replay(world: World) -> list[str]:
    """Let the transactions of a world happen once more, one after the other, and compare the rows (P6)."""
    before = read_rows()
    _empty(KEPT | LEDGER)
    _undo_edits()
    _give_limits(world)
    for entry in world.history:
        match entry:
            case BatchStored(copies=copies):
                take([copy.request for copy in copies], now=copies[-1].at)
            case TickApplied(kind, shard, first, last):
                with transaction.atomic():
                    HANDLERS[kind](shard, first, last)
            case Edited(monitor_id, at, changes, is_active):
                apply_edit(monitor_id, changes, is_active, now=at)
    after = read_rows()
    return [
        f"P6: {what} are {then} after a replay, and were {now}"
        for what, now, then in (
            ("environments", before.environments, after.environments),
            ("check-ins", _without_slot_ids(before), _without_slot_ids(after)),
            ("incidents", _counted(before), _counted(after)),
        )
        if now != then
    ]


def _without_slot_ids(rows: Rows) -> dict[str, list[tuple[object, ...]]]:
    """The id of what stands for a slot holds that of its environment's row, which is another one now."""
    return {
        name: sorted(((status, guid if slot is None or status not in ("missed", "unknown") else None, added, *rest)
                      for status, guid, added, *rest, slot in checkins), key=repr)
        for name, checkins in rows.checkins.items()
    }  # fmt: skip


def _counted(rows: Rows) -> dict[str, list[tuple[object, ...]]]:
    return {name: [incident[:2] for incident in incidents] for name, incidents in rows.incidents.items()}


def _undo_edits() -> None:
    """Give the monitors the rules again that they have at first."""
    update_rows("monitors_monitor", CHANGEABLE_COLUMNS, _first_rows)


def _empty(kept: Set[str]) -> None:
    """Delete all rows but those of the kept tables. Not TRUNCATE, see `clocktasks.playback.scratch.empty_tables`."""
    tables = [model._meta.db_table for model in apps.get_models() if model._meta.app_label in APPS]
    statements = ";".join(f"DELETE FROM {table}" for table in tables if table not in kept)  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN;{statements};COMMIT")
