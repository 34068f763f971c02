"""The receivers of the delivery drill, with real connections."""

import random
import socket

import pytest

from drills.delivery.faults import Manner
from drills.notify_receivers import Place, Receivers, listening

REQUEST = b"POST /1/hook HTTP/1.1\r\nHost: drill\r\nwebhook-id: key\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def receivers():
    places = {"1": Place("slack", only=Manner.APPLIES_LATE, slow_left=1), "2": Place("slack")}
    one = Receivers(places, random.Random(1), are_well=False)  # noqa: S311 - repeatable
    with listening(one):
        yield one


def test_what_is_applied_late_is_applied_before_anything_that_is_sent_after_the_sender_gave_up(receivers):
    address = ("127.0.0.1", receivers.http_port)
    with socket.create_connection(address) as late:
        late.sendall(REQUEST)
        assert _answer(address, b"2").startswith(b"HTTP/1.1 200")
    assert _answer(address, b"2").startswith(b"HTTP/1.1 200")

    assert [one.recipient for one in receivers.received] == ["2", "1", "2"]
    assert all(one.is_applied for one in receivers.received)


def _answer(address, recipient):
    with socket.create_connection(address) as connection:
        connection.sendall(REQUEST.replace(b"/1/", b"/" + recipient + b"/"))
        return connection.recv(100)
