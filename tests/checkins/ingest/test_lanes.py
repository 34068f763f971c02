"""D35 in the queue: what is heavy to read waits in a line of its own, by turns of those who send it."""

import gzip
import json
from typing import Any

import pytest

from checkins.ingest.lanes import HEAVY_MAX, Lanes, Waiting
from checkins.processing import batch as intake
from checkins.processing.batch import prepare
from checkins.processing.finding import Hints
from checkins.processing.reading import LIGHT_BYTES_MAX, UNKNOWN_WHILE_AWAY, Reading
from checkins.protocols.request import IngestRequest
from tests.factories import NOW, IngestKeyFactory

KEYS = ["a" * 32, "b" * 32]


def a_request(key: str, count: int = 1, *, padding: int = 0, encoding: str = "") -> IngestRequest:
    checkins = [{"monitor": f"job-{n}", "status": "ok", "x": "x" * (padding // count)} for n in range(count)]
    body = json.dumps(checkins).encode()
    body = gzip.compress(body) if encoding else body
    headers = {"authorization": f"Bearer {key}"} | ({"content-encoding": encoding} if encoding else {})
    return IngestRequest(
        method="POST",
        path="/api/v1/checkins",
        query="",
        headers=headers,
        body=body,
        body_bytes=len(body),
        received_at=NOW,
    )


def waiting(request: IngestRequest) -> Waiting:
    return Waiting(Reading(request), lambda _: None, 0.0)


@pytest.mark.parametrize(
    ("count", "fields", "is_heavy"),
    [
        (1, {}, False),
        (50, {}, False),
        (1, {"encoding": "gzip"}, False),
        (1, {"padding": LIGHT_BYTES_MAX}, True),
        (1, {"padding": LIGHT_BYTES_MAX, "encoding": "gzip"}, True),
        (300, {"encoding": "gzip"}, True),
    ],
)
def test_d35_a_request_is_heavy_by_what_it_becomes_and_not_by_what_was_sent(count: int, fields: Any, is_heavy: bool):
    assert Reading(a_request(KEYS[0], count, **fields)).is_heavy is is_heavy


def test_d35_light_requests_go_first_and_heavy_ones_by_turns_of_their_senders():
    lanes = Lanes()
    heavy = [waiting(a_request(KEYS[0], 300)) for _ in range(20)] + [waiting(a_request(KEYS[1], 300))]
    light = [waiting(a_request(KEYS[0])) for _ in range(3)]
    for one in (*heavy, *light):
        lanes.add(one)
    assert lanes.next(2) == light[:2]
    batch = lanes.next(2)
    assert batch[:2] == [heavy[0], heavy[20]], "the second sender does not wait for all of the first"
    assert len(batch) == HEAVY_MAX
    assert lanes.next(2) == light[2:], "what is light waits for one batch of what is heavy, and is in none of these"
    assert len(lanes) == 24 - 3 - len(batch)
    assert lanes.next(2, light_only=True) == []


def test_what_a_batch_has_no_room_for_goes_back_to_where_it_was():
    lanes = Lanes()
    all_of_them = [waiting(a_request(KEYS[n % 2], 300)) for n in range(4)]
    for one in all_of_them:
        lanes.add(one)
    batch = lanes.next(5)
    lanes.put_back(batch[1:])
    assert lanes.next(5) == batch[1:]
    assert len(lanes) == lanes.bytes == 0


def test_d35_what_is_heavy_comes_when_it_is_read():
    lanes = Lanes()
    heavy = [waiting(a_request(KEYS[n % 2], 300)) for n in range(4)]
    light = waiting(a_request(KEYS[0]))
    for one in (*heavy, light):
        lanes.add(one)
    assert lanes.next(5, read_only=True) == [light]
    assert lanes.next(5, read_only=True) == []
    assert lanes.unread() == heavy[:2], "the first of each sender"
    for one in heavy[:2]:
        one.reading.is_prepared = True
    assert lanes.unread() == []
    assert lanes.next(5, read_only=True) == heavy[:2]
    assert lanes.unread() == heavy[2:]
    assert lanes.next(5) == heavy[2:], "unless it goes to the spool"


@pytest.mark.django_db
def test_d35_a_batch_takes_as_many_requests_as_fit_a_number_of_messages(monkeypatch):
    key = IngestKeyFactory().public_key
    monkeypatch.setattr(intake, "BATCH_MESSAGES_MAX", 100)
    requests = [a_request(key, 40) for _ in range(10)]
    assert [len(reading.messages) for reading in prepare(requests, hints=Hints())] == [40, 40, 40]


@pytest.mark.django_db
def test_d35_a_batch_takes_as_many_requests_as_fit_a_number_of_unpacked_bytes(monkeypatch):
    key = IngestKeyFactory().public_key
    monkeypatch.setattr(intake, "BATCH_BYTES_MAX", 1_000_000)
    requests = [a_request(key, 20, padding=400_000, encoding="gzip") for _ in range(10)]
    assert sum(len(request.body) for request in requests) < 100_000
    assert len(prepare(requests, hints=Hints())) == 3


@pytest.mark.django_db
def test_d35_a_request_is_decoded_once_also_on_its_way_to_the_spool(monkeypatch):
    key = IngestKeyFactory().public_key
    reading = Reading(a_request(key, 300, encoding="gzip"))
    [prepared] = prepare([reading], hints=Hints())
    decoded = prepared.decoded
    assert reading.answer_unverified()[0]
    assert reading.decoded is decoded


def test_d35_while_postgresql_is_away_nothing_heavy_is_read_of_a_key_that_was_never_heard_of():
    reading = Reading(a_request(KEYS[0], 300, encoding="gzip"))
    assert reading.answer_unverified(is_known=False) == (False, UNKNOWN_WHILE_AWAY)
    assert reading.decoded is None
    is_kept, answer = Reading(a_request(KEYS[0])).answer_unverified(is_known=False)
    assert (is_kept, answer.status) == (True, 202)
