"""Limits for runs that end ok: longer than, shorter than, overlapping (pure; D44).

A monitor stores its limits as one line of text, which people, the audit log and stories read as it is:

    longer than 10m: failure; shorter than 0.5x: note; overlap: note

`10m` is a fixed time, in s, m, h or d; `0.5x` is a multiple of the median of the environment's newest 100 runs before
this one, and is not applied before there are 20. A limit that counts is a failure, as an error is; else it is a note on
the run. No other text is stored: `Limits.text` writes it, `parse_limits` reads it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from lib.texts import Text
from monitors.exceptions import MonitorsError

RUNS_KEPT = 100
"""The newest runs whose durations and delays are kept."""
RUNS_LEAST = 20
"""Runs that a multiple of the median needs: the median of a few says little."""
SECONDS_MAX = 7 * 86_400
"""The longest maximum runtime."""
TIMES_MAX = 1_000
CHARACTERS_MAX = 100
"""Of the text."""
EXAMPLE = "longer than 10m: failure; shorter than 0.5x: note; overlap: note"
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_TIME = re.compile(r"([0-9]{1,7}) ?(s|m|h|d)")
_TIMES = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,2})?) ?x")


class LimitError(MonitorsError, ValueError):
    """A limit that cannot be used; the text says what is allowed."""


class Limit(StrEnum):
    """Which limit a run broke, the first of these that it did."""

    OVERLAP = "overlap"
    SLOW = "slow"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Bound:
    """A fixed time in seconds, or a multiple of the median in hundredths; one of them is set."""

    seconds: int | None = None
    percent: int | None = None

    def __str__(self) -> str:
        if self.percent is not None:
            return f"{(Decimal(self.percent) / 100).normalize():f}x"
        assert self.seconds is not None, "a bound is a time or a multiple"
        unit = next(unit for unit, length in _UNITS.items() if self.seconds % length == 0)
        return f"{self.seconds // _UNITS[unit]}{unit}"

    def ms(self, median_ms: int | None) -> float | None:
        """Return the bound in milliseconds; None if it needs a median and there is none."""
        if self.seconds is not None:
            return self.seconds * 1_000
        return None if median_ms is None or self.percent is None else median_ms * self.percent / 100


class Rule(NamedTuple):
    """A limit of a duration, and whether breaking it counts as a failure."""

    bound: Bound
    counts: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a monitor. `overlap_counts` is None if runs may overlap."""

    longer: Rule | None = None
    shorter: Rule | None = None
    overlap_counts: bool | None = None

    @property
    def needs_median(self) -> bool:
        """Whether a limit is a multiple of the median."""
        return any(rule is not None and rule.bound.percent is not None for rule in (self.longer, self.shorter))

    def text(self) -> str | None:
        """Return what is stored; None for no limit."""
        parts = [
            f"{words}: {'failure' if counts else 'note'}"
            for words, counts in (
                (f"longer than {self.longer.bound}", self.longer.counts) if self.longer else ("", None),
                (f"shorter than {self.shorter.bound}", self.shorter.counts) if self.shorter else ("", None),
                ("overlap", self.overlap_counts),
            )
            if counts is not None
        ]
        return "; ".join(parts) or None


class Broken(NamedTuple):
    """The limit that a run broke, and by what that was judged: the bound in milliseconds, and the median if it counts.

    `counts`: the monitor says that this is a failure.
    """

    limit: Limit
    counts: bool
    bound: str = ""
    bound_ms: int | None = None
    median_ms: int | None = None

    @property
    def stored(self) -> str:
        """The value in the column of the check-in."""
        return f"{self.limit.value}_counted" if self.counts else self.limit.value


