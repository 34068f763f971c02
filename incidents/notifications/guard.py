"""Which addresses outgoing requests may reach (pure), and an audit hook that holds every socket of a process to it.

A channel's address is chosen by users, and this server stands inside somebody's network. So an address is judged when
it is connected to, as a number: names and redirects can lead anywhere.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from incidents.exceptions import IncidentsError

Network = IPv4Network | IPv6Network
_EXTRA: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "100.64.0.0/10",
        "192.88.99.0/24",
        "168.63.129.16/32",
        "fec0::/10",
        "2001::/32",
        "64:ff9b:1::/48",
        "3fff::/20",
        "5f00::/16",
    )
)
"""Networks that are inside, or lead there, although some versions of `ipaddress` call them global."""
_METADATA: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",
        "168.63.129.16/32",
        "100.100.100.200/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
    )
)
"""Where clouds serve a machine its secrets: an allowed network that is larger does not open them."""
_NAT64, _COMPATIBLE = IPv6Network("64:ff9b::/96"), IPv6Network("::/96")
_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
REFUSAL = "the address is inside a network that may not be reached (NOTIFY_ALLOWED_NETWORKS)"
"""The same words whatever is there, so that nothing can be learnt from them."""


class RefusedAddressError(IncidentsError, OSError):
    """A connection to this address is not allowed."""

    def __init__(self) -> None:
        super().__init__(REFUSAL)


def may_be_reached(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Return whether a numeric address is public, or in an allowed network. Raises `ValueError` for a name.

    An IPv4 address within an IPv6 address is judged itself; NAT64 of a public address stays usable.

    >>> may_be_reached("1.1.1.1"), may_be_reached("64:ff9b::7f00:1"), may_be_reached("127.0.0.1")
    (True, False, False)
    """
    ip = ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and (ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1)):
            inner = IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return may_be_reached(str(inner), allowed)
    secret = next((network for network in _METADATA if ip in network), None)
    if any(ip in network and (secret is None or _is_within(network, secret)) for network in allowed):
        return True
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _EXTRA)


def _is_within(network: Network, outer: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(outer, IPv4Network) and network.subnet_of(outer)
    return isinstance(outer, IPv6Network) and network.subnet_of(outer)


def judge(host: object, allowed: Sequence[Network]) -> None:
    """Raise `RefusedAddressError` unless a socket may connect to this host, which must be a number."""
    try:
        is_fine = isinstance(host, str) and may_be_reached(host, allowed)
    except ValueError:
        is_fine = False
    if not is_fine:
        raise RefusedAddressError


# --- every socket of a process

_guarded: ContextVar[tuple[tuple[Network, ...], list[object]] | None] = ContextVar("guarded", default=None)
"""The networks that may be reached, and a list of what was refused."""
_is_installed = False


@contextlib.contextmanager
def guarded(allowed: Sequence[Network] | None) -> Iterator[list[object]]:
    """Hold the sockets of this context to `may_be_reached`, if the hook is installed; others are not touched.

    Gives a list of the addresses that were refused. None guards nothing: what is behind a proxy cannot be seen.
    """
    refused: list[object] = []
    token = _guarded.set(None if allowed is None else (tuple(allowed), refused))
    try:
        yield refused
    finally:
        _guarded.reset(token)


def install_audit_hook() -> None:
    """Let this process refuse connections in a `guarded` context. It cannot be taken out again.

    It sees every Python socket; not those of C libraries, such as libpq and libcurl.
    """
    global _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _CONNECTS or (guarding := _guarded.get()) is None:
        return
    allowed, refused = guarding
    address = arguments[1]
    if address is None and event == "socket.sendmsg":  # The socket is connected already.
        return
    host = address[0] if isinstance(address, tuple) and address else address
    try:
        judge(host, allowed)
    except RefusedAddressError:
        refused.append(host)
        raise
