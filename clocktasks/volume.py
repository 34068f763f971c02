"""Whether so few check-ins came in a minute that the fault is more likely ours than that of the jobs (pure).

At tick T the minute before it is judged: its number of check-ins is compared with what earlier minutes let us expect,
which gives it a class. The classes of the last minutes and the decision at the tick before give the decision at T:

    normal -> abnormal -> normal        a small drop that went away
    normal, abnormal -> incident        a large drop
    incident -> recovering -> normal    a whole window of good minutes ends an incident
    recovering -> incident              anything else renews it

`abnormal` and `recovering` are not final: nobody is judged at such a tick until it has become normal or an incident
(D4), at most a decision window later. Only drops matter; more check-ins than expected are a joy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DAY = timedelta(days=1)
DAYS_COMPARED = 30
DAYS_LEAST = 2
"""A minute of one day alone says little about the same minute of the next."""


class VolumeClass(StrEnum):
    """How the volume of one minute looks by itself."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    INCIDENT = "incident"


class VolumeDecision(StrEnum):
    """What the clock makes of a tick: judge as ever, wait (abnormal, recovering), or blame nobody (incident)."""

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
    `minimum_expected` is the volume below which a minute says nothing: a few jobs that end are not a fault of ours.
    """

    anomaly_percent: float = -10.0
    incident_percent: float = -30.0
    decision_window: int = 5
    minimum_expected: float = 20.0

    def __post_init__(self) -> None:
        assert -100 <= self.incident_percent <= self.anomaly_percent < 0, self
        assert self.decision_window >= 1, self
        assert self.minimum_expected > 0, self


def compared_minutes(minute: datetime) -> Sequence[datetime]:
    """Return the earlier minutes whose volumes tell what to expect in this one."""
    return [minute - day * DAY for day in range(1, DAYS_COMPARED + 1)]


def expected_volume(minute: datetime, history: Mapping[datetime, int], rules: VolumeRules) -> float | None:
    """Return how many check-ins to expect in this minute, or None if too little is known or too few are expected.

    `history` holds volumes of the `compared_minutes` that were listened to.
    """
    volumes = [history[earlier] for earlier in compared_minutes(minute) if earlier in history]
    if len(volumes) < DAYS_LEAST:
        return None
    expected = sum(volumes) / len(volumes)
    return expected if expected >= rules.minimum_expected else None


def deviation_percent(volume: int, expected: float) -> float:
    """Return by how much the volume differs from the expected one: -100 is silence (D3)."""
    return (volume - expected) / expected * 100


def classify(
    volume: int | None, minute: datetime, history: Mapping[datetime, int], rules: VolumeRules
) -> tuple[VolumeClass, float | None]:
    """Return how a minute's volume looks, and its deviation in percent (None: it could not be compared).

    A volume of None is a minute in which nobody listened. Its silence proves nothing about volume; coverage judges it.
    """
    expected = None if volume is None else expected_volume(minute, history, rules)
    if volume is None or expected is None:
        return VolumeClass.NORMAL, None
    deviation = deviation_percent(volume, expected)
    if deviation <= rules.incident_percent:
        return VolumeClass.INCIDENT, deviation
    if deviation <= rules.anomaly_percent:
        return VolumeClass.ABNORMAL, deviation
    return VolumeClass.NORMAL, deviation


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
    not keep the clock waiting for ever.
    """
    waiting = [*pending, tick]
    final = settled(decision)
    if final is not None:
        return dict.fromkeys(waiting, final)
    return dict.fromkeys(waiting[: -rules.decision_window], VolumeDecision.NORMAL)
