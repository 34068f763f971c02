"""How log lines look: one form for ours and for Django's, Celery's and granian's, which all use `logging`.

`json`: one object a line, for whatever collects logs. `console`: for people. Either way a line carries what its process
or task has bound with structlog's contextvars: tick, shard, kind, node, task.

Needs no Django: the main process of the web, which knows nothing of the settings, logs like all others.
"""

import logging
import sys
from typing import Any

import structlog
from structlog.types import Processor

from project import env

TALKATIVE = ("celery.beat", "celery.worker.strategy", "celery.app.trace")


def log_format() -> str:
    """Return LOG_FORMAT. Raises ImproperlyConfigured."""
    is_debugging = env.flag("DEBUG", default=False)
    return env.choice("LOG_FORMAT", default="console" if is_debugging else "json", of=("json", "console"))


def configuration(form: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`. It holds nothing but text, so it travels to workers."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "project.logs.formatter", "form": form}},
        "filters": {"outside": {"()": "project.logs.OutsideCauses"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["outside"]}},
        # Beat and workers have a line for every task that was sent, received and done: seven megabytes a day in which
        # nothing happens. What goes wrong is a warning or an error of theirs.
        "loggers": {name: {"level": "WARNING"} for name in TALKATIVE},
        "root": {"handlers": ["console"], "level": "INFO"},
    }


class OutsideCauses(logging.Filter):
    """Cuts tracebacks from lines whose cause is outside: a scanner's Host header, a refusal, an engine that is away.

    The traceback says nothing about it, and there is one for each request.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, some without their traceback."""
        error = record.exc_info[1] if record.exc_info else None
        is_refusal = record.name == "django.request" and record.levelno < logging.ERROR
        if is_refusal or record.name.startswith("django.security."):
            record.exc_info = None
        elif record.name == "django.request" and error is not None:
            from project import starting

            reason = starting.explain(error)
            if reason is not None:
                record.exc_info = None
                record.msg, record.args = f"{record.getMessage()}: {reason}", ()
        return True


def formatter(form: str) -> logging.Formatter:
    """Return what makes a line of a record."""
    on_every_line: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor]
    if form == "json":
        # Which of many processes said it. Tracebacks are text: with their variables they would hold keys and passwords.
        on_every_line.append(
            structlog.processors.CallsiteParameterAdder(
                {
                    structlog.processors.CallsiteParameter.PROCESS,
                    structlog.processors.CallsiteParameter.PROCESS_NAME,
                }
            )
        )
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            )
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=on_every_line,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
