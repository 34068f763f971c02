"""Simulated check-ins by minute, of several shapes, for `bench_volume`; one seed chooses everything (pure)."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MINUTE = timedelta(minutes=1)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_DAY = [1 + 0.6 * math.sin(2 * math.pi * minute / 1440) for minute in range(1440)]


def evenly(_minute: int) -> float:
    """The same around the clock."""
    return 1.0


def by_day(minute: int) -> float:
    """More by day than by night."""
    return _DAY[minute % 1440]


def by_week(minute: int) -> float:
    """As `by_day`, and fewer on Saturday and Sunday."""
    return by_day(minute) * (0.4 if minute // 1440 % 7 >= 5 else 1.0)


def on_the_hour(minute: int) -> float:
    """Most jobs run on the hour, on its quarters, or every five minutes."""
    if minute % 60 == 0:
        return 7.0
    return 3.0 if minute % 15 == 0 else 2.0 if minute % 5 == 0 else 0.6


@dataclass(frozen=True)
class Shape:
    """What the volume is like: its mean by minute (1 on average), and by which share minutes differ beyond chance."""

    mean: Callable[[int], float]
    uneven: float = 0.0


def shapes(judged_from: int) -> dict[str, Shape]:
    """All shapes; those that grow do so around the first judged minute."""
    return {
        "steady": Shape(evenly),
        "daily peaks": Shape(by_day),
        "quiet week-ends": Shape(by_week),
        "on the hour": Shape(on_the_hour),
        "growth, 1 % a day": Shape(lambda minute: 1 + 0.01 * minute / 1440),
        "three times as many": Shape(lambda minute: 3.0 if minute >= judged_from + 1440 else 1.0),
        "uneven by 20 %": Shape(evenly, uneven=0.2),
    }


def poisson(mean: float, chance: random.Random) -> int:
    """Return how many of many independent check-ins come, if this many do on average."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, product, limit = 0, chance.random(), math.exp(-mean)
    while product > limit:
        count, product = count + 1, product * chance.random()
    return count


def thinned(count: int, drop: float, chance: random.Random) -> int:
    """Return how many of the check-ins come through if each is lost with this probability."""
    if count > 50 and drop < 1:
        return max(0, round(chance.gauss(count * (1 - drop), math.sqrt(count * drop * (1 - drop)))))
    return sum(chance.random() >= drop for _ in range(count))


def traffic(shape: Shape, size: int, minutes: int, chance: random.Random) -> dict[datetime, int]:
    """Return check-ins by minute, from a Monday on."""

    def uneven() -> float:
        return chance.lognormvariate(0.0, shape.uneven) if shape.uneven else 1.0

    return {MONDAY + m * MINUTE: poisson(size * shape.mean(m) * uneven(), chance) for m in range(minutes)}
