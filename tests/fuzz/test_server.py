"""Bytes that are no HTTP, or hardly, against the real web: it lives, stays small, and stores the next ping."""

import errno
import os
import random
import re
import socket
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from django.conf import settings

from checkins.ingest.process import TITLE
from checkins.protocols.routes import is_ingest_path
from tests.clients.web_server import WebServer, running_web_server
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("fuzzed-web")]

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
DAMAGED_MIN = 300
"""Damaged requests in `make test`; `make fuzz` sends as many as fit into its time."""
BODY_SECONDS = 1
RESIDENT_BYTES_MAX = {"web": 400 << 20, "batcher": 400 << 20}
"""What a worker and its batcher may take at any moment of this. They begin with some 70 and 80 MB; bodies that arrive
may take INGEST_QUEUE_BYTES_MAX together, which is set to 64 MiB here."""
MEBIBYTE = 1 << 20
OF_US = re.compile('"level": "(error|critical)"|panicked')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, engines: None) -> Iterator[WebServer]:
    home = tmp_path_factory.mktemp("fuzzed-web")
    with running_web_server(
        home,
        os.environ["DATABASE_URL"],
        settings.REDIS_URL,
        INGEST_BODY_SECONDS=str(BODY_SECONDS),
        INGEST_HEADER_SECONDS="2",
        INGEST_QUEUE_BYTES_MAX=str(64 * MEBIBYTE),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def ping_path(server: WebServer) -> str:
    return server.ping_url("fuzzed").removeprefix(server.base_url)


@pytest.fixture(autouse=True)
def it_lives_stays_small_and_stores_the_next_ping(server: WebServer, ping_path: str) -> Iterator[None]:
    before = processes(server)
    read_before = len(server.log.read_text())
    yield
    run = uuid.uuid4()
    # In an environment of its own, since the others have had their share of check-ins of this minute (D13).
    ping = f"{server.base_url}{ping_path}?rid={run}&environment={run}"
    with urllib.request.urlopen(ping, timeout=PATIENCE_SECONDS) as response:
        assert response.status == 200
    assert server.rows("SELECT 1 FROM checkins_checkin WHERE guid = %(guid)s", guid=run)
    assert processes(server) == before, "a process has died"
    for kind, process in before.items():
        assert process.memory_info().rss < RESIDENT_BYTES_MAX[kind], kind
    log = server.log.read_text()[read_before:]
    # A path that is none of ingest's is Django's, which asks for a host that it knows.
    errors = [line for line in log.splitlines() if OF_US.search(line) and "DisallowedHost" not in line]
    assert errors == [], log[-4000:]


def processes(server: WebServer) -> dict[str, psutil.Process]:
    """Return the one worker and its batcher."""
    started = psutil.Process(server.pid).children(recursive=True)
    [batcher] = [process for process in started if " ".join(process.cmdline()).strip() == TITLE]
    worker = batcher.parent()
    assert worker is not None
    return {"web": worker, "batcher": batcher}


def spoken(server: WebServer, *parts: bytes, pause: float = 0.0, at_end: str = "wait") -> bytes:
    """Send these bytes over a connection of its own and return everything that comes back until its end.

    `at_end`: "wait" until the server closes, or "hang up" our half of the connection at once.
    """
    port = int(server.base_url.rpartition(":")[2])
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)  # What is slow is what is tested.
            if at_end == "hang up":
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                heard += chunk
        except OSError as error:  # It need not listen to the end of what it refuses.
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
    return heard


def statuses(heard: bytes) -> list[int]:
    """Return the statuses of the answers in what was heard."""
    return [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]]


def assert_polite(heard: bytes) -> None:
    for status in statuses(heard):
        assert status < 300 or (400 <= status < 500 and status != 429), heard


def a_request(path: str, *lines: bytes, method: bytes = b"POST", body: bytes = b"") -> bytes:
    head = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: x", *lines]
    if not any(line.lower().startswith(b"connection:") for line in lines):
        head.append(b"Connection: close")
    return b"\r\n".join([*head, b"", b""]) + body


