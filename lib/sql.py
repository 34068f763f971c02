"""Reading and writing many rows in one statement: PostgreSQL's unnest, which takes one array for each column.

Django's bulk_update builds a CASE for every row and column, which is quadratic in practice; bulk_create cannot return
the ids of rows that were new. Table and column names come from constants in the code, values are always parameters.

A tick writes millions of values, so their format matters. Columns are sent as array literals, written here by the type
of the column: psycopg determines the type of each element anew and searches each text for characters to escape, which
took more than half of the clock's time. A column with the same value in all rows is sent as one value.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
import psycopg
from django.db import connection
from django.db.models import AutoField, Field, Model
from psycopg.pq import Format

from lib.encoding import as_plain_text, to_json

_encode_lines = msgspec.json.Encoder(enc_hook=as_plain_text).encode_lines
REPEATED = 5
"""Times that an INSERT is executed before its plan is kept: its text depends on the rows."""
KEEPS_ALL_PLANS = 1
"""The `prepare_threshold` of a connection whose tables stay small: every plan is kept from the second execution on.
From the first on, several statements in one text would be prepared too, which PostgreSQL refuses."""
_INSTANT_LOADER = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)


def fetch_rows(
    statement: str, parameters: Sequence[Any] | Mapping[str, Any], *, is_prepared: bool = False
) -> list[tuple[Any, ...]]:
    """Return all rows of a query. `is_prepared`: PostgreSQL stores its plan for the next call.

    Instants are read by psycopg's C code. Django replaces it by Python code, to set a zone that is UTC already; that
    takes a dozen times as long, which was a fifth of Python's share of a tick.
    """
    with connection.cursor() as cursor:
        cursor.cursor.adapters.register_loader("timestamptz", _INSTANT_LOADER)
        with _kept_plans(0 if is_prepared else None):
            cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


@contextmanager
def _kept_plans(executions: int | None) -> Iterator[None]:
    """Have PostgreSQL keep the plan of a statement after so many executions; None: never.

    Only of statements whose plan is right for any number of rows, or has no choice. After a rollback psycopg begins
    anew, so a plan that a migration made invalid fails once. A connection that keeps all plans goes on doing so.
    """
    raw = connection.connection
    before = raw.prepare_threshold
    raw.prepare_threshold = KEEPS_ALL_PLANS if before == KEEPS_ALL_PLANS else executions
    try:
        yield
    finally:
        raw.prepare_threshold = before


def find_by_index() -> None:
    """Make PostgreSQL join by index only, until the end of the transaction: a batch is about few rows of many.

    Between 1,000 and 100,000 rows it would read the whole table for each batch, which costs more than all the rest.
    """
    with connection.cursor() as cursor, _kept_plans(0):
        cursor.execute(
            """
            SELECT set_config(name, 'off', true)
              FROM (VALUES ('enable_hashjoin'), ('enable_mergejoin'), ('enable_seqscan')) AS setting (name)
            """
        )


def plan_for_few_of_many() -> None:
    """Make PostgreSQL find rows one by one, by index, until the end of the transaction.

    It does not know how few rows a statement is about, nor how many there are since a moment ago. For a chunk of 10,000
    among half a million it would read the whole table into a hash, for each chunk anew; and a plan that is kept for a
    day without rows would read that day from end to end when it has a million (P7).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT set_config(name, value, true)
              FROM (VALUES ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_seqscan', 'off'),
                           ('plan_cache_mode', 'force_generic_plan')) AS setting (name, value)
            """
        )


def update_rows(
    table: str,
    types: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    *,
    partitioned_by: Mapping[str, str] | None = None,
) -> None:
    """Set columns of existing rows. `types` maps columns to PostgreSQL types; a row is its id and a value for each.

    If the table is `partitioned_by` a column, its value comes after the id. It is compared row by row, and also bounds
    the whole statement: otherwise the planner would expect to search every partition for every row.
    """
    if not rows:
        return
    keys = {"id": "bigint", **(partitioned_by or {})}
    new = _Rows({**keys, **types}, rows)
    assignments = ", ".join(f"{column} = {new.values[column]}" for column in types)
    conditions = [f"old.{column} = {new.values[column]}" for column in keys]
    for number, (column, pg_type) in enumerate((partitioned_by or {}).items(), 1):
        conditions.append(f"old.{column} BETWEEN %(first)s::{pg_type} AND %(last)s::{pg_type}")
        values = [row[number] for row in rows]
        new.parameters |= {"first": min(values), "last": max(values)}
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} AS old SET {assignments} FROM {new.table} WHERE {' AND '.join(conditions)}",  # noqa: S608
            new.parameters,
        )


def insert_rows(
    table: str, types: Mapping[str, str], rows: Sequence[Sequence[Any]], *, on_conflict: str = "", returning: str = ""
) -> list[tuple[Any, ...]]:
    """Insert rows, one value per column of `types`, and return the `returning` columns of those that were written.

    `on_conflict` is an ON CONFLICT clause where rows may exist already.
    """
    if not rows:
        return []
    new = _Rows(types, rows)
    statement = f"""
        INSERT INTO {table} ({", ".join(types)}) SELECT {", ".join(new.values.values())} FROM {new.table}
        {on_conflict} {f"RETURNING {returning}" if returning else ""}
    """  # noqa: S608
    with connection.cursor() as cursor, _kept_plans(REPEATED):
        cursor.execute(statement, new.parameters)
        return cursor.fetchall() if returning else []


def insert_new(objects: Sequence[Model]) -> None:
    """Insert new objects of one model, with all columns, and skip those that exist already. They get no ids."""
    if not objects:
        return
    fields = [field for field in objects[0]._meta.concrete_fields if not isinstance(field, AutoField)]
    insert_rows(
        objects[0]._meta.db_table,
        {str(field.column): column_type(field) for field in fields},
        [[getattr(one, field.attname) for field in fields] for one in objects],
        on_conflict="ON CONFLICT DO NOTHING",
    )


def column_type(field: "Field[Any, Any]") -> str:
    """Return the PostgreSQL type of a model's column, without a length: a cast to a length truncates silently."""
    pg_type = (field.cast_db_type(connection) or "").replace("timestamp with time zone", "timestamptz")
    return re.sub(r"^varchar(\([0-9]+\))?", "text", pg_type)


