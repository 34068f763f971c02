"""Reading settings from the environment through django-environ, with errors that name the variable.

django-environ alone takes `DEBUG=treu` for false, and answers `CLOCK_GRACE_SECONDS=soon` with a ValueError that does
not say which variable it was. Nobody should have to guess that at three in the morning.
"""

import base64
import ipaddress
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from accounts.groups import GroupRole, parse_group_role

NOTICE_DEAD_HOSTS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A database host that vanishes says nothing, and a connection to it hangs for hours: the system's own keepalive begins
after two. So long everything would go to the spool, also when another host has taken over. Seconds, but the last one in
milliseconds. Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"""

_env = environ.Env()
_TRUE = {"true", "on", "ok", "y", "yes", "1"}
_FALSE = {"false", "off", "n", "no", "0"}
_WEB_ADDRESS = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*")


def text(name: str, *, default: str) -> str:
    """The variable as it stands."""
    value: str = _env.str(name, default=default)
    return value


def required_text(name: str, *, hint: str) -> str:
    """The variable, which must be there and not empty. Raises `ImproperlyConfigured` with the hint."""
    value = text(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {hint}")
    return value


def words(name: str, *, default: list[str]) -> list[str]:
    """A comma-separated list without empty entries."""
    return [word.strip() for word in _env.list(name, default=default) if word.strip()]


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """A comma-separated list of addresses and networks, as `10.0.0.7,192.168.0.0/16`."""
    try:
        return [ipaddress.ip_network(word, strict=False) for word in words(name, default=[])]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name}={_raw(name)!r}: {error}. It takes addresses and networks with commas between, as "
            "10.0.0.7,192.168.0.0/16."
        ) from None


def group_roles(name: str) -> list[GroupRole]:
    """A comma-separated list of `group=project:role`."""
    try:
        return [parse_group_role(word) for word in words(name, default=[])]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name}={_raw(name)!r}: {error}. It takes groups with a project and a role, with commas between, as "
            "ops=shop:editor,everybody=shop:viewer."
        ) from None


def fernet_keys(name: str) -> list[str]:
    """A comma-separated list of keys of Fernet: 32 bytes each, in URL-safe base64. Errors do not show them."""
    keys = words(name, default=[])
    for number, key in enumerate(keys, start=1):
        try:
            length = len(base64.b64decode(key, altchars=b"-_", validate=True))
        except ValueError:  # Not base64 (`binascii.Error`), or not even ASCII.
            length = 0
        if length != 32:
            raise ImproperlyConfigured(
                f"Key {number} of {len(keys)} in {name} is not a key: 32 bytes in URL-safe base64. Make one with "
                "python3 -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'."
            )
    return keys


def flag(name: str, *, default: bool) -> bool:
    """true or false, written in any usual way."""
    value = text(name, default=str(default)).strip().lower()
    if value not in _TRUE | _FALSE:
        raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false.")
    return value in _TRUE


def choice(name: str, *, default: str, of: Sequence[str]) -> str:
    """One of a few words."""
    value = text(name, default=default).strip().lower()
    if value not in of:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(of)}.")
    return value


def whole_number(name: str, *, default: int, minimum: int, maximum: int) -> int:
    """An integer from `minimum` to `maximum`."""
    try:
        value: int = _env.int(name, default=default)
    except ValueError:
        value = minimum - 1
    if not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name}={_raw(name)!r} is not a whole number from {minimum} to {maximum}.")
    return value


def seconds(name: str, *, default: float, maximum: float, minimum: float = 0.0) -> float:
    """A length of time in seconds, from `minimum` to `maximum`; fractions are welcome."""
    try:
        value: float = _env.float(name, default=default)
    except ValueError:
        value = -1.0
    if not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name}={_raw(name)!r} is not a number of seconds from {minimum:g} to {maximum:g}.")
    return value


def web_address(name: str) -> str:
    """An http or https address without a slash at its end; empty if it is not set."""
    address = text(name, default="").rstrip("/")
    if address and not _WEB_ADDRESS.fullmatch(address):
        raise ImproperlyConfigured(
            f"{name}={address!r} is not a web address: it looks like https://watchclock.example.com, "
            "with a port or a path if there is one."
        )
    return address


def request_address(name: str) -> str:
    """An http or https address to be asked for, with any path and query; empty if it is not set."""
    address = text(name, default="").strip()
    parts = urlsplit(address)
    if address and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ImproperlyConfigured(f"{name}={address!r} is not a web address: it begins with https:// or http://.")
    return address


def database(name: str, *, hint: str) -> dict[str, Any]:
    """A `postgres://user:password@host:port/name` address as Django wants it."""
    address = required_text(name, hint=hint)
    if not address.startswith(("postgres://", "postgresql://")):
        # The schema needs partial indexes, arrays and SKIP LOCKED as PostgreSQL has them.
        raise ImproperlyConfigured(f"{name} must start with postgres:// since Watchclock runs on PostgreSQL only.")
    try:
        configuration: dict[str, Any] = _env.db_url(name)
    except (ValueError, ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"{name} is not a database address: {error}") from None
    # Parameters go apart from the statement, so that the batcher can have its statements planned once.
    options = {"server_side_binding": True, **NOTICE_DEAD_HOSTS}
    configuration["OPTIONS"] = {**options, **configuration.get("OPTIONS", {})}
    return configuration


def email(name: str, *, default: str) -> dict[str, Any]:
    """An `smtp+tls://user:password@host:port` address as Django's EMAIL_* settings."""
    try:
        configuration: dict[str, Any] = _env.email_url(name, default=default)
    except (KeyError, ValueError, ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"{name} is not a mail server address: {error}") from None
    settings = {key: value for key, value in configuration.items() if key.startswith("EMAIL")}
    if settings["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend":
        # The same, with an end to every wait.
        settings["EMAIL_BACKEND"] = "incidents.notifications.channels.email.EmailBackend"
    return settings


def _raw(name: str) -> str:
    return text(name, default="")