MALFORMED = {
    "nothing": (b"",),
    "line feeds": (b"\r\n" * 1000,),
    "half a request line": (b"GET /pi",),
    "half a header": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nConten",),
    "HTTP/0.9": (b"GET {ping}\r\n\r\n",),
    "HTTP/9.9": (b"GET {ping} HTTP/9.9\r\nHost: x\r\n\r\n",),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",),
    "an upgrade": (b"GET {ping} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",),
    "a NUL in the path": (b"GET {ping}\x00 HTTP/1.1\r\nHost: x\r\n\r\n",),
    "a NUL in a header": (b"GET {ping} HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",),
    "a header without colon": (b"GET {ping} HTTP/1.1\r\nHost x\r\n\r\n",),
    "a folded header": (b"GET {ping} HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",),
    "a length that is no number": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\nabc",),
    "a negative length": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nabc",),
    "a huge length": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nabc",),
    "two lengths": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",),
    "a length and chunks": (
        b"POST {ping} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunks of no size": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",),
    "chunks of 2^64": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",),
    "chunks without line feeds": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3abc3abc",),
    "a long extension of a chunk": (
        b"POST {ping} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;"
        + b"e" * 20_000
        + b"\r\nabc\r\n0\r\n\r\n",
    ),
    "many trailers": (
        b"POST {ping} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"t: v\r\n" * 5000 + b"\r\n",
    ),
    "unknown transfer coding": (b"POST {ping} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: cow\r\n\r\nabc",),
    "many headers": (b"GET {ping} HTTP/1.1\r\n" + b"h: v\r\n" * 5000 + b"\r\n",),
    "a header of 100 KB": (b"GET {ping} HTTP/1.1\r\nHost: x\r\nX: " + b"v" * 100_000 + b"\r\n\r\n",),
    "a request line of 100 KB": (b"GET {ping}?" + b"q" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
    "headers for ever": (b"GET {ping} HTTP/1.1\r\n", *[b"x: " + b"v" * 65_000 + b"\r\n"] * 50),
    "noise": tuple(bytes(range(n, 256)) * 5 for n in range(5)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_hardly_http_is_refused_or_dropped(server, ping_path, name):
    parts = [part.replace(b"{ping}", ping_path.encode()) for part in MALFORMED[name]]
    assert_polite(spoken(server, *parts, at_end="hang up"))


def test_a_ping_with_a_query_of_16_kib_is_a_ping(server, ping_path):
    heard = spoken(server, a_request(f"{ping_path}?x={'q' * 16_384}", method=b"GET"))
    assert statuses(heard) == [200]


def test_a_ping_in_ten_thousand_chunks_is_a_ping(server, ping_path):
    chunks = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    assert statuses(spoken(server, a_request(ping_path, b"Transfer-Encoding: chunked", body=chunks))) == [200]


def test_a_body_that_never_ends_is_a_ping_with_what_came(server, ping_path):
    started = time.monotonic()
    assert statuses(spoken(server, a_request(ping_path, b"Content-Length: 100", body=b"what came"))) == [200]
    assert BODY_SECONDS <= time.monotonic() - started < PATIENCE_SECONDS


def test_requests_that_do_not_wait_for_their_answers_get_them_all(server, ping_path):
    requests = [a_request(ping_path, b"Connection: keep-alive", method=b"GET")] * 49 + [
        a_request(ping_path, method=b"GET")
    ]
    assert statuses(spoken(server, b"".join(requests))) == [200] * 50


def test_a_continue_that_is_waited_for_comes(server, ping_path):
    heard = spoken(server, a_request(ping_path, b"Expect: 100-continue", b"Content-Length: 4"), b"done", pause=0.2)
    assert statuses(heard) == [100, 200]


def test_many_large_bodies_that_never_end_stay_within_bounds(server):
    """Together 200 MiB, of which the web may hold 64: who finds no room is told so, and may come again (503)."""
    path = f"/api/{server.project_id}/envelope/?sentry_key={server.key}"
    request = a_request(path, b"Content-Length: %d" % (20 * MEBIBYTE), body=b"x" * (5 * MEBIBYTE))
    with ThreadPoolExecutor(40) as threads:
        sending = [threads.submit(spoken, server, request) for _ in range(40)]
        most = dict.fromkeys(RESIDENT_BYTES_MAX, 0)

        def are_answered() -> bool:
            for kind, process in processes(server).items():
                most[kind] = max(most[kind], process.memory_info().rss)
            return all(one.done() for one in sending)

        wait_until(are_answered, "all bodies are answered")
    for kind, resident in most.items():
        assert resident < RESIDENT_BYTES_MAX[kind], kind
    answers = [status for one in sending for status in statuses(one.result())]
    assert set(answers) <= {400, 503}
    assert answers, "somebody is answered"


def test_damaged_requests_are_answered_or_dropped(server, ping_path):
    """Real requests with bytes replaced, lost and repeated anywhere, over many connections at once."""
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)  # noqa: S311
    check_in = b'{"monitor_slug": "fuzzed", "status": "ok"}'
    envelope = b'{}\n{"type": "check_in", "length": %d}\n%s\n' % (len(check_in), check_in)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(envelope), envelope)
    path = f"/api/{server.project_id}/envelope/?sentry_key={server.key}"
    bearer = b"Authorization: Bearer " + server.key.encode()
    valid = [
        a_request(path, b"Content-Length: %d" % len(envelope), body=envelope),
        a_request(path, b"Transfer-Encoding: chunked", body=chunked),
        a_request(ping_path, b"Content-Length: 4", body=b"done"),
        a_request(f"/p/{server.key}/fuzzed?state=run&series=1", method=b"GET"),
        a_request("/api/v1/checkins", bearer, b"Content-Length: %d" % len(check_in), body=check_in),
        a_request("/login/", method=b"GET"),
    ]
    until = time.monotonic() + SECONDS / 4
    count = 0
    with ThreadPoolExecutor(16) as threads:
        while count < DAMAGED_MIN or time.monotonic() < until:
            batch = [damaged(chance, chance.choice(valid)) for _ in range(100)]
            answers = threads.map(lambda request: spoken(server, request, at_end="hang up"), batch)
            for request, heard in zip(batch, answers, strict=True):
                # Any other path is Django's, which says nothing more to a client that has hung up; granian says 500.
                if is_ingest_path(path_in(request)):
                    assert all(status < 500 for status in statuses(heard)), (seed, request, heard)
            count += len(batch)


def path_in(request: bytes) -> str:
    return request.split(b" ")[1].partition(b"?")[0].decode("latin-1") if b" " in request else ""


def damaged(chance: random.Random, request: bytes) -> bytes:
    changed = bytearray(request)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(changed))
        how = chance.randrange(4)
        if how == 0:
            changed[at] = chance.randrange(256)
        elif how == 1:
            del changed[at : at + chance.choice((1, 10, 1000))]
        elif how == 2:
            changed[at:at] = changed[at : at + chance.choice((1, 10, 1000))]
        else:
            changed[at:at] = chance.choice((b"\r\n", b"\x00", b"%", b"\xff", b"999999999", b": ", b"-"))
        if not changed:
            break
    return bytes(changed)
