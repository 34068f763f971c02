"""A way from one host to a server that can be cut: its connections break, or hang with nobody knowing why."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536
LOOK_SECONDS = 0.05


@dataclass(eq=False)
class _Way:
    """One connection: what comes from either end is passed on to the other."""

    client: socket.socket
    server: socket.socket

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass
class Proxy:
    """Listens on a port of its own and passes everything on to `target`, until it is cut.

    `cut_after` are bytes of a client after which it cuts itself (hanging), once: these still arrive.
    """

    target: tuple[str, int]
    cut_after: bytes | None = None
    is_cut: threading.Event = field(default_factory=threading.Event)
    passed_bytes: int = 0
    _ways: set[_Way] = field(default_factory=set)
    _is_refusing: bool = False
    _is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LOOK_SECONDS)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self, *, hang: bool) -> None:
        """Pass nothing on any more. Connections hang, new ones too; or they break, and new ones do so at once."""
        with self._lock:
            self._is_refusing = not hang
            self.is_cut.set()
            if not hang:
                self._close_all()

    def restore(self) -> None:
        """Pass everything on again, also what was held back."""
        with self._lock:
            self._is_refusing = False
            self.is_cut.clear()

    def close(self) -> None:
        """Break everything, for good."""
        with self._lock:
            self._is_over = True
            self._close_all()

    def _close_all(self) -> None:
        for way in self._ways:
            way.close()
        self._ways.clear()

    def _accept(self) -> None:
        with self._listener:
            while not self._is_over:
                try:
                    client, _ = self._listener.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=self._serve, args=(client,), name="way", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(None)
        while self.is_cut.is_set() and not self._is_refusing and not self._is_over:
            time.sleep(LOOK_SECONDS)
        try:
            if self._is_refusing or self._is_over:
                raise ConnectionRefusedError
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        way = _Way(client, server)
        with self._lock:
            self._ways.add(way)
        with contextlib.suppress(OSError, ValueError):
            self._pass_on(way)
        with self._lock:
            self._ways.discard(way)
        way.close()

    def _pass_on(self, way: _Way) -> None:
        for end, data in self._chunks(way):
            other = way.server if end is way.client else way.client
            other.sendall(data)
            self.passed_bytes += len(data)
            if end is way.client and self.cut_after is not None and self.cut_after in data:
                self.cut_after = None
                self.cut(hang=True)

    def _chunks(self, way: _Way) -> Iterator[tuple[socket.socket, bytes]]:
        """Yield what comes, from either end; nothing while the way is cut."""
        with selectors.DefaultSelector() as selector:
            for end in (way.client, way.server):
                selector.register(end, selectors.EVENT_READ, end)
            while not self._is_over:
                if self.is_cut.is_set():
                    time.sleep(LOOK_SECONDS)
                    continue
                for key, _ in selector.select(LOOK_SECONDS):
                    if self.is_cut.is_set():
                        break
                    source: socket.socket = key.data
                    data = source.recv(CHUNK_BYTES)
                    if not data:
                        return
                    yield source, data
