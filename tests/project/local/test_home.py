"""The directory of `make run`, and what its processes get to know of it."""

import socket

import pytest

from project.local.home import CannotStartError, child_environment
from project.local.supervisor import open_port


def test_the_processes_of_an_instance_keep_their_spools_in_its_own_directory(tmp_path, monkeypatch):
    """`make demo` beside `make run`: with one directory each would wait for the check-ins of the other."""
    monkeypatch.delenv("WATCHCLOCK_HOME", raising=False)
    home = tmp_path / ".watchclock-demo"
    home.mkdir()

    variables = child_environment(home, 8000, database_url="postgres://a/b", redis_url="redis://c/0")

    assert variables["WATCHCLOCK_HOME"] == str(home)
    assert f"WATCHCLOCK_HOME={home}\n" in (home / "environment").read_text()


@pytest.mark.parametrize("target", ["run", "demo"])
def test_the_way_out_of_a_port_in_use_is_the_same_target_of_make(target):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(CannotStartError, match=f"make {target} WATCHCLOCK_PORT="):
            open_port(port, target=target)
