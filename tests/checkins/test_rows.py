"""Runs as rows and as values: every column once, and nothing changes places."""

import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from checkins.messages import CheckInStatus, Source
from checkins.models import CheckIn
from checkins.processing.rows import RUNS, insert_checkins, load_by_guid, update_checkins
from checkins.processing.transitions import CheckInState
from lib.records import Record
from lib.sql import fetch_rows
from monitors.hot_rows import lock_environments
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

FILLED: dict[str, Any] = {
    "guid": uuid.UUID(int=1),
    "status": CheckInStatus.TIMEOUT,
    "date_added": NOW,
    "date_updated": NOW + timedelta(seconds=1),
    "received_at": NOW + timedelta(seconds=2),
    "source": Source.REST,
    "date_in_progress": NOW + timedelta(seconds=3),
    "expected_time": NOW + timedelta(seconds=4),
    "timeout_at": None,
    "duration_ms": 5,
    "trace_id": uuid.UUID(int=6),
    "exit_status": 7,
    "repeat_key": uuid.UUID(int=8),
    "failed_at": NOW + timedelta(seconds=9),
    "folded_count": 10,
    "unknown_because": None,
    "finished_status": CheckInStatus.ERROR,
    "finished_at": NOW + timedelta(seconds=11),
}
UNFINISHED = {"finished_status": None, "finished_at": None, "failed_at": None}


def stored(environment, **fields):
    run = CheckInState(id=None, environment_id=environment.id, **{**FILLED, **fields})
    locked = lock_environments([environment.id])[environment.id]
    [id_] = insert_checkins([(locked, run)]).values()
    return msgspec.structs.replace(run, id=id_)


def found(environment, run):
    key = environment.monitor.project_id, run.guid
    return load_by_guid([key], since=NOW)[key]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"status": CheckInStatus.IN_PROGRESS, "timeout_at": NOW, **UNFINISHED},
        {"status": CheckInStatus.UNKNOWN, "unknown_because": "disabled", **UNFINISHED},
        {"exit_status": None},
        {"exit_status": -9},
        {"exit_status": 3_221_225_786},
    ],
)
def test_what_is_written_is_what_is_read(fields):
    environment = factories.MonitorEnvironmentFactory()
    run = stored(environment, **fields)
    assert found(environment, run) == run


def test_what_may_change_of_a_run_is_written_and_nothing_else():
    environment = factories.MonitorEnvironmentFactory()
    run = stored(environment)
    changed = msgspec.structs.replace(
        run, status=CheckInStatus.OK, finished_status=None, finished_at=None, trace_id=None
    )
    update_checkins([msgspec.structs.replace(changed, source=Source.CLOCK, expected_time=None)])
    assert found(environment, run) == changed


def test_columns_have_the_types_of_the_database():
    types = dict(
        fetch_rows(
            "SELECT column_name, udt_name::regtype::text FROM information_schema.columns WHERE table_name = %s",
            [RUNS.table],
        )
    )
    cast = {"timestamptz": "timestamp with time zone", "text": "character varying"}
    assert {column: cast.get(kind, kind) for column, kind in RUNS.types.items()} == {
        column: types[column] for column in RUNS.types
    }


def test_a_field_without_a_column_is_refused_at_once():
    class Strange(msgspec.Struct):
        guid: uuid.UUID
        nowhere: int

    with pytest.raises(KeyError, match="nowhere"):
        Record(Strange, CheckIn)


def test_a_part_of_a_record_can_only_be_written():
    part = RUNS.except_for("guid")
    row = part.values(CheckInState(id=1, environment_id=2, **FILLED))
    with pytest.raises(TypeError, match="can be loaded"):
        part.load(row)
