"""Clients of Healthchecks, for Python: three of them, with different ideas of what a good answer is."""

import pytest

from tests.clients.web_server import python_client, run_client

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]


def outcomes(server, slug):
    """Status, exit status and logs of each run."""
    return [(run["status"], run["exit_status"], run["logs"]) for run in server.runs(slug)]


def assert_it_said_when_it_began(runs):
    for run in runs:
        assert run["source"] == "healthchecks"
        assert run["date_in_progress"] is not None
        assert run["duration_ms"] is not None


def test_healthchecks_io_pings_by_id_and_by_slug_with_asyncio_and_without(server):
    check = server.ping_url("hc-by-id").rpartition("/")[2]
    server.ping_url("hc-by-slug")
    server.ping_url("hc-asyncio")

    told = run_client(
        *python_client("healthchecks_io_jobs.py"),
        *(f"{server.base_url}/ping", check, server.key, "hc-by-slug", "hc-asyncio"),
    ).json()

    assert "not found" in told.pop("unknown")
    assert told == {ping: [True, "OK"] for ping in ("start", "success", "exit code", "fail")}
    assert outcomes(server, "hc-by-id") == [
        ("ok", None, ["42 rows, größer als gestern".encode()]),
        ("error", 3, []),
        ("error", None, [b"disk full"]),
    ]
    trapped, failed = server.runs("hc-by-slug")
    assert (trapped["status"], trapped["logs"]) == ("ok", [b"copied\nverified"])
    assert failed["status"] == "error"
    assert failed["logs"][0].startswith(b"no space left\n")
    assert outcomes(server, "hc-asyncio") == [("ok", None, [b"done"])]
    assert_it_said_when_it_began([server.runs("hc-by-id")[0], trapped, failed, server.run("hc-asyncio")])


def test_healthchecks_wrapper_pings_around_a_block_and_sends_the_traceback_of_an_exception(server):
    ended = run_client(
        *python_client("healthchecks_wrapper_jobs.py"), server.ping_url("hc-wrapper"), server.ping_url("hc-awrapper")
    )

    assert (ended.exit_status, ended.text, ended.errors) == (0, "", "")
    ran, failed = server.runs("hc-wrapper")
    assert (ran["status"], ran["logs"]) == ("ok", [])
    (traceback,) = failed["logs"]
    assert (failed["status"], traceback.splitlines()[-1]) == ("error", b"RuntimeError: no paper left")
    assert outcomes(server, "hc-awrapper") == [("ok", None, [])]
    assert_it_said_when_it_began([ran, failed, server.run("hc-awrapper")])


def test_healthchecks_decorator_pings_around_a_function_and_sends_what_it_returns(server):
    told = run_client(
        *python_client("healthchecks_decorator_jobs.py"), server.ping_url("hc-count"), server.ping_url("hc-divide")
    ).json()

    assert told == {"rows": "3", "raised": "division by zero"}
    assert outcomes(server, "hc-count") == [("ok", None, [b"rows=3"])]
    assert outcomes(server, "hc-divide") == [("error", None, [])]
    assert_it_said_when_it_began([server.run("hc-count"), server.run("hc-divide")])
