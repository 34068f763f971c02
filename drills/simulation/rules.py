"""Jobs and what their monitors expect, at first and after edits (pure)."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from drills.oracle import rules as oracle

START = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = "5" * 32


class Rules(NamedTuple):
    """What a monitor expects: a run every `every` minutes, counted from the hour. Margin and runtime are in minutes."""

    every: int
    margin: int
    runtime: int
    failures_to_open: int
    oks_to_recover: int


def expected_by(rules: Rules) -> oracle.Rules:
    """The same rules, as the account has them."""
    return oracle.Rules(oracle.Every(rules.every), *rules[1:])


Changes = tuple[tuple[str, int], ...]
"""What an edit changes of the rules, by the names that these have there."""


@dataclass(frozen=True)
class Job:
    """A monitor environment, and the rules that its monitor has at first."""

    monitor_id: int
    environment: str
    rules: Rules

    @property
    def slug(self) -> str:
        """The monitor's name in addresses."""
        return f"job-{self.monitor_id}"

    def __str__(self) -> str:
        return f"{self.slug}/{self.environment}"


MONITORS = {
    1: Rules(2, 1, 1, 1, 1), 2: Rules(2, 1, 1, 2, 1), 3: Rules(1, 2, 1, 1, 2), 4: Rules(3, 1, 2, 1, 1),
    17: Rules(3, 2, 1, 1, 1), 18: Rules(1, 1, 1, 3, 2), 20: Rules(3, 2, 1, 1, 1), 33: Rules(2, 3, 1, 2, 2),
}  # fmt: skip
"""Monitors by their ids, with the rules that they have at first. Some share a shard."""


def crontab(every: int) -> str:
    """The crontab of a monitor's rules."""
    return f"*/{every} * * * *"


def columns_of(changes: Iterable[tuple[str, int]]) -> dict[str, object]:
    """The columns of a monitor that these rules are in."""
    return {
        "crontab" if name == "every" else COLUMNS[name]: crontab(value) if name == "every" else value
        for name, value in changes
    }


COLUMNS = {
    "margin": "checkin_margin",
    "runtime": "max_runtime",
    "failures_to_open": "failure_threshold",
    "oks_to_recover": "recovery_threshold",
}
CONFIG_KEYS = COLUMNS | {"failures_to_open": "failure_issue_threshold"}
RUNS_LEAST = 1
"""Runs before a multiple of the median is a limit: a world is a few minutes long."""
VALUES_MAX = Rules(every=4, margin=3, runtime=3, failures_to_open=3, oks_to_recover=2)
"""Of every rule that an edit sets; the least is 1."""


def choose_changes(chance: random.Random, names: Iterable[str]) -> Changes:
    """New values of these rules."""
    return tuple((name, chance.randint(1, getattr(VALUES_MAX, name))) for name in names)


def choose_jobs(chance: random.Random) -> list[Job]:
    """Some environments of some monitors, in two shards or three."""
    monitors = chance.sample(sorted(MONITORS), chance.choice([1, 1, 1, 2]))
    places = [(monitor, "production") for monitor in monitors]
    places += [(monitor, "staging") for monitor in monitors if chance.random() < 0.3]
    return [Job(monitor, name, MONITORS[monitor]) for monitor, name in places]


def choose_configs(chance: random.Random, likelihood: float) -> list[Changes]:
    """What the SDK of a monitor's job sends as configuration, at one time or another. Mostly it sends none."""
    if chance.random() >= likelihood:
        return []
    names = ["every", *(name for name in COLUMNS if chance.random() < 0.5)]
    return [choose_changes(chance, names) for _ in range(2)]


def choose_limits(seed: int, monitor_ids: Iterable[int]) -> dict[int, oracle.Limits]:
    """Decide which monitors have limits of runs that end ok. By a dice of its own, as for maintenance."""
    chance = random.Random(f"limits {seed}")  # noqa: S311 - repeatable, and no secret
    limits = {}
    for id_ in sorted(monitor_ids):
        if chance.random() < 0.5:
            limits[id_] = chance.choice(
                [
                    oracle.Limits(slow_seconds=(30, True)),
                    oracle.Limits(slow_seconds=(59, False), overlap_counts=True),
                    oracle.Limits(slow_times=(2, True)),
                    oracle.Limits(slow_times=(2, False), overlap_counts=True),
                    oracle.Limits(overlap_counts=False),
                ]
            )
    return limits


def text_of(limits: oracle.Limits) -> str:
    """The limits as a monitor's row has them."""
    parts = []
    if limits.slow_seconds is not None:
        parts.append((f"longer than {limits.slow_seconds[0]}s", limits.slow_seconds[1]))
    if limits.slow_times is not None:
        parts.append((f"longer than {limits.slow_times[0]}x", limits.slow_times[1]))
    if limits.overlap_counts is not None:
        parts.append(("overlap", limits.overlap_counts))
    return "; ".join(f"{what}: {'failure' if counts else 'note'}" for what, counts in parts)


def choose_windows(seed: int, monitor_ids: Iterable[int], minutes: int) -> dict[int, list[tuple[datetime, datetime]]]:
    """Decide which monitors are in maintenance when. By a dice of its own, so that a seed's world is as without."""
    chance = random.Random(f"maintenance {seed}")  # noqa: S311 - repeatable, and no secret
    windows = {}
    for id_ in sorted(monitor_ids):
        if chance.random() < 0.3:
            begin = START + chance.randrange(minutes + 1) * oracle.MINUTE
            windows[id_] = [(begin, begin + chance.choice([1, 2, 3]) * oracle.MINUTE)]
    return windows
