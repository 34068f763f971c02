"""`manage.py ensure_partitions`: create the coming days of check-ins, and drop those past their retention."""

import json as json_format
from argparse import ArgumentParser
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from checkins.partitions import PartitionChange, Plan, ensure_partitions, find_changes, retention_days
from lib.wallclock import utcnow
from monitors.pruning import time_to_prune


class Command(BaseCommand):
    """Safe to repeat, and to run beside everything else; beat does the same every hour."""

    help = "Create the partitions of the coming days of check-ins, and drop the days past CHECKIN_RETENTION_DAYS."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="report what there is to do, and change nothing")
        parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")

    def handle(self, *args: Any, dry_run: bool = False, json: bool = False, **options: Any) -> None:
        """Run it and print the result; the exit status is 1 if something could not be done now."""
        now = utcnow()
        as_of = time_to_prune(now)
        outcome = (
            _intended(find_changes(now=now, drop_as_of=as_of))
            if dry_run
            else ensure_partitions(now=now, drop_as_of=as_of)
        )
        if json:
            self.stdout.write(_as_json(outcome, dry_run=dry_run))
        else:
            self._print_table(outcome, dry_run=dry_run)
        if outcome.postponed:
            raise SystemExit(1)

    def _print_table(self, outcome: PartitionChange, *, dry_run: bool) -> None:
        kept = f"check-ins are kept for {retention_days()} days" if retention_days() else "check-ins are kept forever"
        if outcome == PartitionChange():
            self.stdout.write(f"Nothing to do: the coming days exist, and {kept}.")
            return
        table = Table("Partition", "What", "Rows", title="What there is to do" if dry_run else "What was done")
        for name, moved in outcome.created.items():
            table.add_row(name, "make" if dry_run else "made", "" if dry_run else f"{moved:,} moved here")
        for name, rows in outcome.dropped.items():
            table.add_row(name, "drop" if dry_run else "dropped", "" if dry_run else f"about {rows:,}")
        for name, reason in outcome.postponed.items():
            table.add_row(name, f"not now: {reason}", "")
        Console(file=cast(TextIO, self.stdout)).print(table)
        self.stdout.write(f"(Days are in UTC; {kept}.)")


def _intended(plan: Plan) -> PartitionChange:
    return PartitionChange(
        created={partition.name: 0 for partition in plan.create}, dropped={partition.name: 0 for partition in plan.drop}
    )


def _as_json(outcome: PartitionChange, *, dry_run: bool) -> str:
    return json_format.dumps(
        {
            "created": outcome.created,
            "dropped": outcome.dropped,
            "postponed": outcome.postponed,
            "retention_days": retention_days(),
            "dry_run": dry_run,
        }
    )
