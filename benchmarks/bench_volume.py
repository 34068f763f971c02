"""How should the clock tell from the volume of check-ins that it is deaf? False and missed alarms of some statistics.

Simulates the check-ins of a minute (Poisson around a shape) for old and young installations of several sizes, without
a fault and with drops, and plays each statistic through the decisions of `clocktasks.volume`, minute by minute. One
seed chooses everything. The last statistic is that of `clocktasks.volume` itself; the others live only here, as the
comparison that docs/explanation/volume.md rests on. Tables go to standard error, the last line is JSON.
"""

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from benchmarks.volume_traffic import MINUTE, MONDAY, shapes, thinned, traffic
from clocktasks.volume import (
    CHANCE_SPREADS,
    SPREAD_PER_DEVIATION,
    VolumeClass,
    VolumeDecision,
    VolumeRules,
    classify,
    decide,
    deviation_percent,
    next_decisions,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LAST_DAYS = [day * DAY for day in range(1, 31)]
NEAR = [minutes * MINUTE for minutes in range(7)]
Row = dict[str, Any]
RULES = VolumeRules()

# --- Statistics -------------------------------------------------------------------------------------------------------

History = Mapping[datetime, int]
Judge = Callable[[int, datetime, History], VolumeClass]


def by_percent(volume: int, expected: float) -> VolumeClass:
    """Judge by the percentages alone."""
    deviation = deviation_percent(volume, expected)
    if deviation <= RULES.incident_percent:
        return VolumeClass.INCIDENT
    return VolumeClass.ABNORMAL if deviation <= RULES.anomaly_percent else VolumeClass.NORMAL


def beyond_chance(volume: int, expected: float, spread: float) -> VolumeClass:
    """Judge by the percentages what is more than chance."""
    if expected - volume < CHANCE_SPREADS * max(math.sqrt(expected), spread):
        return VolumeClass.NORMAL
    return by_percent(volume, expected)


def same_minute(minute: datetime, history: History, *, days: int, around: int = 0) -> list[int]:
    """Return the volumes of this minute, and those `around` it, on the days before."""
    first = minute - around * MINUTE
    nearest = (first - day for day in LAST_DAYS[:days])
    earlier = (other + near for other in nearest for near in NEAR[: 2 * around + 1])
    return [volume for other in earlier if (volume := history.get(other)) is not None]


def mean_of_days(volume: int, minute: datetime, history: History) -> VolumeClass:
    """What the reference does."""
    volumes = same_minute(minute, history, days=30)
    expected = sum(volumes) / len(volumes) if len(volumes) >= 2 else 0
    return by_percent(volume, expected) if expected else VolumeClass.NORMAL


def mean_and_chance(volume: int, minute: datetime, history: History) -> VolumeClass:
    """The mean of the reference, with a bound for chance."""
    volumes = same_minute(minute, history, days=30)
    expected = sum(volumes) / len(volumes) if len(volumes) >= 2 else 0
    if not expected:
        return VolumeClass.NORMAL
    return beyond_chance(volume, expected, math.dist(volumes, [expected] * len(volumes)) / math.sqrt(len(volumes)))


def median_and_chance(volume: int, volumes: Sequence[int]) -> VolumeClass:
    """Judge by the median of some volumes, with a bound for chance."""
    expected = statistics.median(volumes) if len(volumes) >= 2 else 0
    if not expected:
        return VolumeClass.NORMAL
    spread = SPREAD_PER_DEVIATION * statistics.median(abs(other - expected) for other in volumes)
    return beyond_chance(volume, expected, spread)


def median_of_days(volume: int, minute: datetime, history: History) -> VolumeClass:
    """The median of the days whose mean the reference takes."""
    return median_and_chance(volume, same_minute(minute, history, days=30))


def median_of_neighbours(volume: int, minute: datetime, history: History) -> VolumeClass:
    """The median of fewer days, with the minutes around."""
    return median_and_chance(volume, same_minute(minute, history, days=14, around=3))


def kept(volume: int, minute: datetime, history: History) -> VolumeClass:
    """What the clock does."""
    return classify(volume, minute, history, RULES)[0]


def kept_without_minimum(volume: int, minute: datetime, history: History) -> VolumeClass:
    """What the clock does, speaking up however few check-ins are usual."""
    return classify(volume, minute, history, replace(RULES, minimum_expected=0.001))[0]


STATISTICS: dict[str, Judge] = {
    "mean of 30 days (Sentry's)": mean_of_days,
    "mean, and chance": mean_and_chance,
    "median of 30 days, and chance": median_of_days,
    "median of neighbours, and chance": median_of_neighbours,
    "kept, without a minimum": kept_without_minimum,
    "**kept**": kept,
}
FORGETS_INCIDENTS = {mean_of_days, mean_and_chance}
"""The reference deletes the counters of an incident when it is over; medians need no such thing."""

# --- Playing a statistic ----------------------------------------------------------------------------------------------


@dataclass
class Played:
    """What a span of minutes led to: what was decided at each tick, when first an incident, and what became of it."""

    decided: dict[datetime, VolumeDecision]
    final: dict[datetime, VolumeDecision]

    @property
    def incidents(self) -> int:
        """How often an incident began."""
        blamed, begun = False, 0
        for decision in self.decided.values():
            begun += decision is VolumeDecision.INCIDENT and not blamed
            blamed = decision in {VolumeDecision.INCIDENT, VolumeDecision.RECOVERING}
        return begun

    @property
    def held(self) -> int:
        """At how many ticks the clock had to wait."""
        return sum(not decision.is_final for decision in self.decided.values())

    @property
    def unknown(self) -> int:
        """How many ticks ended as part of an incident."""
        return sum(decision is VolumeDecision.INCIDENT for decision in self.final.values())


def play(judge: Judge, history: dict[datetime, int], minutes: Iterable[datetime]) -> Played:
    """Judge minutes one after the other. Each is called a tick here, though it is the tick after it that judges."""
    played = Played({}, {})
    classes: list[VolumeClass] = []
    previous, pending = VolumeDecision.NORMAL, list[datetime]()
    remembered = dict(history) if judge in FORGETS_INCIDENTS else history
    for minute in minutes:
        classes = [judge(history[minute], minute, remembered), *classes[: RULES.decision_window - 1]]
        decision = decide(previous, classes, rules=RULES)
        settled = next_decisions(pending, minute, decision, rules=RULES)
        pending = [tick for tick in [*pending, minute] if tick not in settled]
        played.decided[minute] = decision
        played.final |= settled
        recovered = previous is VolumeDecision.RECOVERING and decision is VolumeDecision.NORMAL
        if recovered and judge in FORGETS_INCIDENTS:
            forgotten = [tick for tick in remembered if played.final.get(tick) is VolumeDecision.INCIDENT]
            for tick in forgotten:
                del remembered[tick]
        previous = decision
    return played


def span(start: datetime, minutes: int) -> list[datetime]:
    """Return the minutes from `start` on."""
    return [start + minute * MINUTE for minute in range(minutes)]


@dataclass(frozen=True)
class Case:
    """One installation: its shape, check-ins a minute, and days of history before the first judged minute."""

    shape: str
    size: int
    age_days: int
    days: int
    faults: int
    seed: int

    def traffic(self) -> tuple[dict[datetime, int], random.Random]:
        """Return its check-ins by minute, the same each time, and where further random choices come from."""
        chance = random.Random(f"{self.seed} {self.shape} {self.size} {self.age_days}")  # noqa: S311 (not a secret)
        minutes = (self.age_days + self.days) * 1440
        return traffic(shapes(self.age_days * 1440)[self.shape], self.size, minutes, chance), chance


DROPS = (0.3, 0.5, 1.0)
FAULT_MINUTES = (10, 60, 240)
BEFORE, AFTER = 10, 30


def measure(case: Case) -> list[Row]:
    """Return one row for each statistic without a fault, and one for each with each fault."""
    history, chance = case.traffic()
    first = MONDAY + case.age_days * DAY
    about = {"shape": case.shape, "size": case.size, "age_days": case.age_days}
    rows: list[Row] = []
    for name, judge in STATISTICS.items():
        quiet = play(judge, history, span(first, case.days * 1440))
        figures = {"incidents": quiet.incidents, "held": quiet.held, "unknown": quiet.unknown}
        rows.append(about | {"statistic": name, "drop": 0.0} | {key: n / case.days for key, n in figures.items()})
    for drop in DROPS:
        for minutes in FAULT_MINUTES:
            for _ in range(case.faults):
                # Not on the first judged day: the installation that grows has done so by then.
                start = first + DAY + chance.randrange((case.days - 1) * 1440 - minutes - AFTER) * MINUTE
                fault = {minute: thinned(history[minute], drop, chance) for minute in span(start, minutes)}
                rows += [
                    about | {"statistic": name, "drop": drop, "minutes": minutes} | found(judge, history | fault, fault)
                    for name, judge in STATISTICS.items()
                ]
    return rows


def found(judge: Judge, history: dict[datetime, int], fault: Mapping[datetime, int]) -> Row:
    """Return after how many minutes of the fault it was an incident (None: never), and which share became unknown."""
    start = min(fault)
    played = play(judge, history, span(start - BEFORE * MINUTE, BEFORE + len(fault) + AFTER))
    noticed = [minute for minute in fault if played.decided[minute] is VolumeDecision.INCIDENT]
    protected = sum(played.final.get(minute) is VolumeDecision.INCIDENT for minute in fault)
    delay = (noticed[0] - start) / MINUTE + 1 if noticed else None
    return {"delay": delay, "protected": protected / len(fault)}


# --- Two more questions -----------------------------------------------------------------------------------------------


def until_accepted(judge: Judge, drop: float, *, size: int, seed: int, days_most: int = 8) -> float | None:
    """Return for how many hours a lasting drop counts as an incident, or None if for more than `days_most` days."""
    case = Case("daily peaks", size, age_days=30, days=days_most + 1, faults=0, seed=seed)
    history, chance = case.traffic()
    start = MONDAY + 30 * DAY
    for minute in span(start, days_most * 1440):
        history[minute] = thinned(history[minute], drop, chance)
    played = play(judge, history, span(start - BEFORE * MINUTE, BEFORE + days_most * 1440))
    blamed = [minute for minute, decision in played.decided.items() if decision is VolumeDecision.INCIDENT]
    if not blamed:
        return 0.0
    hours = (blamed[-1] - start) / HOUR
    return None if hours > days_most * 24 - 6 else hours


def host_down(judge: Judge, size: int, *, host: int, tries: int, seed: int) -> float:
    """Return how often an hour without one of the users' hosts, which sends `host` a minute, is taken for our fault."""
    case = Case("steady", size, age_days=30, days=2, faults=0, seed=seed)
    history, chance = case.traffic()
    wrong = 0
    for _ in range(tries):
        start = MONDAY + 30 * DAY + chance.randrange(1440) * MINUTE
        fault = {minute: thinned(history[minute], host / size, chance) for minute in span(start, 60)}
        wrong += found(judge, history | fault, fault)["delay"] is not None
    return wrong / tries


# --- The study --------------------------------------------------------------------------------------------------------


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, so that it can be pasted."""
    print(f"\n{title}\n", file=sys.stderr)
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |", file=sys.stderr)


def average(rows: list[Row], key: str, **where: object) -> float:
    """Return the mean of a figure over the rows where all this holds."""
    values = [row[key] for row in rows if all(row[name] == value for name, value in where.items())]
    return statistics.fmean(values)


def print_false_alarms(rows: list[Row], ages: Sequence[int], by: str) -> None:
    """Print what goes wrong without a fault."""
    for age in ages:
        groups = list(dict.fromkeys(row[by] for row in rows))

        def figures(name: str, group: object, age: int = age) -> str:
            where = {"statistic": name, by: group, "age_days": age, "drop": 0.0}
            return " / ".join(f"{average(rows, key, **where):.2g}" for key in ("incidents", "held", "unknown"))

        table(
            f"No fault, {age} days old, by {by}: false incidents / held ticks / unknown minutes, a day",
            ["", *map(str, groups)],
            [[name, *(figures(name, group) for group in groups)] for name in STATISTICS],
        )


def print_faults(rows: list[Row], ages: Sequence[int], sizes: Sequence[int]) -> None:
    """Print what becomes of faults."""
    for age in ages:
        for drop in DROPS:

            def figures(name: str, size: int, age: int = age, drop: float = drop) -> str:
                where = {"statistic": name, "size": size, "age_days": age, "drop": drop}
                tried = [row for row in rows if all(row[key] == value for key, value in where.items())]
                delays = [row["delay"] for row in tried if row["delay"] is not None]
                share = f"{len(delays) / len(tried):.0%}"
                if not delays:
                    return share
                return f"{share} / {statistics.median(delays):.0f} / {average(tried, 'protected'):.0%}"

            table(
                f"{drop:.0%} drop, {age} days old: found / after minutes (median) / share of the fault that is unknown",
                ["", *(f"{size:,} a minute" for size in sizes)],
                [[name, *(figures(name, size) for size in sizes)] for name in STATISTICS],
            )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=4, help="judged days of each installation")
    parser.add_argument("--faults", type=int, default=2, help="of each kind and length, in each installation")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000], help="check-ins a minute")
    parser.add_argument("--ages", type=int, nargs="+", default=[30, 3], help="days of history")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure every installation, print the tables, and all figures as JSON."""
    asked = options()
    started = time.monotonic()
    cases = [
        Case(shape, size, age, asked.days, asked.faults, asked.seed)
        for age in asked.ages
        for size in asked.sizes
        for shape in shapes(0)
    ]
    lasting = [(name, drop) for name in STATISTICS for drop in DROPS]
    hosts = [(name, size) for name in list(STATISTICS)[-2:] for size in (25, 50, 75, 100, 200)]
    with ProcessPoolExecutor(asked.processes) as pool:
        measured = pool.map(measure, cases)
        accepted = [
            pool.submit(until_accepted, STATISTICS[name], drop, size=1000, seed=asked.seed) for name, drop in lasting
        ]
        mistaken = [
            pool.submit(host_down, STATISTICS[name], size, host=20, tries=20, seed=asked.seed) for name, size in hosts
        ]
        rows: list[Row] = [row for found_rows in measured for row in found_rows]
        hours = {key: future.result() for key, future in zip(lasting, accepted, strict=True)}
        wrong = {key: future.result() for key, future in zip(hosts, mistaken, strict=True)}

    print_false_alarms(rows, asked.ages, "size")
    print_false_alarms(rows, asked.ages, "shape")
    print_faults(rows, asked.ages, asked.sizes)
    table(
        "A lasting drop, 1,000 a minute with daily peaks: hours until it is no incident any more",
        ["", *(f"{drop:.0%}" for drop in DROPS)],
        [
            [name, *("more than 8 days" if hours[name, d] is None else f"{hours[name, d]:.1f}" for d in DROPS)]
            for name in STATISTICS
        ],
    )
    table(
        "A host of the users that sends 20 a minute is down for an hour: how often that is taken for our fault",
        ["", *(f"of {size} a minute" for size in dict.fromkeys(size for _, size in hosts))],
        [[name, *(f"{share:.0%}" for (other, _), share in wrong.items() if other == name)] for name in dict(hosts)],
    )
    took = time.monotonic() - started
    print(f"\nseed {asked.seed}, {took:.0f} s", file=sys.stderr)
    summary = {
        "seed": asked.seed,
        "seconds": round(took, 1),
        "false_incidents_per_day": {
            name: round(average(rows, "incidents", statistic=name, drop=0.0), 3) for name in STATISTICS
        },
        "held_ticks_per_day": {name: round(average(rows, "held", statistic=name, drop=0.0), 2) for name in STATISTICS},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
