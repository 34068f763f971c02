"""Running seeds: the tables that all worlds share, one world after the other, and what was found."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.db import connection
from django.db.backends.signals import connection_created
from django.test import override_settings

from clocktasks.playback.scratch import empty_tables
from drills.delivery.audit import judge
from drills.delivery.config import DEFAULT
from drills.delivery.faults import Faults
from drills.delivery.recipients import kinds_of, wrong_recipients
from drills.delivery.rows import UNWATCH_SQL, WATCH_SQL, make_environments, make_monitors, run_sql, write_config
from drills.delivery.world import JOBS_MAX, World
from drills.simulation.interleaving import Stage
from drills.simulation.run import Result
from monitors.apps import set_up_session

SETTINGS = {
    "ALERT_EMAIL_TO": [DEFAULT],
    "EMAIL_BACKEND": "drills.delivery.receivers.Postbox",
    "EMAIL_CONNECTIONS": 2,
    "TEST_CLOCK": None,
}
EMPTIED = ("incidents_", "audit_", "monitors_monitorenvironment", "monitors_dependency", "drill_log")
"""The tables of a world; the monitors are the same in all."""


@contextmanager
def stage() -> Iterator[Stage]:
    """Prepare the tables of the configured database, which must be a scratch one, and the connections of the actors."""
    empty_tables()
    run_sql(WATCH_SQL)
    make_monitors(JOBS_MAX)
    own = Stage(connection.settings_dict)
    try:
        # Each piece of work has a connection of its own, and a statement more for each would be one in ten.
        connection_created.disconnect(set_up_session)
        logging.disable()  # What goes wrong here goes wrong on purpose.
        with override_settings(**SETTINGS):
            yield own
    finally:
        logging.disable(logging.NOTSET)
        connection_created.connect(set_up_session)
        own.close()
        run_sql(UNWATCH_SQL)
        empty_tables()


def simulate(seed: int, own: Stage, *, faults: Faults | None = None) -> Result:
    """Let one world happen, and judge, with these faults or those that the seed chooses.

    What the product raises is a finding like any other.
    """
    _empty()
    make_environments(JOBS_MAX)
    world = World(seed, own, faults=faults)
    write_config(world.configs[0])
    try:
        world.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed leads there again
        findings = [f"{type(error).__name__}: {error}"]
    else:
        faults = world.faults
        lossy = world.counts["kills"] + world.counts["lost_connections"] > 0 or faults.hang + faults.late_results > 0
        kinds = kinds_of(world.configs[0])
        findings = [*judge(world.received, kinds, claims_get_lost=lossy), *wrong_recipients(world)]
    return Result(seed, findings, world.counts, world.trace)


def _empty() -> None:
    """Delete the rows of the last world. Not TRUNCATE, see `clocktasks.playback.scratch.empty_tables`."""
    tables = [model._meta.db_table for model in apps.get_models(include_auto_created=True)] + ["drill_log"]
    statements = ";".join(f"DELETE FROM {table}" for table in tables if table.startswith(EMPTIED))  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN;SET CONSTRAINTS ALL DEFERRED;{statements};COMMIT")
        # Keys of storms follow from ids: the same seed gives the same keys, whatever ran before.
        cursor.execute(
            "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S' AND relname LIKE %s",
            ["incidents\\_%"],
        )
