"""A mail server on a socket of its own, as good or as bad as a test wants it.

It speaks enough SMTP for smtplib, one thread for each connection. `behaviour` is asked before each answer, with the
command's first word and the mail's recipient, and returns the answer, or None for the usual one; it may take its time,
or raise `HangError` to be silent until the server stops.
"""

import email
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.policy import default

USUAL = {
    "CONNECT": "220 mail.test ESMTP",
    "EHLO": "250-mail.test\r\n250 SMTPUTF8",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    ".": "250 taken",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


class HangError(Exception):
    """Answer nothing, and keep the connection."""


class HangUpError(Exception):
    """End the connection."""


@dataclass
class MailServer:
    """Where it listens, and what it has taken: (recipient, mail, monotonic time)."""

    port: int
    behaviour: Callable[[str, str], str | None] = lambda _word, _recipient: None
    taken: list[tuple[str, Message, float]] = field(default_factory=list)
    connection_count: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def mails_to(self, recipient: str) -> list[Message]:
        """What came for an address."""
        return [mail for to, mail, _ in self.taken if to == recipient]


@contextmanager
def running_mail_server(behaviour: Callable[[str, str], str | None] | None = None) -> Iterator[MailServer]:
    """Run one until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    server = MailServer(listener.getsockname()[1])
    if behaviour is not None:
        server.behaviour = behaviour
    connections: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                server.connection_count += 1
                threading.Thread(target=_talk, args=(server, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        server.stopped.set()
        for one in (listener, *connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _talk(server: MailServer, connection: socket.socket) -> None:
    recipient = ""

    def answer(word: str) -> str:
        text = server.behaviour(word, recipient) or USUAL.get(word, "502 unknown")
        connection.sendall(f"{text}\r\n".encode())
        return text

    with suppress(OSError, HangUpError), connection, connection.makefile("rb") as lines:
        try:
            answer("CONNECT")
            while line := lines.readline().decode().strip():
                word = line.split()[0].upper().split(":")[0]
                if word == "MAIL":
                    recipient = ""
                if word == "RCPT":
                    recipient = line.partition("<")[2].partition(">")[0]
                text = answer(word)
                if word == "DATA" and text.startswith("354"):
                    content = b"".join(iter(lines.readline, b".\r\n"))
                    if answer(".").startswith("250"):
                        mail = email.message_from_bytes(content.replace(b"\r\n..", b"\r\n."), policy=default)
                        server.taken.append((recipient, mail, time.monotonic()))
                if word == "QUIT":
                    return
        except HangError:
            server.stopped.wait()


@contextmanager
def dripping_server(every_seconds: float) -> Iterator[int]:
    """Run a server that sends one byte of its greeting at a time, and never comes to the end of a line."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def drip_on(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.sendall(b"220 ")
            while not stopped.wait(every_seconds):
                connection.sendall(b"x")

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=drip_on, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
