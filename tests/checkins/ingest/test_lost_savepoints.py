"""D36: Django hides that the connection is lost while it rolls back to a savepoint; no message is blamed for that."""

from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from django.db import Error, connection

from checkins.ingest.node import Node
from checkins.ingest.spool_directory import open_spool
from checkins.models import CheckIn, WaitingCheckIn
from checkins.nodes import register_node
from checkins.processing import apply
from checkins.processing.finding import Hints
from checkins.processing.transitions import decide_checkin
from lib.pg_errors import is_not_now, use_connection
from tests.checkins.ingest.test_batcher import make_request, ping
from tests.factories import NOW, MonitorEnvironmentFactory, MonitorFactory

pytestmark = pytest.mark.django_db(transaction=True)


class LosingConnection:
    """Ends the session of PostgreSQL just before a statement that begins so, after `skips` others. Once."""

    def __init__(self, begin: str, skips: int = 0) -> None:
        self.begin, self.skips, self.is_lost = begin, skips, False

    def __call__(self, execute, sql, params, many, context):
        if not self.is_lost and str(sql).startswith(self.begin):
            self.skips -= 1
            if self.skips < 0:
                self.is_lost = True
                pid = connection.connection.info.backend_pid
                database = connection.get_connection_params()
                names = ("dbname", "user", "password", "host", "port")
                with psycopg.connect(**{name: database[name] for name in names if name in database}) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        return execute(sql, params, many, context)


@pytest.fixture
def poison(monkeypatch) -> str:
    """The slug of a monitor whose check-ins meet an error of ours."""
    decide = decide_checkin

    def decide_or_raise(message, **facts):
        if message.slug == "poison":
            raise ZeroDivisionError("ours")
        return decide(message, **facts)

    monkeypatch.setattr(apply, "decide_checkin", decide_or_raise)
    return "poison"


def drain(node: Node, losing: LosingConnection) -> list[Error]:
    """Drain the spool of a node as the batcher does, and return the outages that it met."""
    outages: list[Error] = []
    with connection.execute_wrapper(losing):
        while node.spool.count:
            assert len(outages) < 5, "it is tried for ever"
            try:
                node.drain(NOW, count_max=500)
            except Error as error:
                if not is_not_now(error):
                    raise
                outages.append(error)
                connection.close()
    return outages


@pytest.mark.parametrize(
    ("begin", "skips"), [("ROLLBACK TO SAVEPOINT", 0), ("ROLLBACK TO SAVEPOINT", 3), ("RELEASE SAVEPOINT", 4)]
)
def test_d36_a_connection_lost_at_a_savepoint_blames_no_neighbour_of_a_poisoned_message(
    tmp_path: Path, poison, begin, skips
):
    monitors = [MonitorFactory(slug="nightly"), MonitorFactory(slug=poison)]
    for monitor in monitors:
        MonitorEnvironmentFactory(monitor=monitor)
    spool = open_spool(tmp_path, bytes_max=64 << 20)
    paths = [ping(monitors[number == 2], run=number) for number in range(4)]
    spool.append([(make_request(path, at=NOW), None) for path in paths])
    register_node(spool.node_id, watermark=NOW, now=NOW, host="web-1", pid=1)
    use_connection()
    losing = LosingConnection(begin, skips)

    outages = drain(Node(spool, spool_lock=nullcontext(), hints=Hints()), losing)

    spool.close()
    assert losing.is_lost
    assert len(outages) == 1
    assert CheckIn.objects.count() == 3
    [kept] = WaitingCheckIn.objects.all()
    assert (kept.slug, kept.reason) == (poison, "failed")