def broken(
    limits: Limits, *, duration_ms: int | None, before_ms: Sequence[int] = (), overlaps: bool = False
) -> Broken | None:
    """Return the limit that a run which ended ok has broken, if any.

    `before_ms` are the durations of the runs before it, of the newest 100. If it broke several limits, one that counts
    is returned, and an overlap before a duration. A run that takes exactly as long as a bound does not break it.
    """
    found = []
    if overlaps and limits.overlap_counts is not None:
        found.append(Broken(Limit.OVERLAP, limits.overlap_counts))
    median_ms = percentile(before_ms, 50) if len(before_ms) >= RUNS_LEAST and limits.needs_median else None
    for limit, rule in ((Limit.SLOW, limits.longer), (Limit.FAST, limits.shorter)):
        bound_ms = None if rule is None else rule.bound.ms(median_ms)
        if rule is None or bound_ms is None or duration_ms is None:
            continue
        if duration_ms > bound_ms if limit is Limit.SLOW else duration_ms < bound_ms:
            used = None if rule.bound.percent is None else median_ms
            found.append(Broken(limit, rule.counts, str(rule.bound), int(bound_ms), used))
    return max(found, key=lambda one: one.counts, default=None)  # the first of those that are alike


def percentile(values: Sequence[int], percent: int) -> int | None:
    """Return the least of the values that at least so many per cent of them do not exceed; None if there are none.

    >>> percentile([5, 1, 3, 2, 4], 50)
    3
    """
    if not values:
        return None
    return sorted(values)[max(-(-len(values) * percent // 100), 1) - 1]


# --- text -----------------------------------------------------------------------------------------------------------


def parse_bound(text: str, *, is_upper: bool) -> Bound:
    """Read a bound as people write it. Raises LimitError.

    >>> str(parse_bound("90 m", is_upper=True)), str(parse_bound("2.50x", is_upper=True))
    ('90m', '2.5x')
    """
    text = text.strip().lower()
    if match := _TIME.fullmatch(text):
        seconds = int(match[1]) * _UNITS[match[2]]
        if 1 <= seconds <= SECONDS_MAX:
            return Bound(seconds=seconds)
    elif match := _TIMES.fullmatch(text):
        percent = int(Decimal(match[1]) * 100)
        if 100 < percent <= TIMES_MAX * 100 if is_upper else 0 < percent < 100:
            return Bound(percent=percent)
    times = Text("more than 1x and at most %(most)sx", most=str(TIMES_MAX)) if is_upper else Text("less than 1x")
    raise LimitError(
        Text(
            "%(text)s is no limit: it takes a time, 1s to 7d, or a multiple of the median, %(times)s.",
            text=repr(text[:50]),
            times=times,
        )
    )


_PART = re.compile(r"(longer than|shorter than|overlap)(?: ([^:;]{1,20}))?: ?(failure|note)")


def parse_limits(text: str | None) -> Limits:
    """Read what `Limits.text` writes. Raises LimitError."""
    found: dict[str, Rule | bool] = {}
    for part in (text or "").split(";"):
        if not part.strip():
            continue
        match = _PART.fullmatch(part.strip())
        if match is None or match[1] in found or (match[1] == "overlap") != (match[2] is None):
            text = Text("%(text)s is no limit: these are: %(example)s", text=repr(part.strip()[:80]), example=EXAMPLE)
            raise LimitError(text)
        counts = match[3] == "failure"
        bound = match[2]
        found[match[1]] = Rule(parse_bound(bound, is_upper=match[1] == "longer than"), counts) if bound else counts
    longer, shorter, overlap = (found.get(name) for name in ("longer than", "shorter than", "overlap"))
    assert not isinstance(longer, bool), "it has a bound"
    assert not isinstance(shorter, bool), "it has a bound"
    assert not isinstance(overlap, Rule), "it has no bound"
    return Limits(longer, shorter, overlap)


@lru_cache(maxsize=1024)
def read_limits(text: str | None) -> Limits | None:
    """Return the limits in a row; None if there are none, or somebody wrote by hand what cannot be read (D37)."""
    try:
        limits = parse_limits(text)
    except LimitError:
        return None
    return None if limits == Limits() else limits
