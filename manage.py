#!/usr/bin/env python
"""Django's command line for Watchclock."""

import os
import sys
from pathlib import Path

import environ


def main() -> None:
    """Run the command; a wrong setting or an absent engine is one plain line, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    read_environment_of_make_run()
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from project import starting

    if "--traceback" not in sys.argv:
        sys.excepthook = starting.report_uncaught
    settings.DEBUG  # noqa: B018  (loads the settings)
    execute_from_command_line(sys.argv)


def read_environment_of_make_run() -> None:
    """Let commands work on the instance that `make run` keeps, unless told of another database."""
    home = os.environ.get("WATCHCLOCK_HOME") or Path(__file__).resolve().parent / ".watchclock"
    file = Path(home) / "environment"
    if "DATABASE_URL" not in os.environ and file.exists():
        environ.Env.read_env(file)


if __name__ == "__main__":
    main()
