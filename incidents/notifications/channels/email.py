"""Notifying people by e-mail, through Django's mail settings (EMAIL_URL), with a limit for every wait.

A time-out of a socket starts anew with every byte, so a very slow server can block its client forever. Hence `abort`:
it closes the connection from another thread, at any point, and the blocked thread gets an OSError.
"""

import base64
import contextlib
import os
import smtplib
import socket
import ssl
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends import smtp

from incidents.exceptions import DeliveryError
from incidents.models import Message
from incidents.notifications.channels.mail import compose
from incidents.notifications.channels.redaction import redact
from incidents.notifications.mail_settings import NO_SERVER, has_mail_server

SECONDS_MAX = 30.0
"""The longest time for one mail, connecting included. Far less than a claim lasts (`attempts.LEASE`)."""


class RefusedError(DeliveryError):
    """The mail server refuses this mail permanently."""


class UnreachableError(DeliveryError):
    """The mail server could not be reached or did not finish: no other mail would succeed now."""


class HandoverError(UnreachableError):
    """The connection ended while this mail was handed over: the server may have it."""


class EmailBackend(smtp.EmailBackend):
    """Django's backend, with a connection that another thread can close."""

    line: socket.socket | None = None
    """A second handle of the connection's socket, independent of what TLS or smtplib does with the first."""
    is_aborted = False

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        """The class of the connection, which passes its socket to the backend at once."""
        backend = self
        base: Any = smtplib.SMTP_SSL if self.use_ssl else smtplib.SMTP

        class Connection(base):  # type: ignore[misc]
            def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
                # As in smtplib, but the handle is duplicated before TLS begins.
                line = socket.create_connection((host, port), timeout, self.source_address)
                backend._hold(line)
                if backend.use_ssl:
                    context: ssl.SSLContext = self.context
                    return context.wrap_socket(line, server_hostname=self._host)
                return line

        return Connection

    def _hold(self, line: socket.socket) -> None:
        self._let_go()
        self.line = socket.socket(fileno=os.dup(line.fileno()))
        if self.is_aborted:
            self.abort()

    def abort(self) -> None:
        """End the connection now. May be called from any thread."""
        self.is_aborted = True
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection and both handles."""
        try:
            super().close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        line, self.line = self.line, None
        if line is not None:
            line.close()


class Postman:
    """One connection to the mail server, reused for several mails. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._backend: Any = get_connection()
        self._is_used = False

    def send(self, message: Message) -> None:
        """Send a message that has its text.

        Raises `UnreachableError` if the server cannot be reached, `HandoverError` if it may have this mail all the
        same, `RefusedError` if it refuses this mail permanently,
        and other errors that concern one mail.
        """
        mail = compose(message)
        try:
            self._send(mail)
        except (smtplib.SMTPServerDisconnected, ConnectionError, smtplib.SMTPSenderRefused) as error:
            # Many servers close a connection after a number of mails, or when idle, as the next mail begins.
            if not self._is_used or not _has_ended(error):
                raise _named(error) from error
            self.close()
            try:
                self._send(mail)
            except Exception as again:
                raise _named(again) from again
        except Exception as error:
            raise _named(error) from error
        self._is_used = True

    def _send(self, mail: EmailMessage) -> None:
        if not has_mail_server():
            raise UnreachableError(NO_SERVER)
        try:
            self._backend.open()
        except Exception as error:
            raise UnreachableError(describe_error(error)) from error
        self._backend.send_messages([mail])

    def abort(self) -> None:
        """Abort a connection that takes too long. May be called from any thread."""
        if isinstance(self._backend, EmailBackend):
            self._backend.abort()

    def close(self) -> None:
        """Close the connection."""
        self._is_used = False
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self._backend.close()


def describe_error(error: BaseException) -> str:
    """Return the answer of the mail server, or the error on the way to it, in one line and without the password."""
    return redact(_words(error), _secrets())


def _words(error: BaseException) -> str:
    match error:
        case smtplib.SMTPRecipientsRefused():
            return "; ".join(_answer(code, text) for code, text in error.recipients.values())
        case smtplib.SMTPResponseException():
            return _answer(error.smtp_code, error.smtp_error)
        case UnreachableError() | RefusedError():
            return str(error)
        case TimeoutError():
            return "the mail server does not answer in time"
        case smtplib.SMTPServerDisconnected() if "timed out" in str(error):  # smtplib turns a TimeoutError into this
            return "the mail server does not answer in time"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _secrets() -> list[str]:
    """Return the password of the mail server, alone and as clients send it: some servers repeat a command."""
    user, password = settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD
    if not password:
        return []
    return [password, base64.b64encode(f"\0{user}\0{password}".encode()).decode()]


def _answer(code: int, text: object) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return f"the mail server answers {code} {' '.join(words.split())}".rstrip()


def _named(error: Exception) -> Exception:
    """Return the error as the class that shows what it means for this mail and the others."""
    match error:
        case UnreachableError():
            return error
        case smtplib.SMTPRecipientsRefused() if all(map(_is_final, error.recipients.values())):
            return RefusedError(describe_error(error))
        case smtplib.SMTPRecipientsRefused():
            return error
        case smtplib.SMTPResponseException() if _is_final((error.smtp_code, error.smtp_error)):
            return RefusedError(describe_error(error))
        case smtplib.SMTPResponseException():
            return error
        case OSError() | smtplib.SMTPException():
            return HandoverError(describe_error(error))
    return error


def _is_final(answer: tuple[int, bytes | str]) -> bool:
    """Return whether an answer will be the same tomorrow. A full mailbox is emptied, a blocked network is unblocked.

    >>> _is_final((550, b"5.1.1 no such user")), _is_final((552, b"5.2.2 mailbox full")), _is_final((451, b"later"))
    (True, False, False)
    """
    code, text = answer
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return code >= 500 and code not in {552, 554} and not words.startswith("5.2.2")


def _has_ended(error: Exception) -> bool:
    return not isinstance(error, smtplib.SMTPSenderRefused) or error.smtp_code == 421
