"""Second factors that people set up or remove themselves, in the audit log (shell).

django-allauth reports them when they are committed, so an entry is written right after its change. What an
administrator removes is recorded where that is done (`accounts.second_factor`).
"""

from typing import Any

from allauth.mfa import signals
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.http import HttpRequest

from audit.entries import Entry
from audit.recording import record_alone
from dashboard.pages.buttons import actor_of
from lib.wallclock import utcnow

_NAMES = {Authenticator.Type.TOTP: "app", Authenticator.Type.RECOVERY_CODES: "recovery codes"}


def connect() -> None:
    """Record from now on."""
    signals.authenticator_added.connect(_record_added)
    signals.authenticator_removed.connect(_record_removed)
    signals.authenticator_reset.connect(_record_reset)


def _record_added(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, "second factor added", (None, _name(authenticator)))


def _record_removed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, "second factor removed", (_name(authenticator), None))


def _record_reset(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "recovery codes made anew")


def _record(request: HttpRequest, user: User, action: str, factor: tuple[str | None, str | None] | None = None) -> None:
    changes = {"factor": factor} if factor is not None else {}
    record_alone(Entry("user", user.pk, user.get_username(), action, None, changes), by=actor_of(request, at=utcnow()))


def _name(authenticator: Authenticator) -> str:
    """Return what a person calls it. A passkey has a name."""
    return _NAMES.get(authenticator.type) or f"passkey {authenticator.wrap().name}"
