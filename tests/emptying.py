"""Empty the database after a test that commits.

Django truncates each table, and writes all content types and permissions anew: a quarter of a second for a handful of
rows. Here rows are deleted where there are any; content types and permissions stay, which no test changes.
"""

from functools import cache

from django.db import connection, transaction
from django.test import TransactionTestCase
from psycopg.sql import SQL, Identifier

KEPT = {"django_content_type", "auth_permission"}


def delete_all_rows(test_case: TransactionTestCase) -> None:
    """Delete what is in the tables of all models: in the place of `TransactionTestCase._fixture_teardown`."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Foreign keys are looked at when it commits. Triggers of check-ins delete rows of other tables, and add none.
        cursor.execute(_statements())


@cache
def _statements() -> str:
    tables = [Identifier(table) for table in sorted({*connection.introspection.django_table_names()} - KEPT)]
    # Wait for those who still write, as TRUNCATE does: what they commit goes too.
    lock = SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(SQL(", ").join(tables))
    return SQL(";").join([lock, *(SQL("DELETE FROM {}").format(table) for table in tables)]).as_string()
