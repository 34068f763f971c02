"""Which protocol an address belongs to (pure)."""

import re

from checkins.protocols import cronitor, healthchecks, rest, sentry, uptime_kuma
from checkins.protocols.request import Protocol

Routes = tuple[tuple[re.Pattern[str], Protocol], ...]

_BY_FIRST_SEGMENT: dict[str, Routes] = {
    "ping": healthchecks.ROUTES,  # some of Cronitor's clients say so too; the query tells them apart in `decode`
    "p": cronitor.ROUTES,
    # None of these is a form of another: Sentry's have a number where the others have a word.
    "api": sentry.ROUTES + rest.ROUTES + uptime_kuma.ROUTES,
}


# The last pattern of these takes whatever begins with the segment.
_ONLY_ONE = {"ping": healthchecks.ROUTES[-1][1], "p": cronitor.ROUTES[-1][1]}
_SLASHES = re.compile("/{2,}")


def is_ingest_path(path: str) -> bool:
    """Tell whether ingest answers a path, if only with 404: all that clients may mean as a check-in.

    All other paths are Django's, also those under `/api/`.
    """
    if "//" in path:
        path = _SLASHES.sub("/", path)
    first, _, rest = path[1:].partition("/")
    if first != "api":
        return first in _ONLY_ONE or path.endswith(("/envelope/", "/envelope"))
    second = rest.partition("/")[0]
    return second == "push" or (second.isascii() and second.isdigit()) or find_route(path) is not None


def find_protocol(path: str) -> Protocol | None:
    """As `find_route`, for those who need not know what the address says: then no pattern is asked for most."""
    only_one = _ONLY_ONE.get(path[1:].partition("/")[0])
    if only_one is not None and path.startswith("/"):
        return only_one
    found = find_route(path)
    return None if found is None else found[0]


def find_route(path: str) -> tuple[Protocol, dict[str, str]] | None:
    """Return the protocol of a percent-decoded path and the named groups of its pattern; None for any other address.

    Every request is asked about here, so the first segment goes before any pattern.
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
