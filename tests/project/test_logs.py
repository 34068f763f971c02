"""Log lines: one form for everybody, with what their process and task have bound."""

import json
import logging
import subprocess
import sys

import pytest
import structlog
from django.core.exceptions import ImproperlyConfigured

from project import logs


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("clocktasks.dispatch", logging.WARNING, "x.py", 1, message, arguments, exc_info)


def line(message: str, *arguments: object, error: BaseException | None = None) -> dict[str, object]:
    said: dict[str, object] = json.loads(logs.formatter("json").format(record(message, *arguments, error=error)))
    return said


def test_a_line_of_any_logger_is_one_object_with_what_is_bound():
    with structlog.contextvars.bound_contextvars(kind="missed", shard=3, tick="2026-01-05T10:00:00+00:00"):
        said = line("tick %s waits", "10:00")

    assert (said["event"], said["level"], said["logger"]) == ("tick 10:00 waits", "warning", "clocktasks.dispatch")
    assert (said["kind"], said["shard"], said["tick"]) == ("missed", 3, "2026-01-05T10:00:00+00:00")
    assert str(said["timestamp"]).endswith("Z")
    assert {"process", "process_name"} <= said.keys()
    assert "shard" not in line("afterwards")


def test_a_traceback_is_text_without_the_values_of_variables():
    def fail() -> None:
        password = "hunter2" * 2  # noqa: F841 - what must not be told
        raise ValueError("broken")

    try:
        fail()
    except ValueError as error:
        said = line("it failed", error=error)

    assert "ValueError: broken" in str(said["exception"])
    assert "hunter2hunter2" not in json.dumps(said)


def test_the_console_is_for_people():
    with structlog.contextvars.bound_contextvars(shard=3):
        said = logs.formatter("console").format(record("tick %s waits", "10:00"))

    assert "tick 10:00 waits" in said
    assert "shard" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("variables", "form"),
    [({}, "json"), ({"DEBUG": "true"}, "console"), ({"DEBUG": "true", "LOG_FORMAT": "JSON"}, "json")],
)
def test_production_writes_json(monkeypatch, variables, form):
    for name in ("DEBUG", "LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert logs.log_format() == form


def test_a_form_that_nobody_knows_stops_the_start(monkeypatch):
    monkeypatch.setenv("LOG_FORMAT", "xml")

    with pytest.raises(ImproperlyConfigured, match="LOG_FORMAT='xml' is not one of json, console"):
        logs.log_format()


def test_celery_and_granian_log_in_the_same_form():
    program = """
import logging.config, sys
from granian.log import LogLevels, configure_logging
from project import logs
from project.celery import app
configure_logging(LogLevels.warning, logs.configuration("json"))
logging.getLogger("_granian").warning("a worker died")
import django
django.setup()
app.log.setup(loglevel="WARNING", redirect_stdouts=True)
logging.getLogger("celery.worker").info("connected")
logging.getLogger("celery.worker").warning("ready")
logging.getLogger("django.request").error("no")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )

    said = [json.loads(text) for text in ended.stderr.splitlines()]
    assert [(one["logger"], one["event"]) for one in said] == [
        ("_granian", "a worker died"),
        ("celery.worker", "ready"),
        ("django.request", "no"),
    ]


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "LOG_FORMAT": "json"}
