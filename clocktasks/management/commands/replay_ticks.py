"""`manage.py replay_ticks`: apply the ticks of a window by hand, or see what they would mark."""

import json as json_format
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from clocktasks.clock import MINUTE, TaskKind
from clocktasks.dispatch import may_apply
from clocktasks.exceptions import ReplayWindowError
from clocktasks.kinds.marked import Marked
from clocktasks.playback.replay import Window, first_open_tick, parse_shards, parse_window, rehearse, replay
from clocktasks.shards import TickEffect
from lib.wallclock import utcnow

NAMES_SHOWN_MAX = 5
"""Check-ins named in a row of the table. A tick may mark a hundred thousand; --json names them all."""


class Command(BaseCommand):
    """Applies a window of ticks through the code of the workers. Safe to repeat, and beside running workers."""

    help = "Apply the clock ticks of a window. What is applied already is not applied again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--since", required=True, metavar="ISO", help="first minute, such as 2026-01-05T10:00Z")
        parser.add_argument("--until", required=True, metavar="ISO", help="last minute")
        parser.add_argument("--shard", type=int, metavar="N", help="only this shard; the others stay where they are")
        parser.add_argument("--dry-run", action="store_true", help="show what each tick would mark, and change nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object for each tick, and a summary")

    def handle(
        self, *args: Any, since: str, until: str, shard: int | None, dry_run: bool, json: bool, **options: Any
    ) -> None:
        """Check the window, apply what is open up to its end, and show what was marked."""
        now = utcnow()
        newest = may_apply(now)[0].newest
        try:
            window = parse_window(since, until, newest=newest)
            shards = parse_shards(shard)
        except ReplayWindowError as error:
            raise CommandError(str(error)) from None
        begin = first_open_tick(window, shards)
        if begin < window.since:
            self.stderr.write(
                f"The clock stands before the window: the minutes from {_minute(begin)} on come first, in order."
            )
        effects: list[TickEffect] = []
        try:
            if begin <= window.until:
                open_window = Window(begin, window.until)
                for effect in _with_progress(
                    (rehearse if dry_run else replay)(window, shards, now=now), open_window, shards
                ):
                    effects.append(effect)
                    if json:
                        self.stdout.write(_effect_as_json(effect))
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. Every tick is applied as a whole or not at all; run it again to go on.", returncode=130
            ) from None
        finally:
            if json:
                self.stdout.write(_summary_as_json(window, shards, effects, dry_run=dry_run))
            else:
                self._print_table(effects)
        if not json:
            self.stdout.write(_summary(begin, window, effects, dry_run=dry_run))

    def _print_table(self, effects: Sequence[TickEffect]) -> None:
        if not effects:
            return
        table = Table("Tick", "Kind", "Shards", "Marked", Column("Check-ins", overflow="fold"))
        order = list(TaskKind)
        for (tick, kind), group in groupby(
            sorted(effects, key=lambda e: (e.tick, order.index(e.kind), e.shard)), key=lambda e: (e.tick, e.kind)
        ):
            same = list(group)
            marked = [one for effect in same for one in effect.marked]
            table.add_row(
                _minute(tick), kind.value, ", ".join(str(e.shard) for e in same), str(len(marked)), _names(marked)
            )
        Console(file=cast(TextIO, self.stdout)).print(table)


def _with_progress(effects: Iterable[TickEffect], window: Window, shards: Sequence[int]) -> Iterator[TickEffect]:
    """Pass the effects on, and show on a terminal how far they are: each shard goes through all minutes."""
    console = Console(stderr=True)
    minutes = _minutes(window.since, window.until)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("minutes", total=minutes * len(shards))
        for effect in effects:
            done = minutes * shards.index(effect.shard) + _minutes(window.since, effect.tick)
            progress.update(task, completed=done, description=f"shard {effect.shard}, {_minute(effect.tick)}")
            yield effect


def _minutes(first: datetime, last: datetime) -> int:
    return (last - first) // MINUTE + 1


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%MZ")


def _names(marked: Sequence[Marked]) -> str:
    lines = [f"{one.monitor}/{one.environment} of {_minute(one.at)}" for one in marked[:NAMES_SHOWN_MAX]]
    if len(marked) > NAMES_SHOWN_MAX:
        lines.append(f"and {len(marked) - NAMES_SHOWN_MAX} more")
    return "\n".join(lines)


def _effect_as_json(effect: TickEffect) -> str:
    return json_format.dumps(
        {
            "tick": _minute(effect.tick),
            "kind": effect.kind.value,
            "shard": effect.shard,
            "marked": [
                {
                    "monitor": one.monitor,
                    "environment": one.environment,
                    "at": one.at.isoformat().replace("+00:00", "Z"),
                }
                for one in effect.marked
            ],
        }
    )


def _count(effects: Iterable[TickEffect], kind: TaskKind) -> int:
    return sum(len(effect.marked) for effect in effects if effect.kind is kind)


def _summary_as_json(window: Window, shards: Sequence[int], effects: Sequence[TickEffect], *, dry_run: bool) -> str:
    return json_format.dumps(
        {
            "since": _minute(window.since),
            "until": _minute(window.until),
            "shards": list(shards),
            "dry_run": dry_run,
            "ticks": len({effect.tick for effect in effects}),
            **{kind.value: _count(effects, kind) for kind in TaskKind},
        }
    )


def _summary(begin: datetime, window: Window, effects: Sequence[TickEffect], *, dry_run: bool) -> str:
    if begin > window.until:
        return f"Nothing to do: every tick up to {_minute(window.until)} is applied already."
    span = f"the ticks from {_minute(begin)} to {_minute(window.until)}"
    counts = ", ".join(f"{_count(effects, kind)} {kind.value}" for kind in TaskKind)
    if dry_run:
        return f"Nothing was changed. Applying {span} would mark: {counts}."
    return f"Applied {span}. Marked: {counts}."
