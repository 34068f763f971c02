"""What a stranger, or a client gone wrong, sends: the smallest inputs that once stopped everybody, and neighbours.

Each kind is a function of a random generator and the sender's key; it returns requests as bytes, which are sent at
once, several at a time. They were found by attacking an instance; each stands for a kind, which the random part covers.
"""

import gzip
import json
import random
import zlib
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from drills.load import http_request

WORST_CRONTABS = (
    "* 1-2 25-31 3 */7",
    "* 2 * 3 SUN#2",
    "* 2 25-31 3 */7",
    "* 1 25-31 3 */7",
    "* 2 8-14 3 */7",
    "*/59 1-2 25-31 3 */7",
    "*/30 2 8-14 3 */7",
    "* 2 L 3 */7",
    "0 0 30 2 *",
    "0 0 29 2 1#5",
)
SPARSE_FIELDS = (
    ("*", "0", "*/59", "30", "59"),
    ("*", "0", "1", "1-2", "2", "3"),
    ("*", "1", "8-14", "25-31", "29", "30", "31", "L", "LW"),
    ("*", "2", "3", "4", "9", "10", "11"),
    ("*", "*/7", "SUN#2", "0", "1#5", "SUN#5", "7"),
)
"""Minutes, hours, days, months and weekdays of which many crontabs have few times, and some none."""
WORST_ZONES = ("Antarctica/Troll", "America/New_York", "Europe/Vienna", "Australia/Lord_Howe", "Africa/Casablanca")
ZONES = sorted(zoneinfo.available_timezones())
BOUNDS = (4 << 10, 64 << 10, 100_000, 102_400, 1 << 20)
"""Bytes: what a payload is cut to, what is light, what a check-in may have, and a megabyte."""
MANY = 1_000
"""Items of one request: as many as are allowed."""


@dataclass(frozen=True)
class Sender:
    """Whose key the inputs carry; `project` is its id."""

    project: int
    key: str


Requests = Sequence[bytes]
Kind = Callable[[random.Random, Sender], Requests]


def sparse_crontabs(chance: random.Random, sender: Sender) -> Requests:
    """New monitors whose times hardly ever come, in any zone."""
    items = []
    for _ in range(5):
        is_worst = chance.random() < 0.5
        crontab = chance.choice(WORST_CRONTABS) if is_worst else _random_crontab(chance)
        zone = chance.choice(WORST_ZONES) if is_worst else chance.choice(ZONES)
        items.append(_check_in(chance, config={"schedule": _crontab(crontab), "timezone": zone}))
    return [_envelope(sender, items)]


def new_monitors(chance: random.Random, sender: Sender) -> Requests:
    """Four hosts that register a thousand jobs each, at once."""
    config = {"schedule": _crontab("0 * * * *")}
    return [_envelope(sender, [_check_in(chance, config=config) for _ in range(MANY)]) for _ in range(4)]


def parked(chance: random.Random, sender: Sender) -> Requests:
    """Thousands of check-ins for a monitor that nobody knows, in a few hundred bytes each, then its configuration."""
    slug = _slug(chance)
    flood = _envelope(sender, [{"monitor_slug": slug, "status": "ok"}] * MANY, encoding="gzip")
    return [flood] * 17 + [_envelope(sender, [_check_in(chance, slug=slug, config={"schedule": _crontab("@daily")})])]


