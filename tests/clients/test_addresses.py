"""Addresses that clients do not encode: what the web server refuses, and the proxy's rule that lets it pass."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from project.local.engines import free_port
from tests.docs.pages import DOCS, blocks
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]

PAGE = DOCS / "how-to" / "run-in-production.md"
MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")


def status_of(base_url: str, target: bytes) -> int:
    """Send an address as it is, which no library does, and return the answer's status."""
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: watchclock.example\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return int(answer.split(b" ", 2)[1])


@pytest.fixture(scope="module")
def nginx(server, tmp_path_factory) -> Iterator[str]:
    """nginx with the rules of the page, word for word, but for paths and ports."""
    program = shutil.which("nginx")
    if program is None or not MODULE.exists():
        pytest.skip("nginx with njs is not installed")
    home = tmp_path_factory.mktemp("nginx")
    (script,) = (body for page, body in blocks("js") if page == PAGE)
    (http,) = (body for page, body in blocks("nginx") if page == PAGE)
    (home / "watchclock.js").write_text(script)
    port = free_port()
    for written, here in (
        ("/etc/nginx/watchclock.js", str(home / "watchclock.js")),
        ("127.0.0.1:8000", urlsplit(server.base_url).netloc),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert written in http
        http = http.replace(written, here)
    temporary = "".join(
        f"{kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(
        f"load_module {MODULE};\ndaemon off;\nmaster_process off;\npid {home}/pid;\nerror_log {home}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{http}}}\n"
    )
    process = subprocess.Popen([program, "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(PATIENCE_SECONDS)


MESSAGES = [b'"full"', b"<html>", b"a>b", "\u00e9".encode("latin-1")]
"""What clients send as it is, and what the log then holds."""


def push(server, slug: str, message: bytes) -> bytes:
    """The address of a push to a new monitor."""
    return f"/api/push/{server.ping_url(slug).rpartition('/')[2]}?status=up&msg=".encode() + message


@pytest.mark.parametrize("message", MESSAGES)
def test_the_web_server_refuses_them_as_they_are(server, message):
    slug = f"refused-{message.hex()}"

    assert status_of(server.base_url, push(server, slug, message)) == 400
    assert server.runs(slug) == []


@pytest.mark.parametrize(
    ("message", "log"),
    [
        (b"%22full%22", b'"full"'),
        (b"%3Chtml%3E", b"<html>"),
        (b"%E9", b"\xe9"),
        ("voil\u00e0".encode(), "voil\u00e0".encode()),
        (b"{a|b}\\^`[1]", b"{a|b}\\^`[1]"),
    ],
)
def test_encoded_they_pass_and_so_does_the_rest(server, message, log):
    slug = f"passes-{message.hex()}"

    assert status_of(server.base_url, push(server, slug, message)) == 200
    assert server.run(slug)["logs"] == [log]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_proxy_of_the_page_lets_them_pass(server, nginx, message):
    slug = f"proxied-{message.hex()}"

    assert status_of(nginx, push(server, slug, message)) == 200
    assert server.run(slug)["logs"] == [message]
