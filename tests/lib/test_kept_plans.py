"""Which plans PostgreSQL keeps."""

import pytest
from django.db import connection

from lib.sql import KEEPS_ALL_PLANS, fetch_rows


@pytest.fixture
def threshold(db, request):
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    before = connection.connection.prepare_threshold
    connection.connection.prepare_threshold = request.param
    yield request.param
    connection.connection.prepare_threshold = before


@pytest.mark.parametrize(
    ("threshold", "is_prepared", "is_kept"),
    [(None, False, False), (None, True, True), (2, False, False), (KEEPS_ALL_PLANS, False, True)],
    indirect=["threshold"],
    ids=["never", "of a query that asks for it", "of other statements than queries", "of all, for a story"],
)
def test_a_plan_is_kept(threshold, is_prepared, is_kept):
    for _ in range(3):
        fetch_rows("SELECT %s::int", [7], is_prepared=is_prepared)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%::int'")
        assert (cursor.fetchone() == (1,)) is is_kept
    assert connection.connection.prepare_threshold == threshold


@pytest.mark.parametrize("threshold", [KEEPS_ALL_PLANS], indirect=True)
def test_a_connection_that_keeps_all_plans_executes_several_statements_in_one_text(threshold):
    with connection.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT 1; SELECT 2")
