"""Writing the audit log, in the transaction of the change (shell)."""

from collections.abc import Iterable

from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from audit.entries import CHANGED, NAME_CHARACTERS_MAX, WORD_CHARACTERS_MAX, Actor, Entry, stored_changes, text
from audit.models import AuditEntry
from lib.sql import insert_rows, types_of

_TYPES = types_of(
    AuditEntry,
    "kind",
    "object_id",
    "object_name",
    "action",
    "project_id",
    "changes",
    "actor_id",
    "actor_name",
    "source",
    "at",
)


def record(entries: Iterable[Entry], *, by: Actor | None) -> None:
    """Write what `by` changed into the audit log. One statement for any number of entries, none for no entry.

    With `by` None nothing is recorded, and `entries` is not even read: a story, a simulation, a test. An edit that
    changed no field is left out. Raises TransactionManagementError outside of a transaction: an entry is true exactly
    if its change is committed.
    """
    if not connection.in_atomic_block:
        raise TransactionManagementError("the audit log is written in the transaction of the change, and none is open")
    if by is None:
        return
    insert_rows(
        AuditEntry._meta.db_table,
        _TYPES,
        [
            (
                text(entry.kind, WORD_CHARACTERS_MAX),
                entry.id,
                text(entry.name, NAME_CHARACTERS_MAX),
                text(entry.action, WORD_CHARACTERS_MAX),
                entry.project_id,
                stored_changes(entry),
                by.id,
                text(by.name, NAME_CHARACTERS_MAX),
                by.source.value,
                by.at,
            )
            for entry in entries
            if entry.changes or entry.action != CHANGED
        ],
    )


@transaction.atomic
def record_alone(entry: Entry, *, by: Actor) -> None:
    """Write what a person did that changed nothing else, such as an export."""
    record([entry], by=by)
