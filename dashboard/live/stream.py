"""`/events`: server-sent events for people who are logged in (shell).

Outside Django's handlers, which would keep a thread and a connection to the database for each viewer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any

import django.db
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, QueryDict

from dashboard.live.hub import Hub
from dashboard.login.factors import lacks_second_factor

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[Any], Awaitable[None]]

PATH = "/events"
STREAMS_MAX = 2_000
STREAMS_PER_PERSON_MAX = 20
LIFE_SECONDS = 1_800.0
"""A stream ends after this; the browser opens another one, with the last mark that it got."""
RETRY_MILLISECONDS = 3_000
MARK_CHARACTERS_MAX = 100


class Streams:
    """All streams of a process. `user_of` returns who has the session of a cookie header, by the database."""

    def __init__(self, hub: Hub, *, user_of: "Callable[[bytes], int | None] | None" = None) -> None:
        self._hub = hub
        self._user_of = user_of or person_with_session
        self._thread = ThreadPoolExecutor(2, thread_name_prefix="live-session")
        self._by_person: Counter[int] = Counter()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for `PATH`: events until the browser goes or the stream has lived long enough."""
        headers = dict(scope["headers"])
        if scope["method"] != "GET":
            await _refuse(send, 405, "use GET")
            return
        person = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._user_of, headers.get(b"cookie", b"")
        )
        if person is None:
            # Not 401: a browser would ask again for ever. 204 ends an event source.
            await _refuse(send, 204, "")
            return
        if self._by_person.total() >= STREAMS_MAX or self._by_person[person] >= STREAMS_PER_PERSON_MAX:
            await _refuse(send, 204, "")
            return
        self._by_person[person] += 1
        try:
            await self._stream(_last_mark(headers, scope["query_string"]), receive, send)
        finally:
            self._by_person[person] -= 1
            self._by_person += Counter()  # Drops people without streams.

    async def _stream(self, last: str, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _write(send, f"retry: {RETRY_MILLISECONDS}\n\n")
        gone = asyncio.create_task(_wait_until_gone(receive))
        writing = asyncio.create_task(self._write_events(last, send))
        done, pending = await asyncio.wait({gone, writing}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if writing in done and writing.exception() is None:
            await send({"type": "http.response.body", "body": b""})

    async def _write_events(self, last: str, send: Send) -> None:
        ends_at = time.monotonic() + LIFE_SECONDS
        async with aclosing(self._hub.marks(last)) as marks:
            async for mark in marks:
                await _write(send, f"id: {mark}\ndata: {mark}\n\n" if mark else ": still here\n\n")
                if time.monotonic() > ends_at:
                    return

    async def stop(self) -> None:
        """End what is shared by the streams."""
        await self._hub.stop()
        self._thread.shutdown(wait=False)


_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def _last_mark(headers: Mapping[bytes, bytes], query: bytes) -> str:
    """Return the mark that the viewer has: that of the last event, or that of the page."""
    last = headers.get(b"last-event-id", b"").decode("ascii", "replace")
    return (last or QueryDict(query).get("since", ""))[:MARK_CHARACTERS_MAX]


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def person_with_session(cookies: bytes) -> int | None:
    """Return the id of the person whose session these cookies name; None if there is none, or no database."""
    parsed: SimpleCookie = SimpleCookie()
    with suppress(CookieError):
        parsed.load(cookies.decode("latin-1"))
    if settings.SESSION_COOKIE_NAME not in parsed:
        return None
    request = HttpRequest()
    request.session = SessionStore(parsed[settings.SESSION_COOKIE_NAME].value)
    try:
        user = get_user(request)
        request.user = user
        return user.pk if user.is_active and not lacks_second_factor(request) else None
    except (django.db.Error, ValueError):  # The latter for a key that no database could hold.
        return None
    finally:
        django.db.connection.close()