@cache
def types_of(model: type[Model], *columns: str) -> Mapping[str, str]:
    """Return the PostgreSQL types of columns of a model."""
    fields = {field.column: field for field in model._meta.concrete_fields}
    return MappingProxyType({column: column_type(fields[column]) for column in columns})


class _Rows:
    """Rows as parts of a statement: an expression for each column, the table `new` it refers to, and the parameters."""

    def __init__(self, types: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
        self.values: dict[str, str] = {}
        self.parameters: dict[str, Any] = {}
        arrays: dict[str, str] = {}
        for (name, pg_type), column in zip(types.items(), zip(*rows, strict=True), strict=True):
            # unnest flattens arrays of arrays, so such an element is sent as text. The first column is always an
            # array, since it defines the number of rows.
            sent_as = "text" if pg_type.endswith("[]") else pg_type
            is_shared = bool(arrays) and column[0] == column[-1] and column.count(column[0]) == len(column)
            as_lines = pg_type == "jsonb" and not is_shared and None not in column
            if not as_lines:
                self.parameters[name] = array_literal(pg_type, column[:1] if is_shared else column)
            if is_shared:
                self.values[name] = f"(%({name})s::{sent_as}[])[1]::{pg_type}"
                continue
            self.values[name] = f"new.{name}::{pg_type}"
            arrays[name] = f"%({name})s::{sent_as}[]"
            if as_lines:
                # As lines, which need no escaping: PostgreSQL parses an array of long texts letter by letter.
                self.parameters[name] = _encode_lines(column).decode()[:-1]
                arrays[name] = f"string_to_array(%({name})s::text, E'\\n')"
        literals = ", ".join(arrays.values())
        self.table = f"unnest({literals}) AS new ({', '.join(arrays)})"


def array_literal(pg_type: str, values: Sequence[Any]) -> str:
    r"""Return values of one PostgreSQL type, or None, as the text of an array.

    A value of the type jsonb is any value that msgspec can encode; a value of an array type is a sequence.

    >>> array_literal("integer", [7, None])
    '{7,null}'
    >>> array_literal("text", ["plain", 'a "quoted" word', None])
    '{"plain","a \\"quoted\\" word",null}'
    """
    if pg_type == "text":
        return _texts(values)
    if pg_type == "jsonb":
        return array_literal("text", [None if value is None else _json(value) for value in values])
    if pg_type == "bytea":
        return array_literal("text", [None if value is None else "\\x" + value.hex() for value in values])
    if pg_type.endswith("[]"):
        element = pg_type.removesuffix("[]")
        if values and element not in {"text", "jsonb", "bytea"} and None not in values:
            # No number, instant or id contains a bracket.
            return _split(_encode_lines(values).decode().replace("[", "{").replace("]", "}"), "\n")
        return array_literal("text", [None if value is None else array_literal(element, value) for value in values])
    # Numbers, booleans, instants and ids have the same form in JSON and in arrays, and msgspec writes them in C.
    return "{" + _json(values)[1:-1] + "}"


def _texts(values: Sequence[str | None]) -> str:
    """Return an array of texts, all escaped at once: texts of PostgreSQL have no NUL, so NUL can separate them."""
    if values and None not in values:
        joined = "\0".join(values)  # type: ignore[arg-type]
        if joined.count("\0") == len(values) - 1:
            return _split(joined + "\0", "\0")
    return "{" + ",".join(["null" if text is None else _quoted(text) for text in values]) + "}"


def _split(lines: str, end: str) -> str:
    """Return an array of the parts of a text, each of which ends with `end`."""
    return '{"' + lines[:-1].replace("\\", "\\\\").replace('"', '\\"').replace(end, '","') + '"}'


def _quoted(text: str) -> str:
    # Unlike in JSON, line breaks are not escaped: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: object) -> str:
    return to_json(value).decode()
