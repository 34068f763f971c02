"""sentry-sdk for Python: check-ins by hand, under the decorator, and from Celery's tasks."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.clients.web_server import (
    CLIENTS,
    client_environment,
    own_python,
    python_client,
    run_client,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]


@pytest.mark.parametrize(
    ("python", "compression"),
    [(own_python, "br"), (python_client, "gzip")],
    ids=["brotli is installed: br", "it is not: gzip"],
)
def test_jobs_report_their_runs_whatever_else_the_sdk_sends_and_however_it_compresses(server, python, compression):
    told = run_client(*python("sentry_jobs.py"), server.dsn, compression).json()

    assert told == {
        "compression": compression,
        "paused": ["error", "transaction"],
        "id": told["same id"],
        "same id": told["id"],
        "returned": "42",
        "raised": "division by zero",
    }
    captured, decorated, raising = (
        server.run(f"{compression}-{slug}") for slug in ("captured", "decorated", "raising")
    )
    assert captured["guid"] == uuid.UUID(told["id"])
    assert (captured["status"], captured["duration_ms"]) == ("ok", 61_500)
    assert decorated["status"] == "ok"
    assert raising["status"] == "error"
    for run in (captured, decorated, raising):
        assert run["source"] == "sentry_envelope"
        assert run["date_in_progress"] is not None
        assert run["duration_ms"] is not None
        assert run["trace_id"] is not None
    monitor = server.monitor(f"{compression}-raising")
    assert (monitor["crontab"], monitor["timezone"]) == ("30 2 * * mon-fri", "Europe/Vienna")
    assert (monitor["checkin_margin"], monitor["max_runtime"]) == (5, 45)
    assert (monitor["failure_threshold"], monitor["recovery_threshold"]) == (2, 3)


@pytest.fixture
def celery(server, tmp_path) -> Iterator[dict[str, Path]]:
    """A Celery worker and Celery beat of a project that is watched: where each writes what it does."""
    variables = client_environment(
        SENTRY_DSN=server.dsn, BROKER_URL=settings.REDIS_URL, KEY_PREFIX=f"shop-{uuid.uuid4().hex}:"
    )
    running = []

    def start(name: str, *arguments: str) -> Path:
        log = tmp_path / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "shop", name, "--loglevel", "INFO", *arguments],
                cwd=CLIENTS / "python",
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.append(process)
        return log

    try:
        yield {
            "worker": start("worker", "--concurrency", "1", "--without-mingle", "--without-gossip"),
            "beat": start("beat", "--schedule", str(tmp_path / "schedule"), "--pidfile="),
        }
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_d16_a_task_of_celery_that_is_retried_and_succeeds_is_one_run_that_is_ok_and_shows_its_attempts(server, celery):
    run = wait_until(
        lambda: [
            run for run in server.runs("import-orders") if run["status"] == "ok" and run["date_in_progress"] is not None
        ],
        "the task has succeeded",
    )[0]

    assert server.runs("import-orders") == [run]
    assert run["attempts"] == ["error", "error"]
    assert run["duration_ms"] is not None
    monitor = server.monitor("import-orders")
    assert (monitor["name"], monitor["crontab"], monitor["timezone"]) == ("import orders", "0 4 * * *", "Europe/Vienna")
    wait_until(lambda: "imported at last" in celery["worker"].read_text(), "the worker says so too")
    assert celery["worker"].read_text().count("Retry in 0s") == 2
