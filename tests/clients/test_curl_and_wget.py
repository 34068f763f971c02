"""Whatever can fetch an address: curl and wget as everybody's documentation shows them, and older ways of HTTP."""

import json
import shlex
import shutil
import socket
import uuid
from urllib.parse import urlsplit

import pytest

from tests.clients.web_server import run_client
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]

CURL = "curl -fsS -m 30 --retry 5"
WGET = "wget -q -T 30 -t 5"
ANY_BYTES = bytes(range(256)) * 100
LARGE = b"a line of output\n" * 200_000
LOG_BYTES_MAX = 100_000


def shell(line, *, stdin=b"", **variables):
    """Run a line of shell as somebody would paste it. Skips the test if its program is not installed."""
    for program in ("curl", "wget"):
        if program in shlex.split(line) and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return run_client("sh", "-c", line, stdin=stdin, **variables)


# --- Healthchecks' pings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "stdin", "says", "status", "logs"),
    [
        (f"{CURL} $URL", b"", "OK", "ok", []),
        (f"{CURL} -o /dev/null $URL/", b"", "", "ok", []),
        (f"{CURL} $URL/fail", b"", "OK", "error", []),
        (f"false; {CURL} $URL/$?", b"", "OK", "error", []),
        (f"echo 42 rows | {CURL} --data-binary @- $URL", b"", "OK", "ok", [b"42 rows\n"]),
        (f"{CURL} --data-raw 'disk full' $URL/fail", b"", "OK", "error", [b"disk full"]),
        (f"{CURL} --data-binary @- $URL", ANY_BYTES, "OK", "ok", [ANY_BYTES]),
        (f"{CURL} -X POST -T - $URL", b"in chunks", "OK", "ok", [b"in chunks"]),
        (f"{CURL} -T - $URL", b"in chunks", "OK", "ok", [b"in chunks"]),
        (f"{CURL} --data-binary @- $URL", LARGE, "OK", "ok", [LARGE[-LOG_BYTES_MAX:]]),
        (f"{CURL} -I -o /dev/null -w '%{{http_code}} %header{{ping-body-limit}}' $URL", b"", "200 100000", "ok", []),
        (f"{CURL} -0 -w ' %{{http_version}}' $URL", b"", "OK 1", "ok", []),
        (f"{CURL} -0 --data-binary @- $URL", b"of old", "OK", "ok", [b"of old"]),
        (f"{CURL} --http2 -w ' %{{http_version}}' $URL", b"", "OK 1.1", "ok", []),
        (f"{CURL} --compressed $URL", b"", "OK", "ok", []),
        (f"{CURL} -L -H 'X-Forwarded-For: unknown' $URL", b"", "OK", "ok", []),
        (f"{WGET} -O /dev/null $URL", b"", "", "ok", []),
        (f"{WGET} -O - $URL", b"", "OK", "ok", []),
        (f"{WGET} -O - --post-data 'rows=3' $URL/fail", b"", "OK", "error", [b"rows=3"]),
        (f"{WGET} --spider $URL", b"", "", "ok", []),
        (f"{WGET} -O - --no-http-keep-alive $URL/0", b"", "OK", "ok", []),
    ],
    ids=[
        *("curl", "slash at the end", "fail", "exit status", "output", "reason", "any bytes", "chunked", "chunked PUT"),
        *("more than is kept", "HEAD", "HTTP 1.0", "HTTP 1.0 POST", "HTTP 2 wanted", "compression wanted"),
        *("odd header", "wget", "wget that shows", "wget POST", "wget spider: HEAD", "wget closes"),
    ],
)
def test_a_ping_is_one_check_in_with_what_was_sent_along(server, request, line, stdin, says, status, logs):
    slug = f"ping-{request.node.callspec.id}".lower().replace(" ", "-").replace(".", "").replace(":", "")

    ended = shell(line, stdin=stdin, URL=server.ping_url(slug))

    assert (ended.exit_status, ended.text, ended.errors) == (0, says, "")
    run = server.run(slug)
    assert (run["status"], run["source"], run["logs"]) == (status, "healthchecks", logs)


def test_a_client_that_asks_first_whether_it_may_send_a_large_body_is_told_to_go_on(server):
    url = server.ping_url("ping-expect")

    ended = shell(f"{CURL} -v -H 'Expect: 100-continue' --data-binary @- $URL", stdin=LARGE, URL=url)

    assert (ended.exit_status, ended.text) == (0, "OK")
    assert "HTTP/1.1 100 Continue" in ended.errors
    assert server.run("ping-expect")["status"] == "ok"


def test_beginning_and_end_are_one_run_and_overlapping_ones_have_ids_also_on_one_connection(server):
    url = server.ping_url("ping-runs")
    first, second = str(uuid.uuid4()), str(uuid.uuid4())

    ended = shell(
        f"{CURL} -v $URL/start?rid={first} $URL/start?rid={second} $URL/3?rid={first} $URL?rid={second}", URL=url
    )

    assert (ended.exit_status, ended.text) == (0, "OKOKOKOK")
    assert ended.errors.lower().count("re-using existing connection") == 3
    runs = {str(run["guid"]): run for run in server.runs("ping-runs")}
    assert runs.keys() == {first, second}
    assert (runs[first]["status"], runs[first]["exit_status"]) == ("error", 3)
    assert (runs[second]["status"], runs[second]["exit_status"]) == ("ok", None)
    for run in runs.values():
        assert run["date_in_progress"] is not None
        assert run["duration_ms"] is not None


