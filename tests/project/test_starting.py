"""A program that cannot start says why in one line that names the setting."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import manage
from project.local.children import BASE_DIR
from project.version import VERSION

NO_HOST = "no-such-host.invalid"


def outcome(*arguments: str, seconds: float = 120, **variables: str | None) -> tuple[int, list[str]]:
    """Run a program of ours and return its exit code and the lines that it wrote to stderr."""
    ours = {"SECRET_KEY": "the tests' own", "DJANGO_SETTINGS_MODULE": "project.settings"}
    environment = os.environ | ours | variables
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=BASE_DIR,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return ended.returncode, ended.stderr.splitlines()


def test_an_argument_that_is_not_utf8_is_one_line_for_every_command(monkeypatch):
    argument = os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(sys, "argv", ["manage.py", "notify", "test", argument])
    with pytest.raises(SystemExit, match=r"The argument b'caf\\xe9' is not UTF-8."):
        manage.main()


@pytest.mark.long
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(("manage.py", "bootstrap"), id="bootstrap"),
        pytest.param(("-m", "celery", "-A", "project", "worker"), id="worker"),
        pytest.param(("-m", "celery", "-A", "project", "beat"), id="beat"),
    ],
)
def test_a_missing_key_is_one_line(program):
    code, lines = outcome(*program, SECRET_KEY=None, DATABASE_URL="postgres://u@127.0.0.1:1/x", REDIS_URL="redis://h")

    assert code != 0
    assert len(lines) == 1
    assert lines[0].startswith("Watchclock cannot start: SECRET_KEY is not set.")


@pytest.mark.long
def test_a_wrong_database_host_is_one_line_without_the_password():
    code, [line] = outcome("manage.py", "bootstrap", DATABASE_URL=f"postgres://me:secret@{NO_HOST}/name")

    assert code == 1
    assert line.startswith("Watchclock cannot start: PostgreSQL cannot be reached: ")
    assert line.endswith(f"DATABASE_URL is postgres://me@{NO_HOST}/name")
    assert "secret" not in line


@pytest.mark.long
def test_a_wrong_database_password_is_one_line_without_the_password(engines):
    parts = urlsplit(os.environ["DATABASE_URL"])
    place = f"{parts.hostname}:{parts.port}{parts.path}"
    code, [line] = outcome("manage.py", "bootstrap", DATABASE_URL=f"postgres://{parts.username}:secret@{place}")

    assert code == 1
    assert line.startswith("Watchclock cannot start: PostgreSQL cannot be reached: ")
    assert "password authentication failed" in line
    assert line.endswith(f"DATABASE_URL is postgres://{parts.username}@{place}")
    assert "secret" not in line


@pytest.mark.long
def test_a_worker_or_beat_names_the_setting_of_an_engine_that_is_away():
    # What both call when they start; they go on after that, since an engine may come back.
    ask = (
        "import django; django.setup(); from project import starting; print('\\n'.join(starting.find_absent_engines()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=BASE_DIR,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "SECRET_KEY": "the tests' own",
            "DATABASE_URL": f"postgres://me:secret@{NO_HOST}/name",
            "REDIS_URL": "redis://:secret@127.0.0.1:1/0",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    postgres, broker = ended.stdout.splitlines()

    assert postgres.endswith(f"DATABASE_URL is postgres://me@{NO_HOST}/name")
    assert broker.startswith("The broker cannot be reached: ")
    assert broker.endswith("REDIS_URL is redis://127.0.0.1:1/0")
    assert "secret" not in ended.stdout


def test_the_version_is_that_of_the_package():
    assert f'version = "{VERSION}"' in (BASE_DIR / "pyproject.toml").read_text()
