"""How accounts log in, through django-allauth: what is counted, what is logged, what is mailed (shell).

A wrong password counts for its name and its address together, before it is checked: many at once count too, and
nobody can lock out somebody else. The counts are in Valkey (`lib.valkey_cache`) and forget by themselves.
"""

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core.internal.ratelimit import truncate_ip
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError

from accounts.tasks import send_letter
from dashboard.login.addresses import address_of
from dashboard.login.company import follow_groups
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)

FAILURES_MAX = 10
WINDOW_SECONDS = 300
FRESH_SECONDS = 300
"""So long after a login nobody is asked to confirm anything; then the same time after each confirmation."""
NAME_CHARACTERS_MAX = 150
_WRONG = _("The name or the password is wrong.")


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Our rules. Its methods are called by allauth."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "username_password_mismatch": _WRONG,
        "email_password_mismatch": _WRONG,
        "too_many_login_attempts": _(
            "Too many logins with this name failed from your address. Wait 5 minutes, then try again."
        ),
    }

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address of the person who asks."""
        return address_of(request)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        name = _name_in(credentials).casefold()
        return f"{truncate_ip(address_of(request))}\n{name}"

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count the try. Raises ValidationError, with a line in the log, if there were too many."""
        try:
            super().pre_authenticate(request, **credentials)
        except Exception:
            name = _name_in(credentials)
            logger.warning("login refused for %r from %s: too many failures", name, address_of(request))
            raise

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """Log a wrong password."""
        logger.warning("login failed for %r from %s", _name_in(credentials), address_of(request))

    def login(self, request: HttpRequest, user: User) -> None:
        """Log in, with a line in the log."""
        super().login(request, user)
        logger.info("logged in: %r from %s", user.get_username(), address_of(request))

    def post_login(self, request: HttpRequest, user: User, **options: Any) -> HttpResponseBase:
        """Follow the groups of somebody who comes from a company."""
        if sociallogin := (options.get("signal_kwargs") or {}).get("sociallogin"):
            follow_groups(user, sociallogin)
        answer: HttpResponseBase = super().post_login(request, user, **options)
        return answer

    def is_reauthentication_required(self, *, app: str, **options: Any) -> bool:
        """Return whether the person has to prove again who it is: not soon after a login, which proved it."""
        ways = get_authentication_records(self.request, self.request.user)
        is_fresh = bool(ways) and utcnow().timestamp() - ways[-1]["at"] < FRESH_SECONDS
        return not is_fresh and bool(super().is_reauthentication_required(app=app, **options))

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Return the link of a mail: at PUBLIC_URL, not at the name by which somebody asked."""
        path = reverse("account_reset_password_from_key", args=["UID", "KEY"]).replace("UID-KEY", key)
        return _absolute(self.request, path)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Hand a mail to the worker: a page neither waits for a mail server nor is slower when there is an account."""
        mail = self.render_mail(template_prefix, email, {"email": email, "request": self.request} | context)
        try:
            send_letter.delay(mail.subject, mail.body, email)
        except OperationalError as error:
            logger.warning("a mail to %r is lost, the broker is away: %s", email, error)


def _name_in(credentials: dict[str, Any]) -> str:
    return str(credentials.get("username") or credentials.get("email") or "")[:NAME_CHARACTERS_MAX]


def _absolute(request: HttpRequest, path: str) -> str:
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else request.build_absolute_uri(path)
