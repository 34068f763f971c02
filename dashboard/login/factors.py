"""The second factor: an app with codes, passkeys, recovery codes, through allauth.mfa (shell).

With `SECOND_FACTOR_REQUIRED`, a person without one is led to the page that sets one up, whatever page he or she opens.
Who logged in at a company's provider is left alone: the company decides there what it asks for.
"""

from collections.abc import Callable
from typing import Any

from allauth.account.authentication import get_authentication_records
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from incidents import secrets

OPEN_WITHOUT = {
    "account_login",
    "account_logout",
    "account_reauthenticate",
    # Links in messages, which need no account.
    "acknowledge",
    "hook",
    "join",
    "unsubscribe",
    # What is shared with people who have no account.
    "badge-json",
    "badge-svg",
    "status-page",
    "tv",
}
"""Addresses, besides those of the second factor itself, that a person without one may open."""
ENOUGH = {"mfa", "socialaccount"}
"""Ways to log in, as allauth notes them in the session, after which nothing else is asked for."""


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """Our rules. Its methods are called by allauth."""

    def encrypt(self, text: str) -> str:
        """Return a secret as it is stored: with the keys of channels."""
        return secrets.encrypt(text.encode())

    def decrypt(self, encrypted_text: str) -> str:
        """Return a secret. Raises ValidationError if no key fits: `reset_second_factor` helps."""
        try:
            return secrets.decrypt(encrypted_text).decode()
        except secrets.UnsealError:
            raise self.validation_error("incorrect_code") from None

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Return for which server a passkey is, in the words that a browser shows."""
        entity: dict[str, str] = super().get_public_key_credential_rp_entity()
        return entity | {"name": "Watchclock"}


def lacks_second_factor(request: HttpRequest) -> bool:
    """Return whether a person who is logged in still has to set up a second factor. At most one statement."""
    if not settings.SECOND_FACTOR_REQUIRED or not request.user.is_authenticated:
        return False
    ways = {record["method"] for record in get_authentication_records(request, request.user)}
    return not ways & ENOUGH and not is_mfa_enabled(request.user)


class SecondFactorMiddleware:
    """Leads people who lack a second factor to the page that sets one up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Go on."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        """Redirect, unless the address is one that is open without."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None  # Nobody; to ask for the session would forbid caches to store a public page.
        name = request.resolver_match.url_name if request.resolver_match else None
        if name is not None and (name in OPEN_WITHOUT or name.startswith("mfa_")):
            return None
        return redirect("mfa_index") if lacks_second_factor(request) else None
