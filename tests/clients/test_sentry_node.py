"""@sentry/node, whose messages travel over several connections at once, so that an end may overtake its beginning."""

import shutil
from dataclasses import replace

import pytest

from tests.clients.overtaking import overtaking
from tests.clients.web_server import CLIENTS, NODE_CLIENTS, Ended, run_client
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]


def jobs(dsn: str, prefix: str, *, failing: int) -> Ended:
    if shutil.which("node") is None or not (NODE_CLIENTS / ".installed").exists():
        pytest.skip("node or the clients in JavaScript are not installed: make clients")
    script = CLIENTS / "node" / "jobs.cjs"
    return run_client("node", script, dsn, prefix, str(failing), NODE_PATH=str(NODE_CLIENTS / "node_modules"))


def assert_it_has_its_configuration(monitor):
    assert (monitor["crontab"], monitor["timezone"]) == ("*/10 * * * *", "Europe/Vienna")
    assert (monitor["checkin_margin"], monitor["max_runtime"]) == (2, 20)
    assert (monitor["failure_threshold"], monitor["recovery_threshold"]) == (2, 3)


def test_jobs_report_their_runs_and_all_of_twenty_new_ones_that_fail_at_once_are_heard(server):
    told = jobs(server.dsn, "node", failing=20).json()

    assert told == {"raised": [f"no route {n}" for n in range(20)], "returned": 42, "ticked": True, "flushed": True}
    for n in range(20):
        assert server.run(f"node-fails-{n}")["status"] == "error"
        assert_it_has_its_configuration(server.monitor(f"node-fails-{n}"))
    works, ticked = server.run("node-works"), server.run("node-cron")
    assert (works["status"], ticked["status"]) == ("ok", "ok")
    for run in (works, ticked):
        assert run["source"] == "sentry_envelope"
        assert run["date_in_progress"] is not None
        assert run["duration_ms"] is not None
        assert run["trace_id"] is not None
    assert_it_has_its_configuration(server.monitor("node-works"))
    scheduled = server.monitor("node-cron")
    assert (scheduled["crontab"], scheduled["timezone"]) == ("30 2 * 1 1-5", "Europe/Vienna")


def test_d17_ends_without_configuration_that_overtake_their_beginnings_wait_for_their_monitors(server):
    with overtaking(server.base_url, patience_seconds=PATIENCE_SECONDS) as address:
        told = jobs(replace(server, base_url=address).dsn, "overtaken", failing=1).json()

    assert (told["raised"], told["flushed"]) == (["no route 0"], True)
    for job, status in {"fails-0": "error", "works": "ok", "cron": "ok"}.items():
        run = server.run(f"overtaken-{job}")
        assert run["status"] == status
        assert run["received_at"] < run["date_in_progress"], "the end was received first"
    assert_it_has_its_configuration(server.monitor("overtaken-fails-0"))
