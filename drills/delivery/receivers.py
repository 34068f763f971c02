"""Receivers on the far side of the sockets: what each does with a message, and what it answers, if anything."""

import errno
import json
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock
from urllib.parse import urlsplit

import aiohttp
from django.core.mail import EmailMessage

from drills.delivery.faults import APPLIED, Manner
from drills.delivery.ledger import Received, read_action, read_body, read_mail
from drills.delivery.process import Thread, Wait
from incidents.notifications import exchange
from incidents.notifications.channels.base import Request
from incidents.notifications.channels.email import SECONDS_MAX, EmailBackend

if TYPE_CHECKING:
    from drills.delivery.world import World

LATE = timedelta(seconds=1)
"""A receiver that applies a request later than this after the sender gave up is beyond what any sender can order."""
ANSWERS: dict[str, tuple[int, Any]] = {
    "webhook": (204, ""),
    "pagerduty": (202, {"status": "success", "dedup_key": "kept"}),
    "opsgenie": (202, {"result": "Request will be processed"}),
    "slack": (200, "ok"),
    "discord": (200, {"id": "77"}),
}
"""What a service of each kind answers to what it takes."""


async def take_request(world: "World", request: Request, attempt: Any) -> None:
    """Stand in for `exchange._ask`: one request to the receiver at its host, which behaves as the world has it."""
    task = world.task
    assert task is not None, "a lane sends"
    assert task.sending is not None, "a lane sends a message"
    kind = task.sending.target.kind
    recipient = task.sending.message.recipient
    assert urlsplit(request.url).hostname == f"{kind}.example", request.url
    manner = world.manner_of(recipient)
    world.note(f"{recipient[:8]} ({kind}) {manner} from {task.process.name}: {task.sending.message}")
    action, group = read_action(kind, request.url, request.body)
    entry = partial(
        Received,
        recipient=recipient,
        key=str(task.sending.message.idempotency_key),
        body=read_body(request.body, [(name, text) for name, text in request.headers.items()]),
        part=f"{request.method} {urlsplit(request.url).path}",
        was_refused=manner is Manner.REFUSES_MESSAGE,
        action=action,
        group=group,
    )

    def apply(*, is_applied: bool = True) -> None:
        task.lost = None
        world.receive(partial(entry, is_applied=is_applied))

    await Wait(task, world.in_a_while())
    if manner is Manner.REFUSES_CONNECTION:
        raise aiohttp.ClientConnectorError(_connection_key(), OSError(errno.ECONNREFUSED, "refused"))
    if manner is Manner.HANGS_BEFORE:
        await Wait(task, lambda: False)
    attempt.is_connected = True
    # If the worker is killed now, what it has sent may still arrive.
    if world.chance.random() < 0.5 and manner in APPLIED:
        task.lost = apply
    await Wait(task, world.in_a_while())
    if manner is Manner.APPLIES_LATE and task.deadline is not None:
        task.lost = None
        world.at(task.deadline + world.chance.random() * LATE, apply)
    else:
        apply(is_applied=manner in APPLIED)
    if manner in (Manner.HANGS, Manner.APPLIES_AND_HANGS, Manner.APPLIES_LATE):
        await Wait(task, lambda: False)
    if manner in (Manner.DROPS, Manner.APPLIES_AND_DROPS):
        raise aiohttp.ServerDisconnectedError
    await Wait(task, world.in_a_while())
    attempt.status, body, attempt.headers = _answer(kind, manner, world)
    attempt.body = bytearray(body)
    if manner is Manner.APPLIES_AND_DRIPS:
        await Wait(task, lambda: False)


def _answer(kind: str, manner: Manner, world: "World") -> tuple[int, bytes, dict[str, str]]:
    match manner:
        case Manner.FAILS:
            return 500, b"down", {}
        case Manner.SLOWS:
            return 429, b"", {"retry-after": str(world.chance.choice([1, 20, 90]))}
        case Manner.REFUSES_MESSAGE:
            return 400, b"not like this", {}
        case Manner.REFUSES_CHANNEL:
            return 401, b"who are you", {}
    status, content = ANSWERS[kind]
    return status, (content if isinstance(content, str) else json.dumps(content)).encode(), {}


def _connection_key() -> Any:
    return SimpleNamespace(host="receiver", port=443, ssl=True, is_ssl=True)


class Postbox(EmailBackend):
    """A connection to the mail server of the world, which takes a mail, or does something else."""

    world: ClassVar["World"]
    is_open = False

    def open(self) -> bool:
        """Connect, unless the server refuses that."""
        if self.is_open:
            return False
        if self.world.chance.random() < self.world.bad_mail / 3:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        self.is_open = True
        return True

    def close(self) -> None:
        """End the connection."""
        self.is_open = False

    def abort(self) -> None:
        """End the connection from another thread."""
        self.is_aborted = True

    def send_messages(self, email_messages: Any) -> int:
        """Hand over one mail."""
        [mail] = email_messages
        world, task = self.world, self.world.task
        assert isinstance(task, Thread), "a line sends mail"
        manner = world.manner_of_mail()
        [recipient] = mail.to
        world.note(f"the mail server {manner} from {task.process.name}: {mail.subject} to {recipient}")
        self._wait(task)
        match manner:
            case Manner.REFUSES_CONNECTION | Manner.DROPS:
                self.is_open = False
                raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")
            case Manner.REFUSES_MESSAGE:
                raise smtplib.SMTPRecipientsRefused({recipient: (550, b"no such user")})
            case Manner.SLOWS:
                raise smtplib.SMTPRecipientsRefused({recipient: (451, b"greylisted")})
            case Manner.FAILS:
                raise smtplib.SMTPDataError(452, b"no space")
            case Manner.HANGS | Manner.HANGS_BEFORE:
                self._hang(task)
        if world.chance.random() < 0.5:
            task.lost = lambda: self._apply(task, mail)
        self._wait(task)
        self._apply(task, mail)
        if manner is Manner.APPLIES_AND_DROPS:
            self.is_open = False
            raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")
        if manner in APPLIED - {Manner.TAKES}:
            self._hang(task)
        return 1

    def _wait(self, task: Thread) -> None:
        passed = self.world.in_a_while()
        task.wait(lambda: passed() or self.is_aborted)
        if self.is_aborted:
            raise OSError(errno.EBADF, "aborted")

    def _hang(self, task: Thread) -> None:
        self.world.at(self.world.now + timedelta(seconds=SECONDS_MAX), lambda: None)
        task.wait(lambda: self.is_aborted)
        raise OSError(errno.EBADF, "aborted")

    def _apply(self, task: Thread, mail: EmailMessage) -> None:
        task.lost = None
        key, body = read_mail(mail.message())
        [recipient] = mail.to
        self.world.receive(partial(Received, recipient=recipient, key=key, body=body, is_applied=True))


@contextmanager
def receiving(world: "World") -> Iterator[None]:
    """Put the receivers of a world into the place of the network."""

    async def ask(_session: object, request: Request, attempt: Any) -> None:
        await take_request(world, request, attempt)

    Postbox.world = world
    with mock.patch.object(exchange, "_ask", ask):
        yield
