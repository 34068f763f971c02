"""The exchange of a message with its receiver: all network I/O of the channels over HTTP (shell).

Only the delivery process imports this module: aiohttp takes memory that no other process needs.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
from django.conf import settings

from incidents.notifications import guard
from incidents.notifications.channels import apprise
from incidents.notifications.channels.base import (
    ANSWER_BYTES_MAX,
    EXCERPT_LENGTH_MAX,
    Answer,
    Request,
    SendResult,
    SendResultKind,
    host_of,
)
from incidents.notifications.channels.redaction import redact

logger = logging.getLogger(__name__)

DEADLINE = timedelta(seconds=15)
"""For all requests of a message together, from the look-up of the name to the end of the answer."""
APPRISE_DEADLINE = timedelta(seconds=30)
"""Longer than Apprise gives a service, so that its own result is known."""
Classify = Callable[[Request, Answer], SendResult]
_NONE = Request(method="", url="", headers={}, body=b"")


def open_session(allowed_networks: Sequence[guard.Network]) -> aiohttp.ClientSession:
    """Return a session for `send`, in a running event loop; close it in the same loop.

    It connects to public addresses and allowed networks only, and nothing is kept from one request to the next. With
    NOTIFY_PROXY it connects to the proxy only, wherever that is: which receivers may be reached is the proxy's matter.
    """
    proxy = settings.NOTIFY_PROXY or None

    def open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        # Called for each attempt with the address itself, also for one that the user wrote as a number.
        family, type_, protocol, _, where = address
        if proxy is None:
            guard.judge(where[0], allowed_networks)
        if not guard.may_be_reached(where[0]):
            _current.get().is_inside = True
        return socket.socket(family, type_, protocol)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(_note_connection)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            socket_factory=open_socket, force_close=True, use_dns_cache=False, ttl_dns_cache=0, limit=0
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        proxy=proxy,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        headers={"User-Agent": settings.USER_AGENT, "Accept-Encoding": "identity"},
        trace_configs=[tracing],
    )


async def send(
    requests: Iterable[Request],
    *,
    classify: Classify,
    session: aiohttp.ClientSession,
    deadline: timedelta | None = None,
) -> SendResult:
    """Send the requests of a message one after the other, until one is not delivered; never raises but for cancelling.

    The outcome is that of the last request sent, with the first external reference that came back.
    """
    requests = tuple(requests)
    if deadline is None:
        deadline = APPRISE_DEADLINE if any(one.method == apprise.METHOD for one in requests) else DEADLINE
    result = SendResult(kind=SendResultKind.DELIVERED)
    attempt = _Attempt(_NONE)
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            for request in requests:
                attempt = _Attempt(request)
                _current.set(attempt)
                await _ask(session, request, attempt)
                result = _joined(result, _read(classify, attempt))
                if result.kind is not SendResultKind.DELIVERED:
                    break
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns one message only
        found = _read(classify, attempt) if attempt.status else _failed(error, attempt, deadline)
        result = _joined(result, found)
    secrets = attempt.request.secrets
    shown = redact(result.excerpt, secrets)[:EXCERPT_LENGTH_MAX]
    return msgspec.structs.replace(result, excerpt=shown, is_inside=attempt.is_inside)


@dataclass
class _Attempt:
    """How far a request has come."""

    request: Request
    is_connected: bool = False
    is_inside: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def answer(self) -> Answer:
        return Answer(status=self.status, headers=self.headers, body=bytes(self.body[:ANSWER_BYTES_MAX]))


_current: ContextVar[_Attempt] = ContextVar("current")
"""The attempt of this task, for the connector: it opens sockets in tasks of its own, which copy the context."""


async def _ask(session: aiohttp.ClientSession, request: Request, attempt: _Attempt) -> None:
    """Send one request, and note the answer as it comes: its status counts even if the rest never arrives."""
    if request.method == apprise.METHOD:
        from incidents.notifications import apprise_process

        attempt.is_connected = True  # A message that is not finished may have been sent.
        answer = await apprise_process.ask(request)
        attempt.status, attempt.body = answer.status, bytearray(answer.body)
        return
    async with session.request(
        request.method,
        request.url,
        headers=request.headers,
        data=request.body,
        allow_redirects=False,
        trace_request_ctx=attempt,
    ) as response:
        attempt.status = response.status
        attempt.headers = {name.lower(): text for name, text in response.headers.items()}
        while len(attempt.body) < ANSWER_BYTES_MAX:
            part = await response.content.read(ANSWER_BYTES_MAX - len(attempt.body))
            if not part:
                break
            attempt.body += part
        response.close()


async def _note_connection(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: aiohttp.TraceConnectionCreateEndParams
) -> None:
    context.trace_request_ctx.is_connected = True


def _read(classify: Classify, attempt: _Attempt) -> SendResult:
    try:
        return classify(attempt.request, attempt.answer())
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns one message only
        # Neither its words nor its traceback are logged: they may contain the answer, and the answer a secret.
        words = f"an unexpected error: {type(error).__name__}"
        logger.error("an answer of %s cannot be read: %s", host_of(attempt.request.url), words)
        return SendResult(kind=SendResultKind.UNKNOWN, excerpt=words)


def _joined(earlier: SendResult, later: SendResult) -> SendResult:
    return msgspec.structs.replace(later, external_ref=earlier.external_ref or later.external_ref)


def _failed(error: Exception, attempt: _Attempt, deadline: timedelta) -> SendResult:
    """Return what became of a request without an answer."""
    kind, words = _meaning(error, deadline, is_connected=attempt.is_connected)
    return SendResult(kind=kind, excerpt=words)


def _meaning(error: Exception, deadline: timedelta, *, is_connected: bool) -> tuple[SendResultKind, str]:
    """Return the kind and the words for an error. The words of most errors are ours: theirs may contain the address."""
    cause = getattr(error, "os_error", None)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return SendResultKind.CONFIGURATION, f"the certificate is not accepted: {_why(error.certificate_error)}"
        case aiohttp.ClientSSLError():
            return SendResultKind.CONFIGURATION, f"TLS failed: {_why(cause)}"
        case aiohttp.ClientConnectorDNSError():
            return _name_error(cause)
        case aiohttp.ClientConnectorError() if isinstance(cause, guard.RefusedAddressError):
            return SendResultKind.CONFIGURATION, guard.REFUSAL
        case aiohttp.ClientProxyConnectionError():
            return SendResultKind.TRANSIENT, "no connection to the proxy (NOTIFY_PROXY)"
        case aiohttp.ClientHttpProxyError():
            kind = SendResultKind.CONFIGURATION if error.status in {403, 407} else SendResultKind.TRANSIENT
            return kind, f"the proxy (NOTIFY_PROXY) does not connect: {error.status}"
        case aiohttp.ClientConnectorError():
            words = os.strerror(cause.errno) if cause and cause.errno else "it failed"
            return (
                SendResultKind.TRANSIENT,
                f"no connection: {words}",
            )
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | ValueError():
            return SendResultKind.CONFIGURATION, "the address or a setting contains what HTTP does not allow"
        case TimeoutError() if not is_connected:
            return SendResultKind.TRANSIENT, f"no connection within {deadline.total_seconds():g} s"
        case TimeoutError():
            return SendResultKind.UNKNOWN, f"no answer within {deadline.total_seconds():g} s"
        case aiohttp.ClientError() | OSError() if not is_connected:
            return SendResultKind.TRANSIENT, f"no connection: {type(error).__name__}"
        case aiohttp.ClientError() | OSError():
            return SendResultKind.UNKNOWN, "the connection ended without an answer"
    return SendResultKind.UNKNOWN, f"an unexpected error: {type(error).__name__}"


def _name_error(cause: Any) -> tuple[SendResultKind, str]:
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN:
        return SendResultKind.TRANSIENT, "the name server does not answer"
    return SendResultKind.CONFIGURATION, "there is no host of this name"


def _why(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = getattr(error, "reason", None)
    return str(reason) if reason else type(error).__name__
