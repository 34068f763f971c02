"""The examples of the how-tos, as they stand there but for their address, against the real web."""

import os
import re
import shlex
import shutil

import pytest

from tests.clients.web_server import NODE_CLIENTS, WebServer, own_python, python_client, python_clients, run_client
from tests.docs.pages import DOCS, FENCE, text

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]

GUID = "5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a"


def examples(page: str, language: str) -> list[str]:
    """The blocks of a page."""
    return [body for kind, body in FENCE.findall(text(DOCS / "how-to" / f"{page}.md")) if kind == language]


def for_server(server: WebServer, example: str) -> str:
    """The example with our own address, key and project."""
    example = example.replace("https://<key>@watchclock.example.com/1", server.dsn)
    return example.replace("https://watchclock.example.com", server.base_url).replace("<key>", server.key)


@pytest.fixture
def paste(server, tmp_path):
    """Run lines of shell in which `my-job` prints a line and ends with this exit status."""

    def run(lines: str, *, monitor: str = "", ends_with: int = 0) -> None:
        for program in ("curl", "wget"):
            if program in lines and shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        job = tmp_path / "my-job"
        job.write_text(f"#!/bin/sh\necho 42 rows\nexit {ends_with}\n")
        job.chmod(0o755)
        lines = for_server(server, lines).replace("/usr/local/bin/backup", "my-job")
        if monitor:
            own = monitor.rpartition("/")[2]
            lines = lines.replace(GUID, own).replace(GUID.replace("-", ""), own.replace("-", ""))
        ended = run_client("sh", "-c", lines, PATH=f"{tmp_path}:{os.environ['PATH']}")
        assert "error" not in ended.errors.lower(), ended.errors

    return run


@pytest.mark.parametrize("ends_with", [0, 3])
def test_curl_and_wget(server, paste, ends_with):
    status = "ok" if ends_with == 0 else "error"
    both, done, fetched, printed, overlapping, by_slug, with_schedule, again = examples("instrument-cron", "sh")
    [crontab] = [example for example in examples("instrument-cron", "text") if "my-job" in example]

    for name, example in {"both": both, "overlapping": overlapping}.items():
        paste(example, monitor=server.ping_url(f"docs-{name}-{ends_with}"), ends_with=ends_with)
        run = server.run(f"docs-{name}-{ends_with}")
        assert (run["status"], run["exit_status"]) == (status, ends_with)
        assert run["date_in_progress"] is not None

    paste(crontab.split(maxsplit=5)[5], monitor=server.ping_url(f"docs-cron-{ends_with}"), ends_with=ends_with)
    assert server.run(f"docs-cron-{ends_with}")["exit_status"] == ends_with

    paste(printed, monitor=server.ping_url(f"docs-printed-{ends_with}"), ends_with=ends_with)
    run = server.run(f"docs-printed-{ends_with}")
    assert (run["status"], run["logs"]) == (status, [b"42 rows"])

    for name, example in {"done": done, "fetched": fetched}.items():
        paste(example, monitor=server.ping_url(f"docs-{name}-{ends_with}"), ends_with=ends_with)
        assert [run["status"] for run in server.runs(f"docs-{name}-{ends_with}")] == ["ok"] * (ends_with == 0)

    slug = f"docs-nightly-{ends_with}"
    paste(by_slug.replace("nightly-backup", slug))
    assert server.run(slug)["source"] == "healthchecks"
    for example in (with_schedule, again):
        paste(example.replace("nightly-backup", slug))
    assert [run["source"] for run in server.runs(slug)] == ["healthchecks", "sentry_http", "sentry_http"]
    assert (server.monitor(slug)["crontab"], server.monitor(slug)["max_runtime"]) == ("30 2 * * *", 60)


