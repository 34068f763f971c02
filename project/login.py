"""Logging in: wrong passwords are counted for each name and address, and told in the log (shell).

The count is in Valkey and forgets by itself. If Valkey is away nothing is counted, and everybody can still log in.
"""

import hashlib
import ipaddress
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm as MemberForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from lib.valkey import valkey

if TYPE_CHECKING:
    from django.contrib.admin.forms import AdminAuthenticationForm as AuthenticationForm
else:
    from unfold.forms import AuthenticationForm

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

logger = logging.getLogger(__name__)

FAILURES_MAX = 10
WINDOW_SECONDS = 300
NAME_CHARACTERS_MAX = 150
IPV6_PREFIX = 64
"""One household, or one attacker, has so many addresses."""


def client_address(remote: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return who asks: the last address of `X-Forwarded-For` that no trusted proxy has written about itself (pure).

    `remote` is who opened the connection. Only proxies in `trusted` are believed, since anybody can send the header.

    >>> proxies = [ipaddress.ip_network("10.0.0.0/8")]
    >>> client_address("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", proxies)
    '203.0.113.7'
    >>> client_address("203.0.113.7", "6.6.6.6", proxies)
    '203.0.113.7'
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    address = _parsed(remote)
    while hops and address is not None and any(address in network for network in trusted):
        further = _parsed(hops.pop())
        if further is None:
            break
        address = further
    return remote if address is None else str(address)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, also written with a port; an IPv4 address within IPv6 as what it is."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def address_of(request: HttpRequest) -> str:
    """Return the address of the person who asks, behind the proxies of TRUSTED_PROXIES."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    return client_address(request.META.get("REMOTE_ADDR", ""), forwarded, settings.TRUSTED_PROXIES)


def _key(name: str, address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        address = str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    digest = hashlib.sha256(f"{name.casefold()}\n{address}".encode(errors="replace")).hexdigest()
    return f"watchclock:login:{digest}"


def _count_try(key: str) -> int:
    """Count a try before its password is looked at, so that many at once count too; returns how many there were."""
    pipeline = valkey().pipeline(transaction=True)
    pipeline.set(key, 0, nx=True, ex=WINDOW_SECONDS)
    pipeline.incr(key)
    count: int = pipeline.execute()[1]
    return count


class CountedLogin:
    """A login form that counts: ten wrong passwords for a name from an address, and both wait together."""

    request: HttpRequest | None
    cleaned_data: dict[str, Any]

    def clean(self) -> dict[str, Any]:
        """Log in, or count the failure. Raises ValidationError."""
        name = str(self.cleaned_data.get("username") or "")[:NAME_CHARACTERS_MAX]
        address = "" if self.request is None else address_of(self.request)
        key = _key(name, address)
        try:
            count = _count_try(key)
        except redis.RedisError as error:
            count = 0
            logger.warning("Valkey is away (%s): failed logins are not counted", error)
        if count > FAILURES_MAX:
            logger.warning("login refused for %r from %s: too many failures", name, address)
            raise ValidationError(
                f"{FAILURES_MAX} logins with this name failed from your address. Wait {WINDOW_SECONDS // 60} minutes, "
                "then try again.",
                code="too_many_failures",
            )
        try:
            data: dict[str, Any] = super().clean()  # type: ignore[misc]  # that of Django's form
        except ValidationError:
            logger.warning("login failed for %r from %s (%d of %d)", name, address, count, FAILURES_MAX)
            raise
        if count:
            with suppress(redis.RedisError):
                valkey().delete(key)
        logger.info("logged in: %r from %s", name, address)
        return data


class LoginForm(CountedLogin, AuthenticationForm):
    """The login form of the admin."""


class MemberLoginForm(CountedLogin, MemberForm):
    """The login form of everybody with an account."""
