"""A receiver of webhooks on a socket of its own, as good or as bad as a test wants it.

`answer` gets each request and returns the pieces of the raw answer; between two of them it may take its time. Without
pieces the connection ends. One thread for each connection.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request as it came; the names of its headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Received], Iterable[bytes]]


def reply(status: int, body: bytes | str | dict | list = b"", headers: dict[str, str] | None = None) -> list[bytes]:
    """A whole answer."""
    if isinstance(body, dict | list):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + content]


@dataclass
class Receiver:
    """Where it listens, and what has come."""

    url: str
    answer: Answer = lambda _received: reply(200)
    received: list[Received] = field(default_factory=list)
    connections: list[Any] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def drip(self, content: bytes, every_seconds: float = 0.05) -> Iterator[bytes]:
        """The content, a byte at a time."""
        for byte in content:
            if self.stopped.wait(every_seconds):
                return
            yield bytes([byte])

    def hang(self) -> Iterator[bytes]:
        """Nothing, until the end of the test."""
        self.stopped.wait()
        yield from ()


@contextmanager
def running_receiver(
    answer: Answer | None = None, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[Receiver]:
    """Run one until the end of the block."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def verify_request(self, request, client_address):
            receiver.connections.append(client_address)
            return True

        def handle_error(self, request, client_address):
            """A client that gives up is no failure of the test."""

    class Handler(BaseHTTPRequestHandler):
        def handle(self):
            if tls is not None:
                self.request.settimeout(10)
                self.request = tls.wrap_socket(self.request, server_side=True)
                self.setup()
            with self.request, suppress(OSError):
                self.handle_one_request()

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): text for name, text in self.headers.items()}
            received = Received(self.command, self.path, headers, body)
            receiver.received.append(received)
            for piece in receiver.answer(received):
                self.wfile.write(piece)
                self.wfile.flush()

        do_PATCH = do_PUT = do_CONNECT = do_POST  # noqa: N815 - names of http.server

        def log_message(self, *arguments):
            pass

    server = Server((host, 0), Handler)
    receiver = Receiver(f"http{'s' if tls else ''}://{host}:{server.server_address[1]}")
    if answer is not None:
        receiver.answer = answer
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.stopped.set()
        server.shutdown()
        server.server_close()
