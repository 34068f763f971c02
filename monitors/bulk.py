"""Writing many rows in one statement: PostgreSQL's unnest, which takes one array for each column.

Django's bulk_update builds a CASE for every row and column, which is quadratic in practice; bulk_create cannot return
the ids of rows that were new. Table and column names come from constants in the code, values are always parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection


def update_rows(table: str, kinds: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """Set columns of existing rows. `kinds` maps columns to PostgreSQL types; a row is its id and a value for each."""
    if not rows:
        return
    assignments = ", ".join(f"{column} = new.{column}" for column in kinds)
    statement = f"""
        UPDATE {table} AS old SET {assignments}
          FROM unnest(%s::bigint[], {_arrays(kinds)}) AS new (id, {", ".join(kinds)})
         WHERE old.id = new.id
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, _columns(rows))


def insert_rows(
    table: str, kinds: Mapping[str, str], rows: Sequence[Sequence[Any]], *, tail: str = "", returning: str = ""
) -> list[tuple[Any, ...]]:
    """Insert rows, one value per column of `kinds`, and return the `returning` columns of those that were written.

    A kind "text::uuid[]" is sent as text and cast, since arrays cannot be elements of unnest's arrays.
    `tail` is an ON CONFLICT clause where rows may exist already.
    """
    if not rows:
        return []
    columns = ", ".join(kinds)
    values = ", ".join(f"{column}::{kind.partition('::')[2] or kind}" for column, kind in kinds.items())
    statement = f"""
        INSERT INTO {table} ({columns})
        SELECT {values} FROM unnest({_arrays(kinds)}) AS new ({columns})
        {tail} {f"RETURNING {returning}" if returning else ""}
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, _columns(rows))
        return cursor.fetchall() if returning else []


def _arrays(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"%s::{kind.partition('::')[0]}[]" for kind in kinds.values())


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
