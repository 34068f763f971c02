"""The directory of `make run`, and what its processes get to know of it."""

import re
import socket

import pytest

from project.local.children import BASE_DIR
from project.local.home import CannotStartError, child_environment, settings_received
from project.local.supervisor import open_port
from tests.project.test_settings_docs import variables_read


def test_the_processes_of_an_instance_keep_their_spools_in_its_own_directory(tmp_path, monkeypatch):
    """`make demo` beside `make run`: with one directory each would wait for the check-ins of the other."""
    monkeypatch.delenv("WATCHCLOCK_HOME", raising=False)
    home = tmp_path / ".watchclock-demo"
    home.mkdir()

    variables = child_environment(home, 8000, database_url="postgres://a/b", redis_url="redis://c/0")

    assert variables["WATCHCLOCK_HOME"] == str(home)
    assert f"WATCHCLOCK_HOME={home}\n" in (home / "environment").read_text()


def test_commands_of_another_terminal_get_the_settings_with_which_make_run_was_started(tmp_path, monkeypatch):
    """Else `send_test_alert` would find no address, and `ensure_partitions` drop days that the instance keeps."""
    monkeypatch.setenv("ALERT_EMAIL_TO", "a@example.com")
    monkeypatch.setenv("CHECKIN_RETENTION_DAYS", "0")
    monkeypatch.setenv("DATABASE_URL", "postgres://not/this")
    monkeypatch.setenv("NO_SETTING", "x")

    child_environment(tmp_path, 8000, database_url="postgres://a/b", redis_url="redis://c/0")

    written = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert written["ALERT_EMAIL_TO"] == "a@example.com"
    assert written["CHECKIN_RETENTION_DAYS"] == "0"
    assert written["DATABASE_URL"] == "postgres://a/b"
    assert "NO_SETTING" not in written


def test_every_setting_that_is_read_from_the_environment_is_passed_on(monkeypatch):
    settings = (BASE_DIR / "project" / "settings.py").read_text()
    names = variables_read() & set(re.findall(r'"([A-Z_]+)"', settings))
    for name in names:
        monkeypatch.setenv(name, "x")

    assert settings_received().keys() == names


@pytest.mark.parametrize("target", ["run", "demo"])
def test_the_way_out_of_a_port_in_use_is_the_same_target_of_make(target):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(CannotStartError, match=f"make {target} WATCHCLOCK_PORT="):
            open_port(port, target=target)
