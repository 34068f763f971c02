"""borgmatic, which tells four kinds of monitoring at once: Healthchecks, Sentry, Cronitor and Uptime Kuma."""

import json

import pytest

from tests.clients.web_server import python_clients, run_client

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]

BORG = """#!/bin/sh
case "$*" in
    *--version*) echo "borg 1.4.0" ;;
    *--dry-run*) ;; # It asks first which files there would be.
    *) echo "{says}" >&2; exit {exit_status} ;;
esac
"""
"""In borg's place: borgmatic only looks at its exit status and what it says."""


@pytest.fixture
def back_up(tmp_path):
    """Run `borgmatic create` with these hooks, and with a borg that says this and ends so."""

    def run(hooks, *, says, exit_status):
        (tmp_path / "documents").mkdir()
        borg = tmp_path / "borg"
        borg.write_text(BORG.format(says=says, exit_status=exit_status))
        borg.chmod(0o755)
        configuration = tmp_path / "config.yaml"
        configuration.write_text(
            json.dumps(
                {
                    "source_directories": [str(tmp_path / "documents")],
                    "repositories": [{"path": str(tmp_path / "repository")}],
                    "local_path": str(borg),
                    "skip_actions": ["prune", "compact", "check"],
                    **hooks,
                }
            )
        )
        # It writes to the home directory of whoever runs it.
        return run_client(python_clients("borgmatic"), "--config", configuration, "create", HOME=str(tmp_path))

    return run


def test_a_backup_that_goes_well_is_ok_for_all_four(server, back_up):
    for slug in ("borg-sentry", "borg-cronitor"):
        server.ping_url(slug)
    push_url = server.ping_url("borg-kuma").replace("/ping/", "/api/push/")

    ended = back_up(
        {
            "healthchecks": {"ping_url": server.ping_url("borg-hc"), "send_logs": True},
            "sentry": {"data_source_name_url": server.dsn, "monitor_slug": "borg-sentry", "environment": "production"},
            "cronitor": {"ping_url": f"{server.base_url}/p/{server.key}/borg-cronitor"},
            "uptime_kuma": {"push_url": push_url},
        },
        says="1 file added, größer als gestern",
        exit_status=0,
    )

    assert (ended.exit_status, "error" in ended.errors.lower()) == (0, False), ended.errors
    for slug, source in {"borg-hc": "healthchecks", "borg-sentry": "sentry_http", "borg-cronitor": "cronitor"}.items():
        run = server.run(slug)
        assert (run["status"], run["source"]) == ("ok", source)
        assert run["date_in_progress"] is not None
    assert "1 file added, größer als gestern" in b"".join(server.run("borg-hc")["logs"]).decode()
    # A push cannot say that something begins: to Uptime Kuma the start is one more sign of life.
    assert [(run["status"], run["source"], run["logs"]) for run in server.runs("borg-kuma")] == [
        ("ok", "uptime_kuma", [b"start"]),
        ("ok", "uptime_kuma", [b"finish"]),
    ]


def test_a_backup_that_fails_is_an_error_for_all_four_also_where_their_monitors_are_new(server, back_up):
    server.ping_url("borg-fails-sentry")
    cronitor_url = server.ping_url("borg-fails-cronitor")
    push_url = server.ping_url("borg-fails-kuma").replace("/ping/", "/api/push/")

    ended = back_up(
        {
            "healthchecks": {
                "ping_url": f"{server.base_url}/ping/{server.key}/borg-fails-hc",
                "create_slug": True,
                "send_logs": True,
            },
            "sentry": {"data_source_name_url": server.dsn, "monitor_slug": "borg-fails-sentry"},
            "cronitor": {"ping_url": cronitor_url},
            "uptime_kuma": {"push_url": push_url},
        },
        says="the repository is locked",
        exit_status=2,
    )

    assert ended.exit_status == 1
    for hook in ("Healthchecks", "Sentry", "Cronitor", "Uptime Kuma"):
        assert f"{hook} error" not in ended.errors
    for slug in ("borg-fails-hc", "borg-fails-sentry", "borg-fails-cronitor"):
        run = server.run(slug)
        assert run["status"] == "error"
        assert run["date_in_progress"] is not None
    assert b"the repository is locked" in b"".join(server.run("borg-fails-hc")["logs"])
    assert [(run["status"], run["logs"]) for run in server.runs("borg-fails-kuma")] == [
        ("ok", [b"start"]),
        ("error", [b"fail"]),
    ]
