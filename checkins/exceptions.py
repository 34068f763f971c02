"""Errors of this app. Errors of a single module are defined there, with the root from here.

`IngestError` and its kinds are refusals of a whole request, with the HTTP status that its client expects. All of them
are the client's fault, and sending the same request again does not help. None of them means that the server lost a
check-in: the durable write prevents that.
"""


class CheckInsError(Exception):
    """Root of the errors of this app."""


class IngestError(CheckInsError):
    """The request is refused. The text is one sentence for the person who set up the client."""

    status = 400


class AuthError(IngestError):
    """The request is not authenticated: 401 without a usable key, 400 for a malformed one."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnknownKeyError(IngestError):
    """The key is well formed, but is not an active key of the project in the address."""

    status = 403


class UnknownAddressError(IngestError):
    """Nothing is at this address. The text shows what addresses of its protocol look like."""

    status = 404


class BodyError(IngestError):
    """The body ended early, or does not match its Content-Encoding."""


class BodyTooLargeError(IngestError):
    """The body, or a part of it, is larger than the limit."""

    status = 413


class JsonError(IngestError):
    """The bytes are not a JSON value, or it exceeds a limit: then 413."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class EnvelopeError(IngestError):
    """The body does not follow the envelope grammar."""


class SpoolError(CheckInsError):
    """The spool cannot carry out an operation."""


class SpoolFullError(SpoolError):
    """The spool has reached its size limit, or the disk is full or broken; nothing of the call is stored."""


class SpoolUnusableError(SpoolError):
    """No spool can be opened in the directory."""
