"""The edge of ingest: a thin ASGI application that reads a request within limits, queues it, and sends the answer.

Nothing of Django's request handling runs here: it would cost more than all the rest of a check-in. Clients do not
retry, they lose: so no redirect, no 429 and no 5xx for anything that can be stored, and a body that is late, cut off or
too large is used as far as it was received, as its protocol defines.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from django.conf import settings

from checkins.exceptions import BodyTooLargeError, IngestError, UnknownKeyError
from checkins.ingest.relay import Store
from checkins.ingest.room import SMALL_BYTES_MAX, Place
from checkins.ingest.wire import RawRequest, as_request
from checkins.processing.limits import limits
from checkins.processing.reading import BUSY, NO_ADDRESS, UNKNOWN_WHILE_AWAY
from checkins.protocols.request import HEADERS_READ, Answer, Protocol
from checkins.protocols.routes import find_protocol, find_route

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[Any], Awaitable[None]]

CORS_HEADERS = ((b"access-control-allow-origin", b"*"),)
PREFLIGHT_HEADERS = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, Content-Encoding, Content-Type, X-Sentry-Auth"),
    (b"access-control-max-age", b"86400"),
)
NEVER = datetime.min.replace(tzinfo=UTC)
"""When a request was received that is not there as a whole yet."""
_NAMES_READ = {name.encode(): name for name in HEADERS_READ}


async def ingest(store: Store, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request of an ingest path."""
    method: str = scope["method"]
    path = _valid_text(scope["path"])
    protocol = find_protocol(path)
    if method == "OPTIONS":
        answer = Answer(HTTPStatus.NO_CONTENT, headers=PREFLIGHT_HEADERS)
    elif protocol is None:
        answer = NO_ADDRESS
    elif protocol.methods is not None and method not in protocol.methods:
        answer = _wrong_method(protocol.methods)
    else:
        answer = await _take(store, scope, path, receive, protocol)
    body = b"" if method == "HEAD" else answer.body
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode()), *CORS_HEADERS]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _valid_text(text: str) -> str:
    """Return a text that can be stored and passed on, whatever a server makes of percent-encoded bytes.

    granian puts U+FFFD for what is not UTF-8; others may decode it to lone surrogates, which nothing can encode.
    """
    return text if text.isascii() else text.encode(errors="replace").decode()


async def _take(store: Store, scope: Scope, path: str, receive: Receive, protocol: Protocol) -> Answer:
    """Read a request as far as it is sent, within the limits, and submit it."""
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
    body = _Body(store, request, protocol)
    try:
        await store.patience.wait(body.read(receive), settings.INGEST_BODY_SECONDS)
        body.complete()
        if body.refusal is not None:
            return body.refusal
        return await store.submit(request)
    finally:
        body.release()


class _Body:
    """A body being received: its size, and its bytes. If it is too large, its last part or nothing, by protocol.

    Before more than `SMALL_BYTES_MAX` of it are held its sender has to be known, without reading the body (D35).
    `refusal`: there is no room for it, or its sender is not known. It is read to the end all the same: a client that
    cannot finish sending does not read the answer.
    """

    def __init__(self, store: Store, request: RawRequest, protocol: Protocol) -> None:
        self.refusal: Answer | None = None
        self._store = store
        self._request = request
        self._protocol = protocol
        self._tail = protocol.keeps_tail
        self._kept_max = limits().log_bytes_max if self._tail else limits().body_bytes_max
        self._place = Place()
        self._size = 0

    async def read(self, receive: Receive) -> None:
        """Read to the end, or until the client is gone: what it sent still counts."""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            self._add(message.get("body", b""))
            if self.refusal is None and len(self._place.kept) > SMALL_BYTES_MAX and self._place.sender is None:
                await self._look_up_sender()
            if not message.get("more_body", False):
                return

    def complete(self) -> None:
        """Put the body into the request, unless it has lost its place since its last part."""
        if self._place.is_lost and self.refusal is None:
            self._refuse(BUSY)
        if self.refusal is not None:
            return
        self._place.is_complete = True
        kept, self._place.kept = self._place.kept, bytearray()  # Not held twice while it waits to be stored.
        if self._tail and self._size > self._kept_max:
            kept = kept[-self._kept_max :]
        self._request.body, self._request.body_bytes = bytes(kept), self._size

    def release(self) -> None:
        """Release its room."""
        self._store.room.release(self._place)

    def _add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self.refusal is not None or (self._size > self._kept_max and not self._tail):
            self._place.kept.clear()
        else:
            self._place.kept += chunk
            if len(self._place.kept) > 2 * self._kept_max:
                del self._place.kept[: -self._kept_max or None]
        # More than a small body has no place before its sender is known, which is looked up next.
        held = len(self._place.kept)
        if self._place.sender is None:
            held = min(held, SMALL_BYTES_MAX)
        if not self._store.room.resize(self._place, held) and self.refusal is None:
            self._refuse(BUSY)

    async def _look_up_sender(self) -> None:
        """Look up the sender of a body that is not small, without reading the body."""
        try:
            sender = self._protocol.identify(as_request(self._request, NEVER), self._address(), limits())
        except IngestError as error:
            self._refuse(self._too_large(str(error)))
            return
        is_known = await self._store.knows(self._request)
        if is_known:
            self._place.sender = sender
            if not self._store.room.resize(self._place, len(self._place.kept)):
                self._refuse(BUSY)
        elif is_known is False:
            self._refuse(self._protocol.refuse(UnknownKeyError("the key is not an active key of this project")))
        elif self._tail:
            self._kept_max = SMALL_BYTES_MAX // 2  # The ping counts; the last part of its body is stored.
            del self._place.kept[: -self._kept_max]
            self._place.sender = None
            self._store.room.resize(self._place, len(self._place.kept))
        else:
            self._refuse(UNKNOWN_WHILE_AWAY)

    def _address(self) -> dict[str, str]:
        found = find_route(self._request.path)
        return {} if found is None else found[1]

    def _too_large(self, why: str) -> Answer:
        return self._protocol.refuse(
            BodyTooLargeError(
                f"a request whose sender is named only in its body may have at most {SMALL_BYTES_MAX} bytes ({why})"
            )
        )

    def _refuse(self, answer: Answer) -> None:
        self.refusal = answer
        self._place.kept.clear()
        self.release()


def _wrong_method(allowed: frozenset[str]) -> Answer:
    names = ", ".join(sorted(allowed))
    return Answer(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f'{{"detail": "use {names}"}}'.encode(),
        ((b"allow", f"{names}, OPTIONS".encode()), (b"content-type", b"application/json")),
    )
