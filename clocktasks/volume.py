"""Whether so few check-ins came in a minute that the fault is more likely ours than that of the jobs (pure).

At tick T the minute before it is judged: its number of check-ins is compared with what earlier minutes let us expect,
which gives it a class. The classes of the last minutes and the decision at the tick before give the decision at T:

    normal -> abnormal -> normal        a small drop that went away
    normal, abnormal -> incident        a large drop
    incident -> recovering -> normal    a whole window of good minutes ends an incident
    recovering -> incident              anything else renews it

`abnormal` and `recovering` are not final: no job is judged at such a tick until it has become normal or an incident
(D4), at most a decision window later. Only drops matter: more check-ins than expected are no reason for doubt.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

# Where these numbers come from: docs/explanation/volume.md.
LAST_DAYS = [day * DAY for day in range(1, 8)]
SAME_WEEKDAYS = [day * DAY for day in (7, 14, 21, 28)]
LAST_HOURS = [hour * HOUR for hour in range(1, 7)]
NOW = timedelta()
DAYS_LEAST = 2
"""The volume of a single day predicts little about the next."""
DAY_OFF_SHARE = 0.25
"""A weekday that was never seen may be a day off, with at least this share of what other days have."""
SILENCE_SHARE = 0.2
"""Volumes below this share of the usual do not become usual within hours: they are more likely a fault."""
CHANCE_SPREADS = 5.0
"""A drop counts from this many standard deviations on. In a normal distribution that is one minute in 3.5 million."""
SPREAD_PER_DEVIATION = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""


class VolumeClass(StrEnum):
    """The class of one minute's volume by itself."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    INCIDENT = "incident"


