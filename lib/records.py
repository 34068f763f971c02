"""Rows of a table as values: the fields of a struct name the columns, and the model defines their types.

A `Record` inspects the struct and its table once, when it is created. Each row then costs a constructor call, and a
look-up for each enum.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, get_args

import msgspec
from django.db.models import Model

from lib.sql import insert_rows, types_of

T = TypeVar("T", bound=msgspec.Struct)


class Stored(NamedTuple):
    """How to store a field that has another column name, several columns, or another form.

    `load` receives the values of the columns; `store` returns them, as a tuple if there are several. A field that is
    only read needs no `store`.
    """

    columns: tuple[str, ...]
    load: Callable[..., Any] | None = None
    store: Callable[[Any], Any] | None = None


_PLAIN = Stored(("",))
_AS_THEY_ARE: Mapping[str, Stored] = MappingProxyType({})


class Record(Generic[T]):
    """A struct whose fields are columns of a model's table, all but the fields in `without`.

    Enums are stored as their values, which needs no conversion for an enum of texts. `types` maps the columns to their
    types in PostgreSQL: fields of one column in the order of the struct, then those of several. Rows can be loaded only
    if the fields of the record are the first of the struct.
    """

    def __init__(
        self,
        struct: type[T],
        model: type[Model],
        *,
        stored: Mapping[str, Stored] = _AS_THEY_ARE,
        without: Collection[str] = (),
    ) -> None:
        self._struct, self._model, self._stored = struct, model, stored
        self._without = frozenset(without)
        self.table = model._meta.db_table
        fields = [field for field in msgspec.structs.fields(struct) if field.name not in self._without]
        names = tuple(field.name for field in fields)
        is_head = struct.__struct_fields__[: len(names)] == names
        self._make: Callable[..., T] = struct if is_head else _cannot_load
        single = [name for name in names if name not in stored or len(stored[name].columns) == 1]
        self._single, self._single_count = attrgetter(*single), len(single)
        columns = [stored[name].columns[0] if name in stored else name for name in single]
        look_ups, changes, joins, splits = [], [], [], []
        for place, field in enumerate(fields):
            name, own = field.name, stored.get(field.name, _PLAIN)
            if len(own.columns) > 1:
                joins.append((place, len(columns), len(columns) + len(own.columns), own.load or _cannot_load))
                splits.append((attrgetter(name), own.store or _cannot_store))
                columns += own.columns
                continue
            members = _members(field.type)
            if load := own.load or (members.__getitem__ if members else None):
                look_ups.append((place, load))
            if own.store is not None:
                changes.append((single.index(name), own.store))
        self._look_ups, self._changes = tuple(look_ups), tuple(changes)
        self._joins, self._splits = tuple(joins), tuple(splits)
        self.types = types_of(model, *columns)

    def except_for(self, *names: str) -> "Record[T]":
        """Return the record without these fields, for updates of existing rows."""
        return Record(self._struct, self._model, stored=self._stored, without=self._without | set(names))

    def select(self, table: str = "") -> str:
        """Return the columns as a list of a SELECT, `table` before each of them if it is given."""
        prefix = f"{table}." if table else ""
        return ", ".join(prefix + column for column in self.types)

    def load(self, row: Sequence[Any]) -> T:
        """Return the struct for a row, which holds the columns in order."""
        values = list(row[: self._single_count])
        for place, begin, end, join in self._joins:
            values.insert(place, join(*row[begin:end]))
        for place, look_up in self._look_ups:
            values[place] = look_up(values[place])
        return self._make(*values)

    def values(self, record: T) -> Sequence[Any]:
        """Return the values of the columns, in order."""
        values: tuple[Any, ...] = self._single(record)
        for get, split in self._splits:
            values += split(get(record))
        if not self._changes:
            return values
        changed = list(values)
        for place, store in self._changes:
            changed[place] = store(changed[place])
        return changed

    def columns(self, name: str, values: Iterable[Any]) -> dict[str, Sequence[Any]]:
        """Return the values of the columns of one field, for many rows to write."""
        own = self._stored.get(name)
        if own is None or own.store is None:
            return {name if own is None else own.columns[0]: list(values)}
        stored = [own.store(value) for value in values]
        return dict(zip(own.columns, zip(*stored, strict=True) if len(own.columns) > 1 else [stored], strict=True))

    def insert(self, records: Iterable[T], *, on_conflict: str = "", returning: str = "") -> list[tuple[Any, ...]]:
        """Insert rows, as `lib.sql.insert_rows` does. One statement."""
        rows = [self.values(record) for record in records]
        return insert_rows(self.table, self.types, rows, on_conflict=on_conflict, returning=returning)


def _cannot_load(*_values: Any) -> NoReturn:
    raise TypeError("only a record whose fields are the first of its struct can be loaded")


def _cannot_store(_value: Any) -> NoReturn:
    raise TypeError("a field without a store function can only be read")


def _members(kind: Any) -> dict[Any, Any]:
    """Return the members of an enum by value, and None where the type allows it; nothing for any other type."""
    choices = get_args(kind) or (kind,)
    enums = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, Enum)]
    members: dict[Any, Any] = {member.value: member for enum in enums for member in enum}
    return members | {None: None} if members and type(None) in choices else members
