"""What is in the broker's queue and no message of ours is dropped, and what comes behind it arrives."""

import json
import uuid
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from kombu import Connection, Queue

from project.celery import app as celery_app

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def queue(engines: None) -> Iterator[str]:
    name = f"test-{uuid.uuid4()}"
    yield name
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(name, f"_kombu.binding.{name}")


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param("rubbish", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param("17", id="a number"),
        pytest.param('{"body": "x"}', id="no properties"),
        pytest.param(json.dumps({"body": "e30=", "properties": {"delivery_tag": 1}}), id="half of the properties"),
        pytest.param(DEEP, id="nested 100,000 deep"),
        pytest.param(json.dumps({"body": {}, "headers": None, "properties": []}), id="other types"),
    ],
)
def test_rubbish_in_the_queue_is_dropped_with_a_line_and_the_next_message_arrives(queue, rubbish, caplog):
    arrived = []
    with redis.Redis.from_url(settings.REDIS_URL) as client, Connection(celery_app.conf.broker_url) as broker:
        client.lpush(queue, rubbish)
        broker.SimpleQueue(queue).put({"good": True})

        def take(body, message):
            arrived.append(body)
            message.ack()

        with broker.Consumer(Queue(queue, routing_key=queue), callbacks=[take]):
            while not arrived:
                broker.drain_events(timeout=20)

        assert arrived == [{"good": True}]
        assert "cannot be read, and is dropped" in caplog.text
        assert client.llen(queue) == 0