def test_sentry_cli(server, paste):
    program = str(python_clients("sentry-cli"))

    for example in examples("instrument-with-sentry-cli", "sh"):
        paste(example.replace("sentry-cli", shlex.quote(program)).replace("nightly-backup", "docs-cli"))

    assert server.run("docs-cli")["status"] == "ok"
    assert server.run("docs-cli", "staging")["status"] == "ok"
    assert server.monitor("docs-cli")["checkin_margin"] == 10


def test_python(server):
    function, by_hand = examples("instrument-python", "python")
    for example in (function, by_hand):
        script = (
            for_server(server, example).replace("send-invoices", "docs-sdk").replace("import-orders", "docs-by-hand")
        )
        ended = run_client(own_python("")[0], "-c", script)
        assert ended.exit_status == 0, ended.errors

    decorated, captured = server.run("docs-sdk"), server.run("docs-by-hand")
    assert (decorated["status"], captured["status"], captured["duration_ms"]) == ("ok", "ok", 61_500)
    assert server.monitor("docs-sdk")["max_runtime"] == 45
    assert server.monitor("docs-by-hand")["interval"] == 1


def test_node(server):
    if shutil.which("node") is None or not (NODE_CLIENTS / ".installed").exists():
        pytest.skip("node or the clients in JavaScript are not installed: make clients")
    function, scheduler, by_hand = examples("instrument-node", "js")
    slugs = {"refresh-prices": "docs-node-function", "import-orders": "docs-node-by-hand"}
    for example in (function, by_hand):
        script = for_server(server, example)
        for shown, own in slugs.items():
            script = script.replace(shown, own)
        ended = run_client("node", "-e", script, NODE_PATH=str(NODE_CLIENTS / "node_modules"))
        assert ended.exit_status == 0, ended.errors

    for slug in slugs.values():
        assert server.wait_for_run(slug, "ok")["date_in_progress"] is not None
    assert server.monitor("docs-node-function")["recovery_threshold"] == 3
    assert "instrumentCron(CronJob" in scheduler, "what test_sentry_node runs"


def test_moving_over(server, paste):
    python = python_client("")[0]

    # From Cronitor
    [cronitor] = re.findall(r"^```python\n(.*?)^```", text(DOCS / "how-to" / "move-from-cronitor.md"), re.M | re.S)
    job = cronitor.replace("nightly-backup", "docs-cronitor") + "\nback_up()\n"
    ended = run_client(python, "-c", for_server(server, job))
    assert ended.exit_status == 0, ended.errors
    run = server.run("docs-cronitor")
    assert (run["status"], run["source"], run["logs"]) == ("ok", "cronitor", [b"42 rows"])
    [lines] = indented("move-from-cronitor", "sh")
    paste(lines.replace("nightly-backup", "docs-cronitor-lines"))
    run = server.run("docs-cronitor-lines")
    assert (run["status"], run["exit_status"]) == ("ok", 0)
    assert run["date_in_progress"] is not None

    # From Healthchecks
    server.ping_url("docs-healthchecks")
    [client], [line] = indented("move-from-healthchecks", "python"), indented("move-from-healthchecks", "sh")
    ended = run_client(python, "-c", for_server(server, client) + "\nclient.success_ping(slug='docs-healthchecks')\n")
    assert ended.exit_status == 0, ended.errors
    paste(line.replace("nightly-backup", "docs-healthchecks"))
    assert [run["source"] for run in server.runs("docs-healthchecks")] == ["healthchecks"] * 2

    # From Uptime Kuma
    [line] = indented("move-from-uptime-kuma", "sh")
    paste(line, monitor=server.ping_url("docs-kuma"))
    assert server.run("docs-kuma")["duration_ms"] == 12


def indented(page: str, language: str) -> list[str]:
    """The blocks of a page that stand in lists."""
    found = re.findall(rf"^   ```{language}\n(.*?)^   ```", text(DOCS / "how-to" / f"{page}.md"), re.M | re.S)
    return [re.sub(r"^   ", "", block, flags=re.M) for block in found]
