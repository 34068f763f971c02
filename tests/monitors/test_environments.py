"""Writing locked rows: what differs from what is stored, and nothing else."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from msgspec.structs import replace

from monitors.hot_rows import lock_environments, save_environments
from monitors.models import MonitorEnvironment
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(hours=1)


def locked(*rows):
    return list(lock_environments([row.id for row in rows]).values())


def statements(environments):
    with CaptureQueriesContext(connection) as captured:
        save_environments(environments)
    return [query["sql"] for query in captured]


def test_what_differs_in_any_row_is_written_in_one_statement():
    one, other, still = factories.MonitorEnvironmentFactory.create_batch(3)
    environments = locked(one, other, still)
    environments[0].state = replace(environments[0].state, last_checkin=LATER)
    environments[1].state = replace(environments[1].state, ok_streak=7)

    [statement] = statements(environments)

    assert "limit_count" not in statement
    assert [(each.last_checkin, each.ok_streak) for each in MonitorEnvironment.objects.order_by("id")] == [
        (LATER, one.ok_streak),
        (other.last_checkin, 7),
        (still.last_checkin, still.ok_streak),
    ]


def test_nothing_is_written_where_nothing_differs_also_when_saved_again():
    [environment] = locked(factories.MonitorEnvironmentFactory())
    assert statements([environment]) == []

    environment.state = replace(environment.state, last_checkin=LATER)
    assert len(statements([environment])) == 1
    assert statements([environment]) == []

    environment.state = replace(environment.state, last_checkin=LATER + timedelta(minutes=1))
    assert len(statements([environment])) == 1
    assert MonitorEnvironment.objects.get().last_checkin == LATER + timedelta(minutes=1)


@pytest.mark.parametrize("column", ["served_ahead", "spans"])
def test_d37_what_a_hand_wrote_and_nobody_can_read_is_replaced_at_the_next_decision(column):
    row = factories.MonitorEnvironmentFactory(
        pending_slot=NOW,
        next_checkin=NOW,
        next_checkin_latest=NOW + timedelta(minutes=1),
        anchor_at=None,
        anchor_day=None,
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE monitors_monitorenvironment SET {column} = '\"rubbish\"'")  # noqa: S608
    [environment] = locked(row)
    environment.state = replace(environment.state, ok_streak=environment.state.ok_streak + 1)

    save_environments([environment])

    row.refresh_from_db()
    assert getattr(row, column) is None
