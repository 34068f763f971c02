"""A client for the ingest endpoints that needs no server: the edge and the intake, in the test's transaction."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from checkins.ingest.edge import ingest
from checkins.ingest.patience import Patience
from checkins.ingest.room import Room
from checkins.ingest.wire import RawRequest
from checkins.processing.batch import take
from checkins.protocols.request import Answer, IngestRequest
from lib.wallclock import utcnow


class Submitted(Exception):  # noqa: N818 - nothing is wrong
    """The edge has read a request."""

    def __init__(self, request: IngestRequest) -> None:
        self.request = request


class Batcher:
    """In the place of the batcher: gives the answer that it was made with, and without one hands the request over."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.room = Room(settings.INGEST_QUEUE_BYTES_MAX)
        self.patience = Patience()
        self.is_known: bool | None = True

    async def submit(self, raw: RawRequest) -> Answer:
        if self.answer is not None:
            return self.answer
        fields = {name: value for name, value in msgspec.structs.asdict(raw).items() if name != "number"}
        raise Submitted(IngestRequest(**fields, received_at=utcnow()))

    async def knows(self, raw: RawRequest) -> bool | None:
        return self.is_known


class IngestClient(Client):
    """Django's test client with its ways to say a request, in front of the ingest application."""

    def request(self, **request: Any) -> Any:
        environ = self._base_environ(**request)  # type: ignore[attr-defined]
        body = environ["wsgi.input"].read() if "wsgi.input" in environ else b""
        headers = [
            (name[5:].replace("_", "-").lower().encode(), str(value).encode("utf-8"))
            for name, value in environ.items()
            if name.startswith("HTTP_") and name != "HTTP_COOKIE"
        ]
        headers += [
            (name.encode(), str(environ[variable]).encode())
            for name, variable in (("content-type", "CONTENT_TYPE"), ("content-length", "CONTENT_LENGTH"))
            if environ.get(variable)
        ]
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8")
        query = environ.get("QUERY_STRING", "").encode("latin-1")
        scope = scope_of(environ["REQUEST_METHOD"], path, query, headers)
        start, body = send(scope, body)
        response = HttpResponse(body, status=start["status"])
        del response["Content-Type"]
        for name, value in start["headers"]:
            response[name.decode()] = value.decode()
        return response


def scope_of(method: str, path: str, query: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    """Return the ASGI scope of a request."""
    return {"type": "http", "method": method, "path": path, "query_string": query, "headers": list(headers)}


def send(scope: dict[str, Any], *chunks: bytes, end: str = "complete") -> tuple[dict[str, Any], bytes]:
    """Send one request whose body comes in these chunks, and return how the answer starts, and its body.

    The body may `end` "complete", with the connection ("cut"), or never ("silence").

    The request is applied between two runs of the edge: an event loop would have another database connection.
    """
    try:
        return run_edge(Batcher(), scope, chunks, end)
    except Submitted as submitted:
        [answer] = take([submitted.request], now=utcnow())
        return run_edge(Batcher(answer), scope, chunks, end)


def run_edge(
    batcher: Batcher, scope: dict[str, Any], chunks: Sequence[bytes], end: str
) -> tuple[dict[str, Any], bytes]:
    """Run the edge alone, as `send`. Raises Submitted if the batcher has no answer and the edge wants one."""
    sent: list[Any] = []
    messages: list[Any] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        if end == "silence":
            await asyncio.Event().wait()
        if end == "cut":
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def answer(message: Any) -> None:
        sent.append(message)

    asyncio.run(ingest(batcher, scope, receive, answer))
    return sent[0], sent[1]["body"]
