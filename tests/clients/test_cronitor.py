"""cronitor for Python, whose address is replaced in its code, since it has no setting for that."""

import pytest

from tests.clients.web_server import python_client, run_client

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]


def test_decorated_functions_and_heartbeats_make_their_monitors_and_report_runs_with_their_words(server):
    told = run_client(*python_client("cronitor_jobs.py"), server.base_url, server.key).json()

    assert told == {
        "returned": {"files": 7},
        "raised": "no tape, größer als gestern & mehr",
        "answers": [[200, "OK"], [200, "OK"]],
    }
    copied = server.run("cronitor-copies")
    assert (copied["status"], copied["logs"]) == ("ok", [b"{'files': 7}"])
    failed = server.run("cronitor-fails", "staging")
    assert (failed["status"], failed["logs"]) == ("error", ["no tape, größer als gestern & mehr".encode()])
    for run in (copied, failed):
        assert run["source"] == "cronitor"
        assert run["date_in_progress"] is not None
        assert 0 <= run["duration_ms"] < 60_000
    heard = server.runs("cronitor-heartbeat")
    assert [(run["status"], run["logs"]) for run in heard] == [("ok", [b"alive"]), ("ok", [])]
    assert server.monitor("cronitor-heartbeat")["name"] == "cronitor heartbeat"