def test_a_log_belongs_to_the_run_in_progress_or_is_a_note(server):
    url = server.ping_url("ping-log")

    ended = shell(
        f"{CURL} -d before $URL/log; {CURL} $URL/start; {CURL} -d half $URL/log; {CURL} -d done $URL", URL=url
    )

    assert (ended.exit_status, ended.text) == (0, "OK" * 4)
    assert server.notes("ping-log") == [b"before"]
    run = server.run("ping-log")
    assert (run["status"], run["logs"]) == ("ok", [b"half", b"done"])


def test_a_ping_by_slug_makes_its_monitor_if_asked_to(server):
    url = f"{server.base_url}/ping/{server.key}/ping-created"

    ended = shell(f"{CURL} -w ' %{{http_code}} ' $URL?create=1 $URL?create=1", URL=url)

    assert (ended.exit_status, ended.text) == (0, "Created 201 OK 200 ")
    assert [run["status"] for run in server.runs("ping-created")] == ["ok", "ok"]
    monitor = server.monitor("ping-created")
    assert (monitor["interval"], monitor["interval_unit"], monitor["checkin_margin"]) == (1, "day", 60)


def test_an_address_where_nothing_is_is_an_error_that_is_not_tried_again(server):
    ended = shell(f"{CURL} $URL", URL=f"{server.base_url}/ping/{uuid.uuid4()}")

    assert ended.exit_status == 22
    assert "404" in ended.errors


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_oldest_http_without_a_host_gets_its_answer_and_the_end_of_the_connection(server, method):
    slug = f"ping-router-{method.lower()}"
    address = urlsplit(server.ping_url(slug))

    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(f"{method} {address.path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"content-length: 2" in head.lower()
    assert body == (b"" if method == "HEAD" else b"OK")
    assert server.run(slug)["status"] == "ok"


# --- Sentry's plain requests ------------------------------------------------------------------------------------------

CODE = "-o /dev/null -w '%{http_code}'"


def test_sentrys_curl_lines_are_one_run_of_the_monitor_that_the_first_makes(server):
    config = {"schedule": {"type": "crontab", "value": "0 3 * * *"}, "timezone": "Europe/Vienna", "max_runtime": 90}
    begin = json.dumps({"status": "in_progress", "monitor_config": config})

    ended = shell(
        f"{CURL} {CODE} -X POST $URL -H 'Content-Type: application/json' -d \"$BEGIN\"; {CURL} {CODE} $URL?status=ok",
        URL=server.cron_url("http-lines"),
        BEGIN=begin,
    )

    assert (ended.exit_status, ended.text, ended.errors) == (0, "202202", "")
    run = server.run("http-lines")
    assert (run["status"], run["source"]) == ("ok", "sentry_http")
    assert run["date_in_progress"] is not None
    monitor = server.monitor("http-lines")
    assert (monitor["crontab"], monitor["timezone"], monitor["max_runtime"]) == ("0 3 * * *", "Europe/Vienna", 90)


def test_overlapping_jobs_name_their_runs_and_the_key_may_be_the_user_name(server):
    server.ping_url("http-overlap")
    first, second = (str(uuid.uuid4()).upper() for _ in range(2))  # uuidgen on macOS
    words = (
        f"status=in_progress&check_in_id={first}",
        f"status=in_progress&check_in_id={second}",
        f"status=error&check_in_id={first}&duration=1.5",
        f"status=ok&check_in_id={second}",
    )
    lines = [f'{CURL} {CODE} -u {server.key}: "$URL?{word}"' for word in words]

    ended = shell("; ".join(lines), URL=f"{server.base_url}/api/{server.project_id}/cron/http-overlap")

    assert (ended.exit_status, ended.text) == (0, "202" * 4)
    runs = {run["guid"]: (run["status"], run["duration_ms"]) for run in server.runs("http-overlap")}
    assert runs[uuid.UUID(first)] == ("error", 1500)
    assert runs[uuid.UUID(second)][0] == "ok"
    assert len(runs) == 2


# --- Cronitor and Uptime Kuma -----------------------------------------------------------------------------------------


def test_cronitors_curl_lines_are_a_run_and_its_figures(server):
    url = f"{server.base_url}/p/{server.key}/cronitor-lines"

    ended = shell(
        f"{CURL} '{url}?state=run&series=1'; {CURL} '{url}?state=complete&series=1&metric=duration:1.5&status_code=0'"
    )

    assert (ended.exit_status, ended.text, ended.errors) == (0, "OKOK", "")
    run = server.run("cronitor-lines")
    assert (run["status"], run["source"], run["duration_ms"], run["exit_status"]) == ("ok", "cronitor", 1500, 0)
    assert run["date_in_progress"] is not None


def test_uptime_kumas_push_lines_are_check_ins(server):
    url = server.ping_url("kuma-lines").replace("/ping/", "/api/push/")

    ended = shell(
        f"{CURL} '{url}?status=up&msg=OK&ping=12'; {CURL} -I -o /dev/null {url}; {CURL} '{url}?status=down&msg=No+tape'"
    )

    assert (ended.exit_status, ended.text, ended.errors) == (0, '{"ok":true}' * 2, "")
    runs = server.runs("kuma-lines")
    assert [(run["status"], run["duration_ms"], run["logs"]) for run in runs] == [
        ("ok", 12, [b"OK"]),
        ("ok", None, []),
        ("error", None, [b"No tape"]),
    ]
    assert {run["source"] for run in runs} == {"uptime_kuma"}
