"""`sentry-cli monitors run`, which reports the start, runs a command, and reports how it ended."""

import pytest

from tests.clients.web_server import python_clients, run_client

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]

OPTIONS = (
    *("--schedule", "*/10 * * * *", "--timezone", "Europe/Vienna", "--check-in-margin", "3", "--max-runtime", "15"),
    *("--failure-issue-threshold", "2", "--recovery-threshold", "4"),
)


def monitors_run(server, *arguments):
    return run_client(python_clients("sentry-cli"), "monitors", "run", *arguments, SENTRY_DSN=server.dsn)


@pytest.mark.parametrize(("exit_status", "status"), [(0, "ok"), (3, "error")])
def test_a_command_runs_between_two_check_ins_of_a_new_monitor_and_keeps_its_exit_status(server, exit_status, status):
    slug = f"cli-{status}"

    ended = monitors_run(server, slug, *OPTIONS, "--", "sh", "-c", f"echo done; exit {exit_status}")

    assert (ended.exit_status, ended.text, ended.errors) == (exit_status, "done", "")
    run = server.run(slug)
    assert (run["status"], run["source"]) == (status, "sentry_envelope")
    assert run["date_in_progress"] is not None
    assert 0 <= run["duration_ms"] < 60_000
    monitor = server.monitor(slug)
    assert (monitor["crontab"], monitor["timezone"]) == ("*/10 * * * *", "Europe/Vienna")
    assert (monitor["checkin_margin"], monitor["max_runtime"]) == (3, 15)
    assert (monitor["failure_threshold"], monitor["recovery_threshold"]) == (2, 4)


def test_a_known_monitor_needs_no_schedule_and_an_environment_has_its_own_runs(server):
    first = monitors_run(server, "cli-twice", *OPTIONS, "--", "true")
    again = monitors_run(server, "cli-twice", "--environment", "staging", "--", "true")

    assert (first.exit_status, again.exit_status, again.errors) == (0, 0, "")
    assert server.run("cli-twice")["status"] == "ok"
    assert server.run("cli-twice", "staging")["status"] == "ok"


def test_a_command_that_does_not_exist_is_an_error(server):
    ended = monitors_run(server, "cli-no-command", *OPTIONS, "--", "no-such-command-anywhere")

    assert ended.exit_status == 1
    assert server.run("cli-no-command")["status"] == "error"
