"""D14 in the batch: what meets an unexpected error is kept whole, of whatever kind, and harms nothing beside it."""

import json
from datetime import timedelta

import msgspec
import pytest
from django.db import connection

from checkins.messages import CheckInMessage, Problem, ProblemKind, RefusedCheckIn, Source
from checkins.models import CheckIn, ClientLossReport, ProcessingError, WaitingCheckIn
from checkins.processing import apply, retry
from checkins.processing.apply import receive
from checkins.processing.batch import take
from checkins.processing.limits import limits
from checkins.processing.problems import record_problems
from checkins.processing.retry import retry_failed, settle_parked
from checkins.processing.transitions import decide_checkin
from checkins.processing.waiting import restored, store_failed, store_failed_request
from checkins.protocols.request import IngestRequest, KnownSender
from lib.sql import REPEATED
from monitors.models import IngestKey, Monitor
from tests.factories import NOW, IngestKeyFactory, MonitorFactory
from tests.messages import make_config, make_message, run_id

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def key() -> IngestKey:
    return IngestKeyFactory()


def an_envelope(key, *items, path=None, user_agent="curl/8"):
    lines = ["{}", *(line for kind, payload in items for line in (f'{{"type": "{kind}"}}', payload))]
    body = "\n".join(lines).encode()
    return IngestRequest(
        method="POST",
        path=path or f"/api/{key.project_id}/envelope/",
        query=f"sentry_key={key.public_key}",
        headers={"user-agent": user_agent},
        body=body,
        body_bytes=len(body),
        received_at=NOW,
    )


LOSS = (
    "client_report",
    '{"discarded_events": [{"category": "monitor", "reason": "network_error", "quantity": 3}]}',
)
REFUSED = ("check_in", '{"monitor_slug": "nightly", "status": "asleep"}')
GOOD = ("check_in", f'{{"monitor_slug": "nightly", "status": "ok", "check_in_id": "{run_id(1).hex}"}}')


def broken(*_arguments, **_more):
    raise ZeroDivisionError("ours")


def test_d14_a_loss_report_that_meets_an_error_of_ours_is_kept_and_can_be_processed_again(key, monkeypatch):
    MonitorFactory(project=key.project, slug="nightly")
    with monkeypatch.context() as patch:
        patch.setattr(apply, "record_loss_reports", lambda reports, **_: reports and broken())
        [answer] = take([an_envelope(key, LOSS, GOOD)], now=NOW)
    assert answer.status == 200
    assert CheckIn.objects.count() == 1
    row = WaitingCheckIn.objects.get()
    assert (row.reason, row.message["type"], row.slug, row.environment) == ("failed", "LossReport", "", "")
    assert retry_failed([row.id], now=NOW) == (1, 0)
    assert ClientLossReport.objects.get().quantity == 3


def test_d14_a_refusal_that_meets_an_error_of_ours_is_kept_and_can_be_processed_again(key, monkeypatch):
    MonitorFactory(project=key.project, slug="nightly")

    def record(reports, *, now):
        record_problems((report if report.problem.field != "status" else broken() for report in reports), now=now)

    with monkeypatch.context() as patch:
        patch.setattr(apply, "record_problems", record)
        [answer] = take([an_envelope(key, REFUSED, GOOD)], now=NOW)
    assert answer.status == 200
    assert CheckIn.objects.count() == 1
    row = WaitingCheckIn.objects.get()
    assert (row.reason, row.message["type"], row.slug) == ("failed", "RefusedCheckIn", "nightly")
    assert row.message["fields"]["payload"] == {"monitor_slug": "nightly", "status": "asleep"}
    assert retry_failed([row.id], now=NOW) == (1, 0)
    assert ProcessingError.objects.get().field == "status"


def test_d14_what_postgresql_cannot_store_of_a_message_that_failed_is_replaced(key):
    problem = Problem(ProblemKind.CHECKIN_VALIDATION_FAILED, "status", "\x00", "it \ud800 takes")
    refused = RefusedCheckIn(
        project_id=key.project_id,
        slug="x" * 60 + "\x00",
        environment="\ud800" * 70,
        received_at=NOW,
        source=Source.REST,
        problems=(problem,),
        payload={"\x00": ["\udfff", 2**70]},
    )
    store_failed(refused, ValueError("\x00"))
    [again] = restored(WaitingCheckIn.objects.get(), limits())
    assert isinstance(again, RefusedCheckIn)
    assert again.payload == {"\ufffd": ["\ufffd", "integer of 71 bits"]}
    assert again.problems == (Problem(problem.kind, "status", "\ufffd", "it \ufffd takes"),)


def test_d14_a_request_that_cannot_be_decoded_may_hold_what_postgresql_cannot_store(key, monkeypatch):
    """Neither it nor its neighbours are lost for it."""
    monitor = MonitorFactory(project=key.project, slug="nightly")
    decode = "checkins.protocols.sentry.decode_checked"
    bad = an_envelope(key, GOOD, path=f"/\x00\ud800/api/{key.project_id}/envelope/", user_agent="a\x00\udfff")
    good = IngestRequest(
        method="GET", path=f"/ping/{monitor.guid}", query="", headers={}, body=b"", body_bytes=0, received_at=NOW
    )
    with monkeypatch.context() as patch:
        patch.setattr(decode, broken)
        answers = take([bad, good], now=NOW)
    assert [answer.status for answer in answers] == [400, 200]
    assert CheckIn.objects.count() == 1
    row = WaitingCheckIn.objects.get()
    assert (row.message["fields"]["path"], row.message["fields"]["headers"]) == (
        f"/\ufffd\ufffd/api/{key.project_id}/envelope/",
        {"user-agent": "a\ufffd\ufffd"},
    )
    assert retry_failed([row.id], now=NOW) == (1, 0)
    assert CheckIn.objects.filter(guid=run_id(1)).exists()