def bombs(chance: random.Random, sender: Sender) -> Requests:
    """Kilobytes that become megabytes, or millions of values."""
    inner = chance.choice(["[]", "{}", "0", '""', "null", "[[[[]]]]"])
    count = chance.choice([1_000, 33_000, 300_000])
    item = f'{{"monitor":"zz","status":"ok","x":[{",".join([inner] * count)}]}}'
    items = min(195, max(1, 19_000_000 // len(item)))
    body = f'{{"checkins":[{",".join([item] * items)}]}}' if chance.random() < 0.5 else f"[{','.join([item] * items)}]"
    packed = zstandard.ZstdCompressor(level=3).compress(body.encode())
    return [_rest(sender, packed, "Content-Encoding: zstd")] * 3


def deep(chance: random.Random, sender: Sender) -> Requests:
    """Values within values, around the bound and far beyond."""
    depth = chance.choice([9, 10, 49, 50, 51, 499, 500, 501, 100_000])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}")])
    inner = opening * depth + "0" + closing * depth
    return [_rest(sender, f'{{"monitor":"deep","status":"ok","x":{inner}}}'.encode()), _rest(sender, inner.encode())]


def large(chance: random.Random, sender: Sender) -> Requests:
    """Check-ins and bodies around their bounds."""
    size = chance.choice([100_000, 102_399, 102_400, 102_401, 1 << 20, (20 << 20) - 200, (20 << 20) + 1])
    item = {"monitor_slug": _slug(chance), "status": "ok", "release": "x" * size}
    return [_envelope(sender, [item]), _rest(sender, b'{"monitor":"a","status":"ok","y":"' + b"x" * size + b'"}')]


def refused(chance: random.Random, sender: Sender) -> Requests:
    """Thousands of check-ins that are refused, each as large as one may be."""
    item = {"monitor_slug": "!!!", "status": chance.choice(["", "maybe", "ok"]), "trash": "x" * 99_000}
    return [_envelope(sender, [item] * 195)] * 5


def odd_bytes(chance: random.Random, sender: Sender) -> Requests:
    """Paths, headers and bodies of no protocol."""
    path = chance.choice(
        ["/ping/%00%ff%fe", "/api/x/envelope/", f"/api/{sender.project}/cron/%2e%2e/{sender.key}/", "/p/" + "a" * 4_000]
    )
    body = chance.randbytes(chance.choice([0, 1, 100, 65_536]))
    encoding = chance.choice(["gzip", "zstd", "br", "deflate", "identity", "gzip, gzip"])
    return [
        http_request("POST", path, body),
        _rest(sender, body, f"Content-Encoding: {encoding}"),
        http_request("POST", f"/api/{sender.project}/envelope/?sentry_key={sender.key}", body),
    ]


def around_bounds(chance: random.Random, sender: Sender) -> Requests:
    """Sizes, counts and depths around each bound, sent plain and in each encoding."""
    requests = []
    for encoding in ("", "gzip", "zstd", "deflate"):
        count = chance.choice([1, 49, 50, 51, 199, 200, 201, MANY - 1, MANY, MANY + 1])
        size = chance.choice([0, 1, *(bound + step for bound in BOUNDS for step in (-1, 0, 1))]) // count
        depth = chance.choice([0, 1, 8, 9, 10, 31, 32, 33, 49, 50, 51])
        item = f'{{"monitor":"{_slug(chance)}","status":"ok","x":"{"x" * size}","y":{"[" * depth}{"]" * depth}}}'
        if not depth:
            item = f'{{"monitor":"{_slug(chance)}","status":"ok","x":"{"x" * size}"}}'
        body = f"[{','.join([item] * count)}]".encode()
        match encoding:
            case "gzip":
                body = gzip.compress(body)
            case "zstd":
                body = zstandard.compress(body)
            case "deflate":
                body = zlib.compress(body)
        requests.append(_rest(sender, body, *([f"Content-Encoding: {encoding}"] if encoding else [])))
    return requests


def every_zone(chance: random.Random, sender: Sender) -> Requests:
    """A sparse crontab in each of a tenth of all zones."""
    items = [
        _check_in(chance, config={"schedule": _crontab(_random_crontab(chance)), "timezone": zone})
        for zone in ZONES[chance.randrange(10) :: 10]
    ]
    return [_envelope(sender, items, encoding=chance.choice(["", "gzip"]))]


def spooled(sender: Sender, count: int) -> Requests:
    """What fills pages of a spool: check-ins of three kilobytes each, to be recognised there."""
    item = {"monitor_slug": "spooled-abuse", "status": "ok", "release": "spooled-abuse" * 230}
    return [_envelope(sender, [item])] * count


STREAMS: dict[str, Kind] = {
    "sizes around bounds": around_bounds,
    "sparse crontabs in every zone": every_zone,
    "sparse crontabs": sparse_crontabs,
    "new monitors": new_monitors,
    "parked check-ins": parked,
    "bombs": bombs,
    "deep values": deep,
    "large check-ins": large,
    "refused check-ins": refused,
    "odd bytes": odd_bytes,
}
"""What is sent, one kind after the other; the names stand in the drill's output."""


def stalled_upload(length: int) -> tuple[bytes, bytes]:
    """A request without a key whose last byte is kept back: what is sent at once, and that byte."""
    body = b"x" * length
    request = http_request("POST", "/api/1/envelope/", body)
    return request[:-1], request[-1:]


def _random_crontab(chance: random.Random) -> str:
    return " ".join(chance.choice(field) for field in SPARSE_FIELDS)


def _crontab(value: str) -> dict[str, str]:
    return {"type": "crontab", "value": value}


def _slug(chance: random.Random) -> str:
    return f"abuse-{chance.getrandbits(64):x}"


def _check_in(chance: random.Random, *, config: dict[str, Any], slug: str | None = None) -> dict[str, Any]:
    return {"monitor_slug": slug or _slug(chance), "status": "ok", "monitor_config": config}


def _envelope(sender: Sender, items: Sequence[dict[str, Any]], *, encoding: str = "") -> bytes:
    lines = [b"{}"]
    for item in items:
        payload = json.dumps(item).encode()
        lines += [json.dumps({"type": "check_in", "length": len(payload)}).encode(), payload]
    body = b"\n".join([*lines, b""])
    headers = [f"X-Sentry-Auth: Sentry sentry_key={sender.key}, sentry_version=7"]
    if encoding == "gzip":
        body = gzip.compress(body)
        headers.append("Content-Encoding: gzip")
    return http_request("POST", f"/api/{sender.project}/envelope/", body, *headers)


def _rest(sender: Sender, body: bytes, *headers: str) -> bytes:
    return http_request("POST", "/api/v1/checkins", body, f"Authorization: Bearer {sender.key}", *headers)
