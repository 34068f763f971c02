"""Errors of this app. Those of one module are defined there, with the root that is here.

`IngestError` and its kinds are refusals of a whole request, with the HTTP status that its client expects. All of them
are the client's fault, and sending the same request again does not help. They never say that a check-in was lost
through our fault: that is what the durable write is for.
"""


class CheckInsError(Exception):
    """Root of the errors of this app."""


class IngestError(CheckInsError):
    """The request cannot be taken. The text is one sentence for the person who set up the client."""

    status = 400


class AuthError(IngestError):
    """The request does not say whose it is, or says it wrongly: 401 without usable key, 400 for a malformed one."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnknownKeyError(IngestError):
    """The key is well formed, but is not an active key of the project in the address."""

    status = 403


class UnknownAddressError(IngestError):
    """Nothing is at this address. The text says what the addresses of its protocol look like."""

    status = 404


class BodyError(IngestError):
    """The body ended early, or is not what its Content-Encoding says."""


class BodyTooLargeError(IngestError):
    """The body, or a part of it, is larger than we read."""

    status = 413


class JsonError(IngestError):
    """The bytes are not a JSON value, or one with more in it than is read: then 413."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class EnvelopeError(IngestError):
    """The body does not follow the envelope grammar."""


class SpoolError(CheckInsError):
    """The spool cannot do what it was asked to do."""


class SpoolFullError(SpoolError):
    """The spool has reached its size bound, or the disk is full or broken; nothing of the call is stored."""


class SpoolUnusableError(SpoolError):
    """No spool can be opened in the directory."""
