"""`manage.py simulate`: stories in virtual time, run through the real code and compared with what they expect."""

import os
import signal
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from rich.console import Console
from rich.text import Text

from clocktasks.playback.compare import Difference, ScenarioResult
from clocktasks.playback.play import run_scenario
from clocktasks.playback.scenario import Scenario, ScenarioError, parse_scenarios
from clocktasks.playback.scratch import NoScratchDatabaseError, empty_tables, scratch_database
from lib.encoding import to_json

EXIT_DIFFERS = 1
EXIT_NO_SCENARIO_FILE = 2
EXIT_NO_DATABASE = 3


class Command(BaseCommand):
    """Runs scenario files in a database of its own."""

    help = (
        "Run scenarios in virtual time, in a scratch database, and compare. "
        "Exit status 1 if any differs, 2 if a file is not a scenario file, 3 if there is no database to run in."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "files", nargs="+", metavar="FILE", help="one scenario a line (.jsonl); - is standard input"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object for each scenario")

    def handle(self, *args: Any, files: Sequence[str], json: bool, **options: Any) -> None:
        """Read all files before anything runs, then run them."""
        try:
            scenarios = [scenario for file in files for scenario in _read(file)]
        except ScenarioError as error:
            raise CommandError(str(error), returncode=EXIT_NO_SCENARIO_FILE) from None
        console = Console(file=cast(TextIO, self.stdout), highlight=False, soft_wrap=True)
        differing = 0
        with _database():
            for scenario in scenarios:
                empty_tables()
                outcome = _run(scenario, raise_errors=options["traceback"])
                differing += not outcome.passed
                if json:
                    self.stdout.write(to_json(outcome).decode())
                else:
                    console.print(render(scenario, outcome))
        if not json:
            console.print(f"{len(scenarios) - differing} of {len(scenarios)} scenarios as expected")
        if differing:
            sys.exit(EXIT_DIFFERS)


def render(scenario: Scenario, outcome: ScenarioResult) -> Text:
    """Return the line of a scenario, and below it what differs."""
    text = Text.assemble(("✓ ", "green") if outcome.passed else ("✗ ", "red"), outcome.name)
    for difference in outcome.differences:
        first, *more = difference.message.splitlines()
        text.append(f"\n    {_moment(scenario, difference)}", style="dim").append(first)
        for line in more:
            text.append(f"\n    {line}", _DIFF_STYLES.get(line.lstrip()[:2]))
    return text


_DIFF_STYLES = {"- ": "red", "+ ": "green"}


def _moment(scenario: Scenario, difference: Difference) -> str:
    number = difference.after_event
    if not isinstance(number, int):
        return ""
    event = scenario.events[number]
    return f"after event {number} ({event.__struct_config__.tag} {event.at:%Y-%m-%d %H:%M:%S}): "


def _read(file: str) -> list[Scenario]:
    try:
        if file == "-":
            return parse_scenarios(sys.stdin.buffer, file="standard input")
        with Path(file).open("rb") as lines:
            return parse_scenarios(lines, file=file)
    except OSError as error:
        raise ScenarioError(f"{file} cannot be read: {error.strerror}") from None


def _run(scenario: Scenario, *, raise_errors: bool) -> ScenarioResult:
    try:
        return run_scenario(scenario)
    except Exception as error:
        # One scenario that breaks the code must not hide the others.
        if raise_errors:
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"broke off: {type(error).__name__}: {error} ({where.filename}, line {where.lineno}; see --traceback)"
        difference = Difference(message=message, key="events")
        return ScenarioResult(name=scenario.name, passed=False, differences=[difference], state=None)


@contextmanager
def _database() -> Iterator[None]:
    """A scratch database that is dropped also on Ctrl-C and SIGTERM."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with scratch_database(f"{connection.settings_dict['NAME']}_simulation_{os.getpid()}"):
            yield
    except NoScratchDatabaseError as error:
        raise CommandError(str(error), returncode=EXIT_NO_DATABASE) from None
    except KeyboardInterrupt:
        raise CommandError("Interrupted; the scratch database is gone.", returncode=128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
