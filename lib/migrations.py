"""Which migrations a database lacks, including squashed migrations (`replaces`)."""

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder


def missing_migrations(connection: BaseDatabaseWrapper) -> list[str]:
    """Name the migrations of this version that the database lacks, in the order of their names.

    A migration that replaces others counts as applied exactly when all of those are, as for Django.
    """
    return [name for name, _, lacking in _on_disk(connection) if lacking]


def half_replaced(connection: BaseDatabaseWrapper) -> list[str]:
    """Name the migrations that replace others of which the database has some and lacks some.

    Such a migration cannot be applied, and this version does not contain the replaced ones: an older version has to
    apply them.
    """
    return [name for name, replaced, lacking in _on_disk(connection) if lacking and lacking < replaced]


def _on_disk(connection: BaseDatabaseWrapper) -> list[tuple[str, set[tuple[str, str]], set[tuple[str, str]]]]:
    """Return each migration: its name, what it replaces (itself, if nothing), and what of that the database lacks."""
    applied = set(MigrationRecorder(connection).applied_migrations())
    # Without a connection: with one, the loader fails at a migration that is half replaced.
    migrations = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    found = []
    for app, name in sorted(migrations):
        replaced = set(migrations[app, name].replaces) or {(app, name)}
        found.append((f"{app}.{name}", replaced, replaced - applied))
    return found
