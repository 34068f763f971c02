"""What every connection to PostgreSQL is told. P3: a host that was cut off in a tick does not keep the clock locked."""

import select

import pytest
from django.db import Error, connection, transaction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def patience(settings):
    """A connection that was opened with little patience."""
    settings.ABANDONED_TRANSACTION_SECONDS = 1
    connection.close()
    yield settings.ABANDONED_TRANSACTION_SECONDS
    connection.close()


def test_every_connection_says_how_long_it_may_be_silent_in_a_transaction(patience):
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == (f"{patience}s",)


def test_no_connection_compiles_its_plans(patience):
    with connection.cursor() as cursor:
        cursor.execute("SHOW jit")
        assert cursor.fetchone() == ("off",)


def test_p3_a_transaction_that_nobody_goes_on_with_is_rolled_back(patience):
    def go_on():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    with pytest.raises(Error, match="idle-in-transaction timeout"), transaction.atomic():  # noqa: PT012
        go_on()
        server = connection.connection.pgconn.socket
        assert select.select([server], [], [], 30)[0], "PostgreSQL says that it has ended the connection"
        go_on()
