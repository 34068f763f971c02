"""Whoever sends more than a form is refused before it is written to the disk."""

import asyncio

from django.core.asgi import get_asgi_application

from project.bodies import with_bounded_body

PIECE = b"x" * 1_000


def answer(pieces, *, length=None, bytes_max=2_500):
    """Send pieces to Django, and return the status and how many were read."""
    sent: list[dict] = []
    read: list[bytes] = []
    headers = [(b"host", b"localhost"), *([(b"content-length", str(length).encode())] if length is not None else [])]
    scope = {"type": "http", "method": "POST", "path": "/no-such-page", "headers": headers, "query_string": b""}

    async def receive():
        if len(read) == len(pieces):
            await asyncio.Event().wait()  # The sender waits for the answer.
        read.append(pieces[len(read)])
        return {"type": "http.request", "body": read[-1], "more_body": len(read) < len(pieces)}

    async def send(message):
        sent.append(message)

    asyncio.run(with_bounded_body(get_asgi_application(), scope, receive, send, bytes_max=bytes_max))
    assert [message["type"] for message in sent][:1] == ["http.response.start"]
    return sent[0]["status"], len(read)


def test_a_body_of_the_size_of_a_form_is_read():
    assert answer([PIECE, PIECE], length=2_000) == (404, 2)


def test_a_larger_one_is_refused_before_anything_is_read():
    assert answer([PIECE] * 3, length=3_000) == (413, 0)


def test_one_without_a_length_is_refused_where_it_becomes_too_large():
    assert answer([PIECE] * 100) == (413, 3)