def test_d14_a_request_is_decoded_again_within_the_limits_of_the_settings(key, monkeypatch):
    MonitorFactory(project=key.project, slug="nightly")
    request = an_envelope(key, GOOD, GOOD, GOOD)
    store_failed_request(request, KnownSender(key.project_id), ValueError("7"))
    row = WaitingCheckIn.objects.get()
    [refused] = restored(row, msgspec.structs.replace(limits(), envelope_items_max=2))
    assert isinstance(refused, RefusedCheckIn)
    assert "more than 2 items" in refused.problems[0].message
    monkeypatch.setattr(retry, "limits", lambda: msgspec.structs.replace(limits(), checkin_bytes_max=10))
    assert retry_failed([row.id], now=NOW) == (1, 0)
    assert not CheckIn.objects.exists()
    assert ProcessingError.objects.get().count == 3


def a_creator(key, run=2):
    return make_message(
        "ok", project_id=key.project_id, at=NOW + SECOND, run=run, environment="staging", config=make_config()
    )


def cannot_decide(number):
    def decide(message, **facts):
        if message.check_in_id == run_id(number):
            raise ZeroDivisionError(f"run {number}")
        return decide_checkin(message, **facts)

    return decide


def test_d14_a_parked_check_in_that_meets_an_error_of_ours_fails_alone_and_its_monitor_is_created(key, monkeypatch):
    receive([make_message("ok", project_id=key.project_id, run=run) for run in (1, 3)], now=NOW)
    config = {"schedule": {"type": "crontab", "value": "* * * * *"}}
    creator = {"monitor_slug": "job", "status": "ok", "check_in_id": run_id(2).hex, "monitor_config": config}
    with monkeypatch.context() as patch:
        patch.setattr(apply, "decide_checkin", cannot_decide(1))
        [answer] = take([an_envelope(key, ("check_in", json.dumps(creator)))], now=NOW)
        assert answer.status == 200
        assert Monitor.objects.get().slug == "job"
        assert [run.guid for run in CheckIn.objects.all()] == [run_id(2)]
        assert settle_parked(now=NOW + SECOND) == 2
    assert {run.guid for run in CheckIn.objects.all()} == {run_id(2), run_id(3)}
    row = WaitingCheckIn.objects.get()
    assert (row.reason, row.error.endswith("ZeroDivisionError: run 1\n")) == ("failed", True)


def test_d14_a_parked_check_in_that_cannot_be_read_fails_alone_and_its_monitor_is_created(key):
    receive([make_message("ok", project_id=key.project_id, run=run) for run in (1, 3)], now=NOW)
    unreadable = WaitingCheckIn.objects.earliest("id")
    WaitingCheckIn.objects.filter(id=unreadable.id).update(message={"type": "CheckInMessage", "fields": {}})
    [outcome] = receive([a_creator(key)], now=NOW)
    assert (outcome.accepted, outcome.created) == (True, True)
    assert {run.guid for run in CheckIn.objects.all()} == {run_id(2), run_id(3)}
    unreadable.refresh_from_db()
    assert (unreadable.reason, "ValidationError" in unreadable.error) == ("failed", True)


def test_d14_a_parked_row_of_a_kind_that_does_not_wait_for_monitors_fails_alone(key):
    receive([make_message("ok", project_id=key.project_id, run=1)], now=NOW)
    row = WaitingCheckIn.objects.get()
    WaitingCheckIn.objects.update(
        message={
            "type": "LossReport",
            "fields": {
                "project_id": key.project_id,
                "reason": "x",
                "quantity": 1,
                "reported_at": None,
                "received_at": NOW.isoformat(),
                "source": "rest",
            },
        }
    )
    [outcome] = receive([a_creator(key)], now=NOW)
    assert outcome.created
    row.refresh_from_db()
    assert (row.reason, "does not wait for a monitor" in row.error) == ("failed", True)


def test_d14_a_creator_that_is_processed_again_is_not_held_up_by_what_is_parked_for_its_monitor(key, monkeypatch):
    receive([make_message("ok", project_id=key.project_id, run=1)], now=NOW)
    creator: CheckInMessage = a_creator(key)
    store_failed(creator, ValueError("7"))
    failed = WaitingCheckIn.objects.get(reason="failed")
    monkeypatch.setattr(apply, "decide_checkin", cannot_decide(1))
    assert retry_failed([failed.id], now=NOW) == (1, 0)
    assert [run.guid for run in CheckIn.objects.all()] == [run_id(2)]
    assert WaitingCheckIn.objects.get().reason == "monitor_unknown"


def test_postgresql_keeps_the_plans_of_statements_that_every_batch_needs(key):
    MonitorFactory(project=key.project, slug="nightly")
    for number in range(1, REPEATED + 2):
        message = f'{{"monitor_slug": "nightly", "status": "ok", "check_in_id": "{run_id(number).hex}"}}'
        take([an_envelope(key, ("check_in", message))], now=NOW)
    assert CheckIn.objects.count() == REPEATED + 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        kept = [statement for (statement,) in cursor.fetchall()]
    for part in ("INSERT INTO checkins_checkin", "FROM checkins_checkin AS c", "disabled_at, rules_since"):
        assert any(part in statement for statement in kept), part
    assert connection.connection.prepare_threshold is None
