"""The edge of ingest: a thin ASGI application that reads a request within limits, queues it, and sends the answer.

Nothing of Django's request handling runs here: it would cost more than all the rest of a check-in. Clients do not
retry, they lose: so no redirect, no 429 and no 5xx for anything that can be kept, and a body that is late, cut off or
too large is read as far as it came, for its protocol to say what that means.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from django.conf import settings

from checkins.intake import BUSY, NO_ADDRESS
from checkins.limits import limits
from checkins.protocols.request import HEADERS_READ, Answer
from checkins.protocols.routes import find_route
from checkins.relay import RawRequest, Store

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[Any], Awaitable[None]]

FIRST_SEGMENTS = frozenset({"api", "ping", "p"})
CORS_HEADERS = ((b"access-control-allow-origin", b"*"),)
PREFLIGHT_HEADERS = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, Content-Encoding, Content-Type, X-Sentry-Auth"),
    (b"access-control-max-age", b"86400"),
)
_NAMES_READ = {name.encode(): name for name in HEADERS_READ}


def is_ingest_path(path: str) -> bool:
    """Tell whether a path belongs to ingest; a DSN may have any path before Sentry's own."""
    return path[1:].partition("/")[0] in FIRST_SEGMENTS or path.endswith(("/envelope/", "/envelope"))


async def ingest(store: Store, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request of an ingest path."""
    method: str = scope["method"]
    path = _valid_text(scope["path"])
    found = find_route(path)
    if method == "OPTIONS":
        answer = Answer(HTTPStatus.NO_CONTENT, headers=PREFLIGHT_HEADERS)
    elif found is None:
        answer = NO_ADDRESS
    elif found[0].methods is not None and method not in found[0].methods:
        answer = _wrong_method(found[0].methods)
    else:
        answer = await _take(store, scope, path, receive, keeps_tail=found[0].keeps_tail)
    body = b"" if method == "HEAD" else answer.body
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode()), *CORS_HEADERS]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _valid_text(text: str) -> str:
    """Return a text that can be stored and passed on, whatever a server makes of percent-encoded bytes.

    granian puts U+FFFD for what is not UTF-8; others may decode it to lone surrogates, which nothing can encode.
    """
    return text if text.isascii() else text.encode(errors="replace").decode()


async def _take(store: Store, scope: Scope, path: str, receive: Receive, *, keeps_tail: bool) -> Answer:
    """Read a request as far as it comes, within the limits, and have it stored."""
    headers: dict[str, str] = {}
    has_body = False
    for name, value in scope["headers"]:
        known = _NAMES_READ.get(name)
        if known is not None:
            headers[known] = value.decode("latin-1")
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            has_body = True
    request = RawRequest(
        number=0,
        method=scope["method"],
        path=path,
        query=scope["query_string"].decode("utf-8", "replace"),
        headers=headers,
        body=b"",
        body_bytes=0,
    )
    if not has_body:
        return await store.submit(request)
    body = _Body(store, kept_max=limits().log_bytes_max if keeps_tail else limits().body_bytes_max, tail=keeps_tail)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.INGEST_BODY_SECONDS):
                await body.read(receive)
        if body.was_too_much:
            return BUSY
        request.body, request.body_bytes = body.kept(), body.size
        return await store.submit(request)
    finally:
        body.release()


class _Body:
    """A body on its way in: its size, and of one that is too large the last part or nothing, as the protocol has it.

    All bodies that a process holds at once are bounded too (`Store.held_bytes_max`): while there are so many, one more
    is refused.
    """

    def __init__(self, store: Store, *, kept_max: int, tail: bool) -> None:
        self.size = 0
        self.was_too_much = False
        self._store = store
        self._kept_max = kept_max
        self._tail = tail
        self._kept = bytearray()
        self._held = 0

    async def read(self, receive: Receive) -> None:
        """Read on to the end, or until the client is gone: what it has said still counts.

        Also what is not kept: a client that cannot finish sending does not listen.
        """
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            self._add(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def kept(self) -> bytes:
        """Return what is kept of it."""
        return bytes(self._kept[-self._kept_max :] if self._tail and self.size > self._kept_max else self._kept)

    def release(self) -> None:
        """Say that it is not held any more."""
        self._store.held_bytes -= self._held
        self._held = 0

    def _add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.was_too_much or (self.size > self._kept_max and not self._tail):
            self._kept.clear()
        else:
            self._kept += chunk
            if len(self._kept) > 2 * self._kept_max:
                del self._kept[: -self._kept_max or None]
        self._store.held_bytes += len(self._kept) - self._held
        self._held = len(self._kept)
        if self._store.held_bytes > self._store.held_bytes_max:
            self.was_too_much = True
            self._kept.clear()
            self.release()


def _wrong_method(allowed: frozenset[str]) -> Answer:
    names = ", ".join(sorted(allowed))
    return Answer(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f'{{"detail": "use {names}"}}'.encode(),
        ((b"allow", f"{names}, OPTIONS".encode()), (b"content-type", b"application/json")),
    )
