"""A database for stories, beside the real one and emptied before each (shell)."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.db import connection, transaction

from clocktasks.exceptions import ClockError
from lib.sql import KEEPS_ALL_PLANS

APPS = ("monitors", "checkins", "incidents", "clocktasks")


class NoScratchDatabaseError(ClockError):
    """No scratch database can be made; what PostgreSQL says about it is on standard error."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no database {name!r} to simulate in: the database user needs the right to make it.")


@contextmanager
def scratch_database(name: str) -> Iterator[None]:
    """Work in a new, migrated database beside the configured one, and drop it in the end, whatever happens.

    Nothing in it has to survive a crash, so commits do not wait for the disk. Raises NoScratchDatabaseError.
    """
    configured = connection.settings_dict["NAME"]
    test_settings = dict(connection.settings_dict["TEST"])
    connection.settings_dict["TEST"]["NAME"] = name
    try:
        try:
            connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        except SystemExit:
            raise NoScratchDatabaseError(name) from None
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        # Long stories repeat few statements thousands of times, and planning them took half of PostgreSQL's time.
        connection.connection.prepare_threshold = KEEPS_ALL_PLANS
        yield
    finally:
        connection.settings_dict["TEST"] = test_settings
        if connection.settings_dict["NAME"] == name:  # Otherwise it was not made, and this is the configured one.
            connection.creation.destroy_test_db(configured, verbosity=0)


@transaction.atomic
def empty_tables() -> None:
    """Delete every row of every scenario. The foreign keys are checked at the commit, so the order does not matter.

    DELETE takes 2 ms here where TRUNCATE takes 75 ms: it makes new files for every table and index.
    """
    models = apps.get_models(include_auto_created=True)
    tables = [model._meta.db_table for model in models if model._meta.app_label in APPS]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - the name of a table of our own
