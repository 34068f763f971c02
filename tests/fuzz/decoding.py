"""Looking for inputs that make the decoders raise what they must not, guided by which branches an input reaches.

    python -m tests.fuzz.decoding [SECONDS]        part of `make fuzz`

An input is a file: its first byte chooses who decodes the rest. It begins with what tests/fuzz/crashes and real clients
have; an input that makes a decoder raise is written to tests/fuzz/crashes, where the tests try it for ever.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

try:
    import atheris
except ImportError:  # The tests try what it once found, without it.
    atheris = None

CRASHES = Path(__file__).parent / "crashes"
INPUT_BYTES_MAX = 4096
RECEIVED_AT = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


def _protocols() -> tuple[Callable[[bytes], object], ...]:
    from checkins.exceptions import IngestError
    from checkins.messages import Outcome, Source
    from checkins.protocols.decoding import decode_body, decode_json
    from checkins.protocols.fields import parse_checkin
    from checkins.protocols.request import IngestRequest, KnownSender, Limits
    from checkins.protocols.routes import find_route
    from checkins.protocols.sentry_envelope import parse_envelope

    limits = Limits(body_bytes_max=65_536, checkin_bytes_max=8_192, log_bytes_max=1_000)

    def refused(call: Callable[[], object]) -> object:
        try:
            return call()
        except IngestError as error:
            _is_a_refusal(error.status)
            return None

    def body(data: bytes) -> None:
        encodings = ("", "gzip", "deflate", "br", "zstd")
        encoding = encodings[data[0] % len(encodings)] if data else ""
        plain = refused(lambda: decode_body(data[1:], encoding, 10_000))
        assert plain is None or (isinstance(plain, bytes) and len(plain) <= 10_000)

    def check_in(data: bytes) -> None:
        try:
            value = decode_json(data)
        except IngestError:
            return
        parse_checkin(value, project_id=1, received_at=RECEIVED_AT, source=Source.REST)

    def request(data: bytes) -> None:
        """Method, path, query and headers are lines, the rest is the body."""
        method, path, query, *headers = data.split(b"\n", 8)[:8]
        content = b"\n".join(data.split(b"\n", 8)[8:])
        names = ("authorization", "content-encoding", "content-type", "user-agent", "x-sentry-auth")
        said = IngestRequest(
            method=method.decode("latin-1"),
            path="/" + path.decode(errors="replace"),
            query=query.decode(errors="replace"),
            headers={name: value.decode("latin-1") for name, value in zip(names, headers, strict=False) if value},
            body=content,
            body_bytes=len(content),
            received_at=RECEIVED_AT,
        )
        found = find_route(said.path)
        if found is None:
            return
        protocol, address = found
        try:
            protocol.identify(said, address, limits)
        except IngestError as error:
            _is_a_refusal(protocol.refuse(error).status)
            return
        slug = "nightly-report" if "guid" in address else None
        decoded = protocol.decode(said, address, KnownSender(1, slug, slug), limits)
        answer = decoded.answer([Outcome(accepted=True) for _ in decoded.messages])
        assert 200 <= answer.status < 300 or 400 <= answer.status < 500

    return (
        lambda data: refused(lambda: parse_envelope(data, limits)),
        lambda data: refused(lambda: decode_json(data)),
        body,
        check_in,
        lambda data: request(data) if data.count(b"\n") >= 2 else None,
    )


def _is_a_refusal(status: int) -> None:
    assert 400 <= status < 500, status


_found: list[tuple[Callable[[bytes], object], ...]] = []


def decode(data: bytes) -> None:
    """Hand an input to the decoder that it names. Raises if that raises what no client may make it raise."""
    if not _found:
        _found.append(_protocols())
    if data:
        _found[0][data[0] % len(_found[0])](data[1:])


def seeds() -> list[bytes]:
    """Return inputs to begin with: one or more for each decoder, as real clients send them."""
    from tests.fuzz.strategies import CHECK_IN, CLIENT_REPORT, GUID, KEY, PACKERS, REST_CHECK_IN, SENTRY_AUTH, SLUG

    check_in, report, own = (json.dumps(value).encode() for value in (CHECK_IN, CLIENT_REPORT, REST_CHECK_IN))
    envelope = b'{"event_id": "9bcf8290d35740b69389768966df76b6"}\n{"type": "check_in", "length": %d}\n%s\n%s\n%s\n' % (
        len(check_in),
        check_in,
        b'{"type": "client_report"}',
        report,
    )
    bearer = b"Bearer " + KEY.encode()
    json_type = b"application/json"
    requests = [
        (b"POST", b"api/1/envelope/", b"", b"", b"", b"", b"", SENTRY_AUTH, envelope),
        (b"POST", b"api/1/cron/%s/%s/" % (SLUG.encode(), KEY.encode()), b"", b"", b"", json_type, b"", b"", check_in),
        (b"GET", b"api/1/cron/%s/%s" % (SLUG.encode(), KEY.encode()), b"status=ok&duration=3", *[b""] * 5, b""),
        (b"GET", b"ping/%s/start" % GUID.encode(), b"rid=%s" % GUID.encode(), *[b""] * 5, b"log"),
        (
            b"GET",
            b"p/%s/%s/complete" % (KEY.encode(), SLUG.encode()),
            b"metric=duration:1&series=2&stamp=3",
            *[b""] * 5,
            b"",
        ),
        (b"GET", b"api/push/%s" % GUID.encode(), b"status=up&msg=OK&ping=5", *[b""] * 5, b""),
        (b"POST", b"api/v1/checkins", b"", bearer, b"", json_type, b"", b"", b'{"checkins": [' + own + b"]}"),
    ]
    packed = [
        bytes([2, n]) + PACKERS[name](check_in) for n, name in enumerate(["identity", "gzip", "deflate", "br", "zstd"])
    ]
    return [
        b"\x00" + envelope,
        b"\x01" + own,
        *packed,
        b"\x03" + check_in,
        *(b"\x04" + b"\n".join(lines) for lines in requests),
    ]


def main() -> None:
    """Look for so many seconds. Ends with exit status 77 at the first input that raises, after it is written down."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    if atheris is None:
        sys.stderr.write("atheris has no package for this system: what needs it is left out.\n")
        return
    with atheris.instrument_imports(include=["checkins.protocols"]):
        _found.append(_protocols())
    CRASHES.mkdir(exist_ok=True)
    corpus = Path(tempfile.mkdtemp(prefix="watchclock-fuzz-"))  # The search ends the process, which leaves it behind.
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-timeout=10",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={CRASHES}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus), str(CRASHES)], decode)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
