"""`manage.py clock`: where the clock is, and why it is not at now."""

import json as json_format
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from checkins.node_facts import node_standing
from health.clock.overview import Overview, read_overview
from health.clock.timeline import rows_of, state_of
from health.facts import Finding
from lib.durations import duration
from lib.wallclock import utcnow

TICKS_SHOWN = 5
STYLES = {"good": "green", "bad": "bold red", "doubtful": "yellow", "running": "blue", "quiet": "dim"}


class Command(BaseCommand):
    """Shows what the clock's page of the admin shows. Changes nothing."""

    help = "Show where the clock is, and what holds it up. The exit status is 1 if it is not where it should be."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        """Read, show, and exit with 1 if the clock is behind."""
        try:
            overview = read_overview(utcnow())
        except OperationalError as error:
            raise CommandError(f"PostgreSQL cannot be used: {error}", returncode=2) from None
        if json:
            self.stdout.write(json_format.dumps(_as_json(overview)))
        else:
            _print(overview, Console(file=cast(TextIO, self.stdout)))
        if not overview.status.is_normal:
            raise SystemExit(1)


def _print(overview: Overview, console: Console) -> None:
    status = overview.status
    console.print(escape(status.headline), style="green" if status.is_normal else "yellow", highlight=False)
    for finding in (*status.reasons, *status.besides):
        console.print(f"  - {escape(finding.what)} {escape(finding.todo)}", highlight=False)
    if not overview.ticks:
        return
    for begin, cells in rows_of(overview.ticks, now=overview.now):
        signs = "".join(f"[{STYLES[cell.state.tone]}]{cell.state.sign}[/]" for cell in cells)
        console.print(f"{begin:%H:%M} UTC {signs}", highlight=False)
    ticks = Table(
        "Tick (UTC)", Column("State", overflow="fold"), "Finished after", "Volume", "Missed", "Timeout", "Unknown"
    )
    for tick in overview.ticks[:TICKS_SHOWN]:
        ticks.add_row(
            f"{tick.at:%H:%M}",
            state_of(tick).meaning,
            duration(None if tick.finished_at is None else tick.finished_at - tick.at),
            "-" if tick.volume is None else f"{tick.volume:,}",
            f"{tick.missed_count:,}",
            f"{tick.timeout_count:,}",
            f"{tick.unknown_count:,}",
        )
    console.print(ticks)
    nodes = Table("Ingest node", "State", "Stored up to (UTC)", "In its spool", "Last seen before")
    for node in overview.rows.nodes:
        nodes.add_row(
            escape(str(node)),
            node_standing(node, overview.now).word,
            f"{node.watermark:%H:%M:%S}",
            f"{node.spooled_count:,}",
            duration(overview.now - node.seen_at),
        )
    console.print(nodes)


def _as_json(overview: Overview) -> dict[str, Any]:
    status = overview.status
    going_on = next((incident for incident in overview.incidents if incident.ended_at is None), None)
    return {
        "now": _instant(overview.now),
        "at": _instant(status.at),
        "behind_seconds": None if status.behind is None else status.behind.total_seconds(),
        "is_normal": status.is_normal,
        "headline": status.headline,
        "reasons": _findings_as_json(status.reasons),
        "besides": _findings_as_json(status.besides),
        "decided_until": _instant(overview.rows.decided_until),
        "ticks": [
            {
                "at": _instant(tick.at),
                "dispatched_at": _instant(tick.dispatched_at),
                "decided_at": _instant(tick.decided_at),
                "finished_at": _instant(tick.finished_at),
                "is_listened": tick.is_listened,
                "volume": tick.volume,
                "deviation_percent": tick.deviation_percent,
                "decision": tick.decision,
                "missed": tick.missed_count,
                "timeout": tick.timeout_count,
                "unknown": tick.unknown_count,
            }
            for tick in overview.ticks[:TICKS_SHOWN]
        ],
        "clocks": len(overview.rows.clocks),
        "clocks_behind": [
            {"shard": shard, "kind": kind, "position": _instant(position)}
            for shard, kind, position in overview.clocks_behind
        ],
        "nodes": [
            {
                "host": node.host,
                "pid": node.pid,
                "watermark": _instant(node.watermark),
                "seen_at": _instant(node.seen_at),
                "spooled": node.spooled_count,
                "dropped_at": _instant(node.dropped_at),
                "state": node_standing(node, overview.now).word,
            }
            for node in overview.rows.nodes
        ],
        "clock_incident": None
        if going_on is None
        else {"cause": going_on.cause, "started_at": _instant(going_on.started_at)},
    }


def _findings_as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "part": finding.part.value,
            "severity": finding.severity.value,
            "is_bad": finding.is_bad,
            "what": finding.what,
            "since": _instant(finding.since),
            "todo": finding.todo,
        }
        for finding in findings
    ]


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")
