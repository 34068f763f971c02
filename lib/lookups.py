"""A lookup for "one of these" that costs a statement one parameter, however many they are.

Django's `__in` takes a parameter for each value, and PostgreSQL accepts at most 65,535 of them: a query that works with
a thousand rows always fails with seventy thousand. So values that come from data go through `__any_of` (D36); `__in` is
for subqueries and for a few constants in the code.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db.models import Field, ForeignObject, Lookup
from django.db.models.lookups import FieldGetDbPrepValueIterableMixin
from django.db.models.sql.compiler import SQLCompiler

from lib.sql import array_literal, column_type

if TYPE_CHECKING:
    AnyLookup = Lookup[Any]
else:
    AnyLookup = Lookup


class AnyOf(FieldGetDbPrepValueIterableMixin, AnyLookup):
    """`column = ANY(array)`: `filter(id__any_of=ids)`. None matches nothing."""

    lookup_name = "any_of"

    def __init__(self, lhs: Any, rhs: Iterable[Any]) -> None:
        super().__init__(lhs, list(rhs))

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the condition and its parameters: those of the left side, and one array."""
        column, parameters = self.process_lhs(compiler, connection)
        pg_type = column_type(self.lhs.output_field)
        return f"{column} = ANY(%s::{pg_type}[])", (*parameters, array_literal(pg_type, self.rhs))


def register() -> None:
    """Register the lookup for every column."""
    Field.register_lookup(AnyOf)
    ForeignObject.register_lookup(AnyOf)
