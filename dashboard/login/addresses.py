"""Who asks: the address of a person behind the proxies of TRUSTED_PROXIES."""

import ipaddress
from collections.abc import Sequence

from django.conf import settings
from django.http import HttpRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN = "0.0.0.0"  # noqa: S104 - no address to listen on
"""The address of a connection that has none, as that of a socket file."""


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
    """Return the address of the person who asks, behind the proxies of TRUSTED_PROXIES. Always an address."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    address = client_address(request.META.get("REMOTE_ADDR", ""), forwarded, settings.TRUSTED_PROXIES)
    return address if _parsed(address) else UNKNOWN
