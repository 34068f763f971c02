#!/usr/bin/env python
"""Django's command line for Watchclock."""

import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import environ


def main() -> None:
    """Run the command; a wrong setting or an absent engine is one plain line, not a traceback."""
    refuse_what_is_no_text(sys.argv[1:])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    was_received = "DATABASE_URL" in os.environ
    read_environment_of_make_run()
    with place_for_stories() if sys.argv[1:2] == ["simulate"] and not was_received else nullcontext():
        execute()


def refuse_what_is_no_text(arguments: Sequence[str]) -> None:
    """Exit with a line about an argument that is not UTF-8: no name is, and neither database nor terminal take it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            sys.exit(f"The argument {os.fsencode(argument)!r} is not UTF-8.")


def execute() -> None:
    """Do what the command line says."""
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from project import starting

    if "--traceback" not in sys.argv:
        sys.excepthook = starting.report_uncaught
    settings.DEBUG  # noqa: B018  (loads the settings)
    execute_from_command_line(sys.argv)


@contextmanager
def place_for_stories() -> Iterator[None]:
    """Let `simulate` run also where nothing runs: on the database of `make run`, or else on one of its own."""
    from project.local import engines

    known = os.environ.get("DATABASE_URL")
    if known and engines.answers(known):
        yield
        return
    try:
        with engines.passing_postgres() as url:
            os.environ["DATABASE_URL"] = url
            os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")  # Stories need none.
            os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(64))
            yield
    except engines.EngineError as error:
        sys.exit(f"There is no database to simulate in: {error}")


def read_environment_of_make_run() -> None:
    """Let commands work on the instance that `make run` keeps, unless told of another database."""
    home = os.environ.get("WATCHCLOCK_HOME") or Path(__file__).resolve().parent / ".watchclock"
    file = Path(home) / "environment"
    if "DATABASE_URL" not in os.environ and file.exists():
        environ.Env.read_env(file)


if __name__ == "__main__":
    main()
