"""`manage.py change_shards`: spread all monitors over another number of shards, while everything runs."""

import json as json_format
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from clocktasks.exceptions import ShardCountError
from clocktasks.resharding import ShardChange, change_shards
from monitors.shard_count import ignored_setting


class Command(BaseCommand):
    """Changes the number of shards in one transaction. Safe beside running web processes, workers and beats."""

    help = "Change the number of shards of the clock. Nothing is lost; alerts wait while it runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("count", type=int, metavar="N", help="how many shards there shall be, 1 to 1024")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, count: int, json: bool, **options: Any) -> None:
        """Change the number and say what was done."""
        console = Console(stderr=True)
        try:
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("")

                def report(what: str, done: int, total: int) -> None:
                    progress.update(task, description=what, completed=done, total=total)

                change = change_shards(count, report=report)
        except ShardCountError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted. The number of shards is what it was.", returncode=130) from None
        self.stdout.write(_as_json(change) if json else _sentence(change))
        if (ignored := ignored_setting()) is not None:
            self.stderr.write(f"{ignored} Set CLOCK_SHARDS={count} to match.")


def _sentence(change: ShardChange) -> str:
    if change.before == change.after:
        return f"Nothing to do: there are {change.after} shards."
    at = "" if change.position is None else f", all of them at {change.position:%Y-%m-%dT%H:%MZ}"
    return (
        f"There are {change.after} shards now instead of {change.before}{at}. Moved {change.environment_count} monitor "
        f"environments and {change.run_count} runs in progress; no tick was applied for {change.locked_seconds:.1f} s."
    )


def _as_json(change: ShardChange) -> str:
    return json_format.dumps(
        {
            "before": change.before,
            "after": change.after,
            "position": None if change.position is None else f"{change.position:%Y-%m-%dT%H:%MZ}",
            "environments": change.environment_count,
            "runs": change.run_count,
            "waited_seconds": round(change.waited_seconds, 3),
            "locked_seconds": round(change.locked_seconds, 3),
        }
    )
