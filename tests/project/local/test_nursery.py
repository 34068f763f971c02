"""The nursery with real processes: what it forks is as if the supervisor had started it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from project.local.children import BASE_DIR, Process, start_python
from project.local.nursery import CAN_FORK, FILLING, Forked, Nursery, fill_gaps, free_places

pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("processes"),
    pytest.mark.skipif(not CAN_FORK, reason="programs do not fork here"),
]

PATIENCE_SECONDS = 120  # for a loaded machine
SUPERVISOR = """
import json, os, pathlib, signal, sys, time
from project.local.children import start_python
from project.local.nursery import Nursery

home, variables = pathlib.Path(sys.argv[1]), dict(os.environ)
nursery = Nursery(variables, home / "nursery.log")
nursery.start()
nursery.wait_until_ready(120)
program = start_python(["waiting"], variables, home / "waiting.log", last_signal=signal.SIGKILL, nursery=nursery)
print(json.dumps([nursery.process.pid, program.pid, type(program).__name__]), flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@pytest.fixture
def variables(tmp_path) -> dict[str, str]:
    """The environment of the nursery. What is in `tmp_path` can be imported, and so can programs of a test."""
    (tmp_path / "waiting.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": "of a test",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def nursery(variables, tmp_path) -> Iterator[Nursery]:
    started = Nursery(variables, tmp_path / "nursery.log")
    started.start()
    started.wait_until_ready(PATIENCE_SECONDS)
    assert started.is_ready, started.log.read_text()
    yield started
    started.end()


@pytest.fixture
def start(nursery, variables, tmp_path) -> Iterator[Callable[..., Process]]:
    """Starts a program of a test by its name, and ends it."""
    started: list[Process] = []

    def start(name: str, source: str | None = None, *, kept_files: tuple[int, ...] = ()) -> Process:
        if source is not None:
            (tmp_path / f"{name}.py").write_text(source)
        log = tmp_path / f"{name}.log"
        started.append(
            start_python(
                [name, "argument"],
                variables,
                log,
                last_signal=signal.SIGKILL,
                kept_files=kept_files,
                nursery=nursery,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_fork_is_a_child_of_ours_in_a_group_of_its_own_whose_end_is_noticed(start, tmp_path):
    program = start("ends", "import sys\nprint(sys.argv[1:], __name__)\nprint('oh', file=sys.stderr)\nsys.exit(7)\n")

    assert isinstance(program, Forked)
    assert program.wait(PATIENCE_SECONDS) == 7
    assert program.poll() == 7
    assert (tmp_path / "ends.log").read_text() == "['argument'] __main__\noh\n"

    waiting = start("waiting")
    assert waiting.poll() is None
    assert os.getpgid(waiting.pid) == waiting.pid
    assert psutil.Process(waiting.pid).ppid() == os.getpid()
    waiting.kill()
    assert waiting.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_a_fork_that_fails_says_why_in_its_log(start, tmp_path):
    program = start("fails", "raise RuntimeError('no such luck')\n")

    assert program.wait(PATIENCE_SECONDS) == 1
    assert "RuntimeError: no such luck" in (tmp_path / "fails.log").read_text()


def test_a_fork_has_the_files_that_it_is_to_keep_and_no_others(start, tmp_path):
    with (tmp_path / "kept").open("w+") as kept, (tmp_path / "other").open("w") as other:
        source = f"""
import json
import os
os.write({kept.fileno()}, b"by the fork")
print(sorted(os.readlink(f"/proc/self/fd/{{number}}") for number in os.listdir("/proc/self/fd") if int(number) > 2
             and os.path.exists(f"/proc/self/fd/{{number}}")))
"""
        program = start("keeps", source, kept_files=(kept.fileno(),))

        assert isinstance(program, Forked)
        assert program.wait(PATIENCE_SECONDS) == 0
        assert Path(kept.name).read_text() == "by the fork"
        assert other.name not in (tmp_path / "keeps.log").read_text()
        assert "socket" not in (tmp_path / "keeps.log").read_text()


def test_libraries_that_few_requests_need_are_not_there_before_the_first_one(start, tmp_path):
    source = """
import sys
import django.urls
assert django.urls.reverse("mfa_login_webauthn")
assert "allauth.account.views" in sys.modules
print(*sorted({"fido2", "cryptography.hazmat.bindings._rust", "requests", "rich", "yaml"} & sys.modules.keys()))
"""
    program = start("looks", source)

    assert program.wait(PATIENCE_SECONDS) == 0, (tmp_path / "looks.log").read_text()
    assert not (tmp_path / "looks.log").read_text().strip()


def test_what_it_forked_outlives_a_nursery_that_is_killed_and_programs_start_without_it(nursery, start, tmp_path):
    before = start("waiting")
    assert nursery.process is not None
    nursery.process.kill()
    nursery.process.wait()

    after = start("ends", "print('by itself')\n")

    assert not isinstance(after, Forked)
    assert after.wait(PATIENCE_SECONDS) == 0
    assert (tmp_path / "ends.log").read_text() == "by itself\n"
    assert before.poll() is None

    nursery.start()
    nursery.wait_until_ready(PATIENCE_SECONDS)
    assert isinstance(start("ends"), Forked)


def test_code_that_has_changed_on_the_disk_is_the_code_that_starts(nursery, start, tmp_path, variables):
    code = tmp_path / "sitecustomize.py"  # Imported by each Python, so also by a nursery that begins anew.
    code.write_text("VERSION = 1\n")
    nursery.end()
    nursery.start()
    nursery.wait_until_ready(PATIENCE_SECONDS)
    shows = "import sitecustomize\nprint(sitecustomize.VERSION)\n"
    assert start("shows", shows).wait(PATIENCE_SECONDS) == 0

    code.write_text("VERSION = 2\n")
    os.utime(code, (code.stat().st_mtime + 10,) * 2)
    by_itself = start("shows")
    assert not isinstance(by_itself, Forked)
    assert by_itself.wait(PATIENCE_SECONDS) == 0
    nursery.wait_until_ready(PATIENCE_SECONDS)
    forked = start("shows")
    assert isinstance(forked, Forked)
    assert forked.wait(PATIENCE_SECONDS) == 0

    assert (tmp_path / "shows.log").read_text().split() == ["1", "2", "2"]


def test_a_program_with_another_environment_is_started_by_itself(nursery, variables, tmp_path):
    log = tmp_path / "waiting.log"
    other = {**variables, "CLOCK_GRACE_SECONDS": "2"}

    program = start_python(["waiting"], other, log, last_signal=signal.SIGKILL, nursery=nursery)

    assert not isinstance(program, Forked)
    program.kill()
    program.wait()


def test_nursery_and_forks_die_with_a_supervisor_that_is_killed(variables, tmp_path):
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)], cwd=BASE_DIR, env=variables, stdout=subprocess.PIPE
    )
    assert supervisor.stdout is not None
    nursery_pid, program_pid, kind = json.loads(supervisor.stdout.readline())
    supervisor.stdout.close()
    assert kind == "Forked"
    started = [psutil.Process(nursery_pid), psutil.Process(program_pid)]

    supervisor.kill()
    supervisor.wait()

    eventually(lambda: not any(is_alive(process) for process in started), "both are gone")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_bytes() -> int:
    return sum(size * free for size, free in free_places().items())


def test_nothing_is_left_free_among_its_objects_for_a_fork_to_write_to():
    scattered = [str(number) for number in range(100_000)]
    del scattered[::2]
    before = free_bytes()

    fill_gaps()

    after = free_bytes()
    FILLING.clear()
    assert before > 2_000_000
    assert after < before / 10
