"""Requests of every protocol as no client should send them: valid ones with parts replaced, cut and mislabelled.

Pure chance never gets past the first line of a parser. So everything here begins with what a real client sends, and
most requests keep most of it; then they reach the parts behind.
"""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import brotli  # type: ignore[import-untyped]
import zstandard
from hypothesis import strategies as st

from drills.abuse_inputs import SPARSE_FIELDS, WORST_CRONTABS, WORST_ZONES, ZONES

PROJECT_ID = 4711
KEY = "0123456789abcdef0123456789abcdef"
SLUG = "nightly-report"
GUID = "5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a"
"""What the tests have in their database: a project with a key, and a monitor."""


@dataclass(frozen=True)
class Sent:
    """A request as the server hands it to the edge: the path is decoded, the body comes in chunks."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    chunks: tuple[bytes, ...] = ()
    end: str = "complete"


# Values

seldom = st.sampled_from([False] * 19 + [True])  # Of numbers, 0 would come more often than its share.
letters = st.characters(exclude_categories=())  # with lone surrogates
odd_texts = st.one_of(
    st.text(letters, max_size=8),
    st.sampled_from(
        [
            "",
            " ",
            "\x00",
            "\ud800",
            "a\udcffb",
            "\r\nx: y",
            "/",
            "\u202e",
            "\u0130\u0131",
            "\ufffd",
            "e" * 65,
            "\U0001f4a5" * 60,
            "null",
            "-1",
            "1e999",
            "9" * 400,
            "0" * 32,
            KEY,
            "production",
            "user:1",
            "Europe/Vienna",
            "../../etc/passwd",
            "* * * * *",
            "{{7*7}}<script>",
            "2026-01-05T10:00:00Z",
            "-9999-01-01",
        ]
    ),
)
odd_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(
        [0, -1, 2**31, 2**53, 2**63, 2**64, 10**400, -(10**400), 1e308, 5e-324, float("nan"), float("inf")]
    ),
)
odd_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | odd_numbers | odd_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=6,
)
deep_json = st.builds(
    lambda depth, opening, closing: opening * depth + b"1" + closing * depth,
    st.sampled_from([19, 20, 21, 49, 50, 51, 499, 501, 5_000, 100_000]),
    *([st.just(b"["), st.just(b"]")]),
) | st.sampled_from([b'{"a":' * 60 + b"1" + b"}" * 60, b"[" * 200_000, b"1" * 6_000, b"-", b'"\\ud800"', b'"\xff"'])


@st.composite
def mangled(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with some of its members replaced by anything, left out, or joined by others."""
    result = dict(value)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
        name = draw(st.sampled_from(sorted(result)) if result else odd_texts)
        how = draw(st.sampled_from(["replace", "replace", "inside", "drop", "join"]))
        if how == "drop":
            result.pop(name, None)
        elif how == "inside" and isinstance(result.get(name), dict):
            result[name] = draw(mangled(result[name]))
        else:
            result[draw(odd_texts) if how == "join" else name] = draw(odd_values)
    return result