class VolumeDecision(StrEnum):
    """The decision about a tick: judge as usual, wait (abnormal, recovering), or judge no job (incident)."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    RECOVERING = "recovering"
    INCIDENT = "incident"

    @property
    def is_final(self) -> bool:
        """Whether the tick can be applied; the other two hold it (D4)."""
        return self in {VolumeDecision.NORMAL, VolumeDecision.INCIDENT}


@dataclass(frozen=True, slots=True)
class VolumeRules:
    """From which deviation on, in percent of the expected volume, a minute is abnormal or an incident.

    `decision_window` is how many good ticks in a row end a suspicion, and how many ticks one may last.
    `minimum_expected` is the usual volume below which a minute proves nothing: if one host makes a large part of the
    traffic and is down, its jobs have to be missed.
    """

    anomaly_percent: float = -10.0
    incident_percent: float = -30.0
    decision_window: int = 5
    minimum_expected: float = 100.0

    def __post_init__(self) -> None:
        assert -100 <= self.incident_percent <= self.anomaly_percent < 0, self
        assert self.decision_window >= 1, self
        assert self.minimum_expected > 0, self


def compared_minutes(minute: datetime) -> Sequence[datetime]:
    """Return the earlier minutes whose volumes predict that of this one.

    There are 76: the same minute of this hour and of the six before it, today and on earlier days, the oldest 28 days
    and six hours ago. Jobs run on the hour and its quarters, so the minute next to it would be no comparison.
    """
    days = [NOW, *LAST_DAYS, *SAME_WEEKDAYS[1:]]  # A week ago is both.
    return [minute - hours - days_ago for hours in (NOW, *LAST_HOURS) for days_ago in days if hours or days_ago]


def expected_volume(minute: datetime, history: Mapping[datetime, int], rules: VolumeRules) -> float | None:
    """Return how many check-ins to expect in this minute, or None if too little is known or too few are usual.

    `history` holds the volumes of the `compared_minutes` that were listened to. Minutes of incidents belong in it:
    medians do not mind a bad day, and a drop that lasts has to become the usual volume some time, see
    `_recent_share`; without them a smaller installation would be an incident forever.
    """
    usual = _usual_volume(minute, history)
    if usual is None or usual < rules.minimum_expected:
        return None
    return usual * _recent_share(minute, history)


def _usual_volume(minute: datetime, history: Mapping[datetime, int]) -> float | None:
    """The median of this minute on the last days, or on the same weekday if that is less: Sundays are quiet."""
    days = _volumes(minute, LAST_DAYS, history)
    if len(days) < DAYS_LEAST:
        return None
    weekdays = _volumes(minute, SAME_WEEKDAYS, history)
    return min(median(days), median(weekdays) if weekdays else median(days) * DAY_OFF_SHARE)


def _volumes(minute: datetime, ago: Sequence[timedelta], history: Mapping[datetime, int]) -> list[int]:
    return [volume for earlier in ago if (volume := history.get(minute - earlier)) is not None]


def _recent_share(minute: datetime, history: Mapping[datetime, int]) -> float:
    """Which share of their usual volume the last hours had, as their median: at most 1, on a holiday perhaps a half.

    So after about four hours fewer check-ins are what is expected. Silence is not (D3), or hardly.
    """
    shares = [
        history[earlier] / usual
        for earlier in (minute - hours for hours in LAST_HOURS)
        if earlier in history and (usual := _usual_volume(earlier, history))
    ]
    return min(1.0, max(SILENCE_SHARE, median(shares))) if shares else 1.0


def _spread(minute: datetime, history: Mapping[datetime, int], expected: float) -> float:
    """By how much a minute may differ from the expected volume by chance: a standard deviation.

    It is that of independent jobs (Poisson), or that of the days before if they differed more. Where something is
    expected, there are two days of this minute at least.
    """
    deviations: list[float] = []
    for hours in (NOW, *LAST_HOURS):
        days = _volumes(minute - hours, LAST_DAYS, history)
        middle = median(days) if days else 0
        if middle:
            # The nearest to the median is the median, or as good as: of three days it would hide a third of the spread.
            deviations += sorted(abs(volume / middle - 1) for volume in days)[1:]
    return max(math.sqrt(expected), SPREAD_PER_DEVIATION * median(deviations) * expected)


def deviation_percent(volume: int, expected: float) -> float:
    """Return by how much the volume differs from the expected one: -100 is silence (D3)."""
    return (volume - expected) / expected * 100


def classify(
    volume: int | None, minute: datetime, history: Mapping[datetime, int], rules: VolumeRules
) -> tuple[VolumeClass, float | None]:
    """Return the class of a minute's volume, and its deviation in percent (None: it could not be compared).

    A deviation beyond a threshold is normal all the same if it is no more than chance.
    A volume of None is a minute without a listener. Its silence proves nothing about volume; coverage judges it.
    """
    expected = expected_volume(minute, history, rules)
    if volume is None or expected is None:
        return VolumeClass.NORMAL, None
    deviation = deviation_percent(volume, expected)
    if deviation > rules.anomaly_percent:
        return VolumeClass.NORMAL, deviation
    if expected - volume < CHANCE_SPREADS * _spread(minute, history, expected):
        return VolumeClass.NORMAL, deviation
    return VolumeClass.INCIDENT if deviation <= rules.incident_percent else VolumeClass.ABNORMAL, deviation


def decide(previous: VolumeDecision, classes: Sequence[VolumeClass], *, rules: VolumeRules) -> VolumeDecision:
    """Return the decision at a tick, from the one before and the classes of the last minutes, newest first.

    What is missing of the window, since the ledger is young, counts as normal.
    """
    last = classes[0]
    steady = all(seen is VolumeClass.NORMAL for seen in classes[: rules.decision_window])
    match previous:
        case VolumeDecision.NORMAL if last is VolumeClass.ABNORMAL:
            return VolumeDecision.ABNORMAL
        case VolumeDecision.ABNORMAL | VolumeDecision.RECOVERING if steady:
            return VolumeDecision.NORMAL
        case VolumeDecision.INCIDENT if last is VolumeClass.NORMAL:
            return VolumeDecision.RECOVERING
        case VolumeDecision.RECOVERING if last is not VolumeClass.NORMAL:
            return VolumeDecision.INCIDENT
        case _ if last is VolumeClass.INCIDENT:
            return VolumeDecision.INCIDENT
    return previous


def settled(decision: VolumeDecision) -> VolumeDecision | None:
    """Return what this decision makes of the pending ticks right before it: the same if it is final, else nothing."""
    return decision if decision.is_final else None


def next_decisions(
    pending: Sequence[datetime], tick: datetime, decision: VolumeDecision, *, rules: VolumeRules
) -> dict[datetime, VolumeDecision]:
    """Return which ticks are final now, and as what: the pending ones, the tick that was just decided, or none.

    `pending` are the ticks right before `tick` that wait, oldest first, without a gap. A final decision settles them
    all. Without one, those that have waited for a whole window become normal: a suspicion that nothing confirmed may
    not make the clock wait forever.
    """
    waiting = [*pending, tick]
    final = settled(decision)
    if final is not None:
        return dict.fromkeys(waiting, final)
    return dict.fromkeys(waiting[: -rules.decision_window], VolumeDecision.NORMAL)
