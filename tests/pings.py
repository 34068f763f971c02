"""Sending a ping through a protocol as the server does, without the server: match, identify, decode, answer."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from checkins.exceptions import IngestError, UnknownKeyError
from checkins.messages import (
    CheckInMessage,
    LogMessage,
    LossReport,
    Message,
    Outcome,
    Problem,
    ProblemKind,
    RefusedCheckIn,
)
from checkins.protocols.request import Answer, IngestRequest, KnownSender, Limits, Protocol

NOW = datetime(2026, 11, 23, 10, 44, 9, 200_000, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"
GUID = uuid.UUID("5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a")
PROJECT_ID = 42
SLUG, RAW_SLUG = "nightly-report", "Nightly Report"

TAKEN = Outcome(accepted=True)
CREATED = Outcome(accepted=True, created=True)


def failed(kind: ProblemKind) -> Outcome:
    return Outcome(problems=[Problem(kind, "monitor_slug", "'x'", "monitor_slug 'x' has a problem.")])


NO_MONITOR = failed(ProblemKind.MONITOR_NOT_FOUND)


@dataclass(frozen=True)
class Exchange:
    """What one request came to. `messages` is empty if it was refused before it was read."""

    answer: Answer
    messages: Sequence[Message] = ()

    @property
    def said(self) -> tuple[int, str]:
        return self.answer.status, self.answer.body.decode()

    @property
    def header(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.answer.headers}

    @property
    def checkin(self) -> CheckInMessage:
        [message] = self.messages
        assert isinstance(message, CheckInMessage), message
        return message

    @property
    def log_message(self) -> LogMessage:
        [message] = self.messages
        assert isinstance(message, LogMessage), message
        return message

    @property
    def refusal(self) -> RefusedCheckIn:
        [message] = self.messages
        assert isinstance(message, RefusedCheckIn), message
        return message


def send(
    routes: Sequence[tuple[re.Pattern[str], Protocol]],
    target: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    body_bytes: int | None = None,
    headers: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    outcome: Outcome = TAKEN,
) -> Exchange:
    """Send a request to a server with the project of KEY and the monitor of GUID. No other sender is known there."""
    path, _, query = target.partition("?")
    path = unquote(path, errors="replace")
    limits = limits or Limits()
    request = IngestRequest(
        method=method,
        path=path,
        query=query,
        headers=headers or {},
        body=body,
        body_bytes=len(body) if body_bytes is None else body_bytes,
        received_at=NOW,
    )
    match, protocol = next((match, protocol) for pattern, protocol in routes if (match := pattern.fullmatch(path)))
    assert protocol.methods is None or method in protocol.methods
    address = {name: value for name, value in match.groupdict().items() if value is not None}
    try:
        sender = protocol.identify(request, address, limits)
        if sender.monitor_guid == GUID:
            known = KnownSender(PROJECT_ID, SLUG, RAW_SLUG)
        elif sender.public_key == KEY:
            known = KnownSender(PROJECT_ID)
        else:
            raise UnknownKeyError("the key is not known")
    except IngestError as error:
        return Exchange(protocol.refuse(error))
    decoded = protocol.decode(request, address, known, limits)
    refused = [Outcome(problems=list(m.problems)) for m in decoded.messages if isinstance(m, RefusedCheckIn)]
    return Exchange(decoded.answer(refused or [outcome]), decoded.messages)


def assert_storable(message: Message) -> None:
    """PostgreSQL keeps no NUL and no lone surrogate."""
    assert not isinstance(message, LossReport)
    texts = [message.slug, message.environment, *map(str, message.payload.values())]
    if isinstance(message, (CheckInMessage, LogMessage)):
        texts.append(message.raw_slug)
    if isinstance(message, (CheckInMessage, RefusedCheckIn)):
        texts += [text for problem in message.problems for text in (problem.value, problem.message)]
    assert not re.search("[\x00\ud800-\udfff]", "".join(texts))
