"""Exports of the audit log: CSV and JSON, written while they are read, piece by piece (shell).

A response that is streamed is asynchronous: what reads the database runs in a thread, and no piece waits for another
reader's. Nothing is held but one piece.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

from asgiref.sync import sync_to_async

from audit.models import AuditEntry
from dashboard.pages.auditlog.entries import find_entries, visible_changes
from dashboard.pages.auditlog.filters import Filters

ROWS_MAX = 100_000
"""Entries of one export: the newest."""
PIECE_ROWS = 1_000
COLUMNS = ("id", "at", "person", "source", "action", "kind", "object id", "object", "changes")
FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


async def write_export(project_id: int, filters: Filters, *, as_format: str, sees_channels: bool) -> AsyncIterator[str]:
    """Yield an export in pieces, the newest entry first."""
    yield "[" if as_format == "json" else as_csv([COLUMNS])
    count, filters = 0, replace(filters, before=None)
    while count < ROWS_MAX:
        rows = await sync_to_async(_read_piece)(project_id, filters, min(PIECE_ROWS, ROWS_MAX - count), sees_channels)
        if rows:
            yield as_json(rows, is_first=not count) if as_format == "json" else as_csv(map(_cells, rows))
        count += len(rows)
        if len(rows) < PIECE_ROWS:
            break
        filters = replace(filters, before=rows[-1].pk)
    if as_format == "json":
        yield "\n]\n"


def _read_piece(project_id: int, filters: Filters, count: int, sees_channels: bool) -> Sequence[AuditEntry]:
    rows = list(find_entries(project_id, filters)[:count])
    for row in rows:
        row.changes = visible_changes(row, sees_channels=sees_channels)
    return rows


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    """Return lines of CSV. A spreadsheet shows texts, and calculates none: those of formulas begin with an apostrophe.

    >>> as_csv([(7, "=1+1", "a,b")])
    '7,\\'=1+1,"a,b"\\r\\n'
    """
    lines = io.StringIO()
    csv.writer(lines).writerows([[_harmless(cell) for cell in row] for row in rows])
    return lines.getvalue()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _cells(row: AuditEntry) -> Sequence[object]:
    changes = json.dumps(row.changes, ensure_ascii=False) if row.changes else ""
    names = (row.actor_name, row.source, row.action, row.kind, row.object_id or "", row.object_name)
    return (row.pk, row.at.isoformat(), *names, changes)


def as_json(rows: Sequence[AuditEntry], *, is_first: bool) -> str:
    """Return entries as the items of a JSON array, a line each."""
    lines = [
        json.dumps(
            {
                "id": row.pk,
                "at": row.at.isoformat(),
                "person": row.actor_name,
                "source": row.source,
                "action": row.action,
                "kind": row.kind,
                "object_id": row.object_id,
                "object": row.object_name,
                "changes": row.changes,
            },
            ensure_ascii=False,
        )
        for row in rows
    ]
    return ("\n" if is_first else ",\n") + ",\n".join(lines)