@st.composite
def json_bytes(draw: st.DrawFn, value: Any) -> bytes:
    """A JSON value as text: with or without escapes, of which lone surrogates become bytes that are not UTF-8."""
    if draw(seldom):
        return draw(deep_json)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    encoding = draw(st.sampled_from(["utf-8"] * 18 + ["utf-8-sig", "utf-16"]))
    return text.encode(encoding, errors="surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Bytes as they are, most of the time; else cut off, or with something put in, replaced or repeated."""
    how = draw(st.sampled_from(["whole"] * 24 + ["cut", "put", "replace", "repeat"]))
    at = draw(st.integers(0, len(body)))
    if how == "cut":
        return body[:at]
    if how == "put":
        return body[:at] + draw(st.binary(max_size=4)) + body[at:]
    if how == "replace":
        return body[:at] + draw(st.binary(min_size=1, max_size=2)) + body[at + 1 :]
    if how == "repeat":
        return body + body[at:]
    return body


def deflated(body: bytes) -> bytes:
    """Return a bare deflate stream, which some clients call "deflate"."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": deflated,
    "br": lambda body: brotli.compress(body, quality=1),
    "zstd": zstandard.compress,
}


@st.composite
def packed(draw: st.DrawFn, body: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A body under one of the content encodings, seldom damaged or called by another's name, and its header."""
    name = draw(st.sampled_from([*[None] * 7, *PACKERS]))
    if name is None:
        return body, []
    packed_body = draw(damaged(PACKERS[name](body)))
    if draw(seldom):
        name = draw(st.sampled_from([*PACKERS, "gzip, br", "compress", "\xff", ""]))
    return packed_body, [(b"content-encoding", name.encode("latin-1"))]


# Check-ins

CHECK_IN: dict[str, Any] = {
    "check_in_id": "941723b3aef34230b0dda4e899818344",
    "monitor_slug": SLUG,
    "status": "ok",
    "environment": "production",
    "duration": 12.5,
    "timestamp": "2026-01-05T10:00:00.123Z",
    "contexts": {"trace": {"trace_id": "8f431b7aa08441bbbd5a0100fd91f9fe"}},
    "monitor_config": {
        "schedule": {"type": "crontab", "value": "*/5 * * * *"},
        "checkin_margin": 5,
        "max_runtime": 30,
        "timezone": "Europe/Vienna",
        "failure_issue_threshold": 1,
        "recovery_threshold": 1,
        "owner": "team:night",
    },
}
CLIENT_REPORT: dict[str, Any] = {
    "timestamp": 1767607200.5,
    "discarded_events": [
        {"reason": "network_error", "category": "monitor", "quantity": 3},
        {"reason": "queue_overflow", "category": "error", "quantity": 1},
    ],
}
REST_CHECK_IN: dict[str, Any] = {
    "monitor": SLUG,
    "status": "error",
    "id": "941723b3-aef3-4230-b0dd-a4e899818345",
    "environment": "staging",
    "duration": "3.5",
    "exit_status": 3,
    "log": "caf\u00e9\x00 \ud83d",
    "trace_id": "8f431b7aa08441bbbd5a0100fd91f9fe",
    "config": CHECK_IN["monitor_config"],
}

sparse_crontabs = st.sampled_from(WORST_CRONTABS) | st.tuples(*map(st.sampled_from, SPARSE_FIELDS)).map(" ".join)
zones = st.sampled_from(WORST_ZONES) | st.sampled_from(ZONES)
configurations = st.just(CHECK_IN["monitor_config"]) | st.builds(
    lambda crontab, zone: (
        CHECK_IN["monitor_config"] | {"schedule": {"type": "crontab", "value": crontab}, "timezone": zone}
    ),
    sparse_crontabs,
    zones,
)
"""A usual one, or one whose times hardly ever come, in any zone (D34)."""


@st.composite
def check_ins(draw: st.DrawFn, sample: dict[str, Any]) -> dict[str, Any]:
    """A check-in of one of a few runs and monitors, so that several of them meet."""
    fields = dict(sample)
    fields["config" if "config" in sample else "monitor_config"] = draw(configurations)
    slug_name, id_name = ("monitor", "id") if "monitor" in sample else ("monitor_slug", "check_in_id")
    fields[slug_name] = draw(st.sampled_from([SLUG, SLUG, "Other Job!", "new-" + "x" * 70]))
    fields["status"] = draw(st.sampled_from(["in_progress", "ok", "error"]))
    fields[id_name] = draw(st.sampled_from([sample[id_name], "f" * 32, "0" * 32, None]))
    for name in draw(st.sets(st.sampled_from(sorted(set(fields) - {slug_name, "status"})), max_size=3)):
        del fields[name]
    return draw(mangled(fields))


# Rows

stored_texts = odd_texts.filter(lambda text: not re.search("[\x00\ud800-\udfff]", text)).map(lambda text: text[:64])
spoilt_columns = st.fixed_dictionaries(
    {}, optional={"timezone": zones | stored_texts, "crontab": sparse_crontabs | stored_texts}
)
"""Columns of a monitor as another version or a hand in the database leaves them: many cannot be read (D37)."""


# Requests


def lossily_decoded(raw_path: bytes) -> str:
    """Return a path as the server decodes it: U+FFFD for what is not UTF-8."""
    return unquote(raw_path.decode("latin-1"), encoding="utf-8", errors="replace")


segments = st.one_of(
    st.sampled_from(
        [SLUG, "new-job", "start", "fail", "log", "run", "complete", "ok", "0", "255", "256", "-1", KEY, GUID]
    ),
    odd_texts,
)


@st.composite
def paths(draw: st.DrawFn, path: str) -> str:
    """A path as it is or with another segment, with and without a slash at its end; seldom what granian never says."""
    parts = path.split("/")
    how = draw(st.sampled_from(["whole"] * 12 + ["replace", "join"]))
    if how == "replace":
        parts[draw(st.integers(1, len(parts) - 1))] = draw(segments)
    elif how == "join":
        parts.append(draw(segments))
    said = "/".join(parts) + draw(st.sampled_from(["", "/"]))
    if draw(seldom):
        return said
    return lossily_decoded(quote(said, safe="/", errors="surrogatepass").encode())


@st.composite
def queries(draw: st.DrawFn, known: dict[str, list[str]], *, always: tuple[str, ...] = ()) -> bytes:
    """A query of known names with usual and odd values, and seldom anything else."""
    chosen = [*always, *draw(st.lists(st.sampled_from(sorted(known)), max_size=5))]
    pairs = [(name, draw(st.sampled_from(known[name]) | odd_texts)) for name in chosen]
    if draw(seldom):
        pairs.append((draw(odd_texts), draw(odd_texts)))
    safe = draw(st.sampled_from(["", "=+%", ":/"]))
    query = "&".join(
        f"{quote(name, safe=safe, errors='surrogatepass')}={quote(value, safe=safe, errors='surrogatepass')}"
        for name, value in pairs
    )
    return draw(damaged(query.encode()))


@st.composite
def requests_to(
    draw: st.DrawFn,
    path: str,
    *,
    methods: list[str],
    body: bytes = b"",
    query: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Sent:
    """A request with this body, under any encoding, in any pieces, complete or cut off with its connection."""
    packed_body, encoding = draw(packed(body))
    said = [*headers, *encoding, (b"host", b"watchclock"), (b"user-agent", draw(header_values))]
    if draw(seldom):
        said.insert(
            0, (draw(st.sampled_from([b"authorization", b"x-sentry-auth", b"content-type"])), draw(header_values))
        )
    if packed_body:
        said.append(draw(st.sampled_from([(b"transfer-encoding", b"chunked"), (b"content-length", b"7")])))
    cut = draw(st.integers(0, len(packed_body)))
    return Sent(
        method=draw(st.sampled_from(methods * 12 + ["HEAD", "PUT", "OPTIONS", "get", "M-SEARCH"])),
        path=draw(paths(path)),
        query=query,
        headers=tuple(said),
        chunks=(packed_body[:cut], packed_body[cut:]) if packed_body else (),
        end=draw(st.sampled_from(["complete"] * 5 + ["cut"])),
    )


header_values = st.one_of(
    st.sampled_from(
        [
            b"curl/8",
            b"sentry.python/1.30.0",
            b"",
            b"\xff\x80",
            b"application/json",
            b"APPLICATION/JSON; charset=utf-16",
            b"Bearer " + KEY.encode(),
            b"Basic " + base64.b64encode(KEY.encode() + b":"),
            b"Basic !",
            b"Sentry sentry_key",
            b"Sentry sentry_key=" + KEY.encode() + b", sentry_version=99999999",
        ]
    ),
    st.binary(max_size=20).map(lambda raw: bytes(byte for byte in raw if byte >= 32)),  # what HTTP allows
)


COUNTS = (1, 49, 50, 51, 200, 201, 999, 1_000, 1_001)
SIZES = (0, *(bound + step for bound in (4 << 10, 64 << 10, 100_000, 102_400, 1 << 20) for step in (-1, 0, 1)))
DEPTHS = (0, 1, 9, 10, 11, 31, 32, 33, 49, 50, 51, 500, 100_000)


@st.composite
def bounds_met(draw: st.DrawFn, id_names: tuple[str, str], field_names: tuple[str, ...]) -> list[bytes]:
    """Check-ins as many, as large and as deep as is allowed, one more or one less, as JSON.

    `id_names` are the names of the job and of the run; one of `field_names` gets what is large, one what is deep.
    """
    count, size, depth = (draw(st.sampled_from(bounds)) for bounds in (COUNTS, SIZES, DEPTHS))
    opening, closing = draw(st.sampled_from([("[", "]"), ('{"a":', "}")]))
    deep = opening * depth + "0" + closing * depth
    job, run = id_names
    large_name, deep_name = (draw(st.sampled_from(field_names)) for _ in range(2))
    plain = f'{{"{job}":"{SLUG}","status":"ok","{run}":null,"{large_name}":"{"x" * (size // count)}"}}'
    last = f'{{"{job}":"{SLUG}","status":"ok","{run}":null,"{deep_name}":{deep}}}'
    return [one.encode() for one in [plain] * (count - 1) + [last]]


SENTRY_FIELDS = ("x", "release", "environment", "monitor_config", "contexts")
sentry_bounds_met = bounds_met(("monitor_slug", "check_in_id"), SENTRY_FIELDS)


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Items with right, wrong and no lengths, of types that we take and others."""
    header = {"event_id": "9bcf8290d35740b69389768966df76b6", "dsn": f"https://{KEY}@watchclock/{PROJECT_ID}"}
    lines = [draw(json_bytes(draw(mangled(header)) if draw(seldom) else header))]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3, 8]))):
        kind = draw(st.sampled_from(["check_in"] * 6 + ["client_report"] * 2 + ["event", "attachment"]))
        sample = {"check_in": CHECK_IN, "client_report": CLIENT_REPORT}.get(kind, {"message": "hello"})
        said = draw(check_ins(sample)) if kind == "check_in" else draw(mangled(sample))
        payload = draw(json_bytes(said))
        item: dict[str, Any] = {"type": kind}
        length = draw(st.sampled_from(["right"] * 16 + ["none"] * 8 + ["wrong", "odd"]))
        if length != "none":
            wrong = len(payload) + draw(st.integers(-3, 3))
            item["length"] = {"right": len(payload), "wrong": wrong, "odd": draw(odd_values)}[length]
        lines += [draw(json_bytes(draw(mangled(item)) if draw(seldom) else item)), payload]
    return draw(damaged(b"\n".join(lines) + draw(st.sampled_from([b"", b"\n", b"\n\n", b"\r\n"]))))


def enveloped(items: list[bytes]) -> bytes:
    """Check-ins in an envelope."""
    heads = (b'{"type":"check_in","length":%d}' % len(item) for item in items)
    return b"\n".join([b"{}", *(part for pair in zip(heads, items, strict=True) for part in pair), b""])


SENTRY_AUTH = f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client=sentry.python/2.75.0".encode()
KEY_PLACES: list[tuple[bytes, tuple[tuple[bytes, bytes], ...]]] = [
    (b"", ((b"x-sentry-auth", SENTRY_AUTH),)),
    (b"", ((b"authorization", SENTRY_AUTH),)),
    (b"", ((b"authorization", b"Basic " + base64.b64encode(KEY.encode() + b":")),)),
    (b"sentry_key=" + KEY.encode(), ()),
    (b"", ()),  # The envelope's header has it.
]


@st.composite
def envelope_requests(draw: st.DrawFn) -> Sent:
    """Sentry's envelopes (E1)."""
    query, headers = draw(st.sampled_from(KEY_PLACES))
    prefix = draw(st.sampled_from(["", "", "", "/sentry", "/a\x00b"]))
    path = f"{prefix}/api/{PROJECT_ID}/envelope"
    body = draw(sentry_bounds_met.map(enveloped) if draw(seldom) else envelopes())
    return draw(requests_to(path, methods=["POST"], body=body, query=query, headers=headers))


CRON_QUERY = {
    "status": ["ok", "error", "in_progress"],
    "check_in_id": [CHECK_IN["check_in_id"], "0" * 32],
    "environment": ["production", "staging"],
    "duration": ["1.5", "0"],
    "sentry_key": [KEY],
}


@st.composite
def cron_requests(draw: st.DrawFn) -> Sent:
    """Sentry's plain requests (E2), in the query or as JSON."""
    path = f"/api/{PROJECT_ID}/cron/{draw(st.sampled_from([SLUG, 'new-job']))}/{KEY}"
    if draw(st.booleans()):
        query = draw(
            queries({name: CRON_QUERY[name] for name in CRON_QUERY if name != "sentry_key"}, always=("status",))
        )
        return draw(requests_to(path, methods=["GET", "POST"], query=query))
    said = draw(sentry_bounds_met)[-1] if draw(seldom) else draw(json_bytes(draw(check_ins(CHECK_IN))))
    body = draw(damaged(said))
    return draw(requests_to(path, methods=["POST"], body=body, headers=((b"content-type", b"application/json"),)))


PING_QUERY = {
    "rid": [CHECK_IN["check_in_id"], "123e4567-e89b-12d3-a456-426614174000"],
    "create": ["1", "0"],
    "environment": ["production", "staging"],
}
ADDRESSES = [f"/ping/{GUID}", f"/ping/{KEY}/{SLUG}", f"/ping/{KEY}/new-job"]
bodies = (
    st.binary(max_size=40)
    | st.sampled_from([b"done\n", b"\x00" * 9, b"caf\xe9", b"x" * 200_000])
    | st.sampled_from(SIZES).map(lambda size: b"x" * size)
)


@st.composite
def ping_requests(draw: st.DrawFn) -> Sent:
    """Healthchecks' pings (E3, E4)."""
    action = draw(st.sampled_from(["", "", "/start", "/fail", "/log", "/0", "/3", "/255", "/256", "/007"]))
    path = draw(st.sampled_from(ADDRESSES)) + action
    return draw(
        requests_to(path, methods=["GET", "HEAD", "POST", "PUT"], body=draw(bodies), query=draw(queries(PING_QUERY)))
    )


TELEMETRY_QUERY = {
    "state": ["run", "complete", "fail", "ok", "tick"],
    "series": ["7", "run-1"],
    "stamp": ["1767607200.123", "1e400"],
    "metric": ["duration:1.5", "count:7", "duration:"],
    "duration": ["2"],
    "status_code": ["0", "137"],
    "message": ["done"],
    "msg": ["done"],
    "env": ["production", "staging"],
    "environment": ["staging"],
    "host": ["here"],
}


@st.composite
def telemetry_requests(draw: st.DrawFn) -> Sent:
    """Cronitor's telemetry (E5 to E7), also at Healthchecks' addresses."""
    address = draw(st.sampled_from([f"/p/{KEY}/{SLUG}", f"/p/{KEY}/new-job", *ADDRESSES]))
    action = draw(st.sampled_from(["", "", "/run", "/complete", "/fail", "/ok"]))
    query = draw(queries(TELEMETRY_QUERY, always=("state",) if "/p/" not in address else ()))
    return draw(requests_to(address + action, methods=["GET", "POST"], query=query, body=draw(bodies)))


PUSH_QUERY = {"status": ["up", "down", ""], "msg": ["OK"], "ping": ["12", "0.5"], "environment": ["staging"]}


@st.composite
def push_requests(draw: st.DrawFn) -> Sent:
    """Pushes to Uptime Kuma (E8)."""
    token = draw(st.sampled_from([GUID, GUID.replace("-", ""), GUID.upper()]))
    return draw(
        requests_to(f"/api/push/{token}", methods=["GET", "POST"], query=draw(queries(PUSH_QUERY)), body=draw(bodies))
    )


@st.composite
def rest_requests(draw: st.DrawFn) -> Sent:
    """Our own JSON, with one check-in or many."""
    items = draw(st.lists(st.one_of(*[check_ins(REST_CHECK_IN)] * 5, odd_values), min_size=1, max_size=4))
    value = draw(st.sampled_from([items[0], items, {"checkins": items}, {"checkins": items[0]}]))
    at_bounds = bounds_met(("monitor", "id"), ("x", "log", "config", "environment"))
    many = at_bounds.map(lambda checkins: b"[%b]" % b",".join(checkins))
    body = draw(damaged(draw(many if draw(seldom) else json_bytes(value))))
    headers = ((b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json"))
    return draw(requests_to("/api/v1/checkins", methods=["POST"], body=body, headers=headers))


anything = st.one_of(
    envelope_requests(),
    cron_requests(),
    ping_requests(),
    telemetry_requests(),
    push_requests(),
    rest_requests(),
)
