"""The bodies of requests to pages. Forms are small; Django writes all that comes to the disk before it looks at it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from checkins.ingest.edge import Receive, Scope, Send

Page = Callable[[Scope, Receive, Send], Awaitable[None]]


async def with_bounded_body(page: Page, scope: Scope, receive: Receive, send: Send, *, bytes_max: int) -> None:
    """Serve a request, or answer 413 as soon as its body is known to be larger than so many bytes."""
    if _announced_length(scope) > bytes_max:
        await _refuse(send, bytes_max)
        return
    count = 0

    async def receive_bounded() -> MutableMapping[str, Any]:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        # Without a length nobody knows before. Django drops a request whose sender is gone, and answers nothing.
        return {"type": "http.disconnect"} if count > bytes_max else message

    await page(scope, receive_bounded, send)
    if count > bytes_max:
        await _refuse(send, bytes_max)


def _announced_length(scope: Scope) -> int:
    text = dict(scope["headers"]).get(b"content-length", b"")
    return int(text) if text.isdigit() else 0


async def _refuse(send: Send, bytes_max: int) -> None:
    body = f"The body is too large: it may have {bytes_max:,} bytes.\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
