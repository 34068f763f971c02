"""Which protocol an address belongs to (pure)."""

import re

from checkins.protocols import cronitor, healthchecks, rest, sentry, uptime_kuma
from checkins.protocols.request import Protocol

Routes = tuple[tuple[re.Pattern[str], Protocol], ...]

_BY_FIRST_SEGMENT: dict[str, Routes] = {
    "ping": healthchecks.ROUTES,  # also used by some of Cronitor's clients; `decode` distinguishes them by the query
    "p": cronitor.ROUTES,
    # No address matches two of these: Sentry's have a number where the others have a word.
    "api": sentry.ROUTES + rest.ROUTES + uptime_kuma.ROUTES,
}


# The last pattern of these matches all addresses that begin with the segment.
_ONLY_ONE = {"ping": healthchecks.ROUTES[-1][1], "p": cronitor.ROUTES[-1][1]}
_SLASHES = re.compile("/{2,}")


def is_ingest_path(path: str) -> bool:
    """Return whether ingest answers a path, if only with 404: all paths that clients may use for a check-in.

    Django answers all other paths, also those under `/api/`.
    """
    if "//" in path:
        path = _SLASHES.sub("/", path)
    first, _, rest = path[1:].partition("/")
    if first != "api":
        return first in _ONLY_ONE or path.endswith(("/envelope/", "/envelope"))
    second = rest.partition("/")[0]
    return second == "push" or (second.isascii() and second.isdigit()) or find_route(path) is not None


def find_protocol(path: str) -> Protocol | None:
    """As `find_route`, without the groups of the address: most paths then need no pattern."""
    only_one = _ONLY_ONE.get(path[1:].partition("/")[0])
    if only_one is not None and path.startswith("/"):
        return only_one
    found = find_route(path)
    return None if found is None else found[0]


def find_route(path: str) -> tuple[Protocol, dict[str, str]] | None:
    """Return the protocol of a percent-decoded path and the named groups of its pattern; None for any other address.

    This runs for every request, so the first segment is checked before any pattern.
    """
    if "//" in path:  # A base address that ends with a slash, and a path that begins with one (D28).
        path = _SLASHES.sub("/", path)
    routes = _BY_FIRST_SEGMENT.get(path[1:].partition("/")[0])
    if routes is None:
        # A DSN may have any path before Sentry's own.
        if not path.endswith(("/envelope/", "/envelope")):
            return None
        routes = sentry.ROUTES
    for pattern, protocol in routes:
        if found := pattern.fullmatch(path):
            return protocol, {name: text for name, text in found.groupdict().items() if text is not None}
    return None
