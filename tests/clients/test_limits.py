"""What the server itself bounds before any protocol is asked: request lines and headers."""

import http.client
from urllib.parse import urlsplit

import pytest

from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]

HEADER_BYTES_MAX = 64 * 1024  # the default of INGEST_HEADER_BYTES_MAX


def ask(url, **headers):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_SECONDS)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_a_request_line_of_16_kib_is_a_ping_like_any_other(server):
    url = server.ping_url("long-line")
    assert ask(f"{url}?msg={'x' * (16 * 1024)}") == 200
    assert server.run("long-line")["status"] == "ok"


def test_headers_that_are_too_large_are_refused_and_the_next_request_is_not(server):
    url = server.ping_url("large-headers")
    assert ask(url, cookie="x" * (4 * HEADER_BYTES_MAX)) == 431
    assert ask(url, cookie="x" * (HEADER_BYTES_MAX // 2)) == 200
    assert len(server.runs("large-headers")) == 1
