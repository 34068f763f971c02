"""What goes wrong in a world of deliveries, and how likely it is."""

import random
from dataclasses import dataclass
from enum import StrEnum

AROUND_COMMIT = 4
"""How much likelier a fault is just before a COMMIT and just after it: that is where most can go wrong."""


class Manner(StrEnum):
    """How a receiver takes a message."""

    TAKES = "takes it"
    REFUSES_CONNECTION = "refuses the connection"
    HANGS_BEFORE = "never takes the connection"
    HANGS = "takes the request and does nothing"
    DROPS = "ends the connection without an answer"
    FAILS = "answers 500"
    SLOWS = "answers 429"
    REFUSES_MESSAGE = "answers 400"
    REFUSES_CHANNEL = "answers 401"
    APPLIES_AND_HANGS = "applies it and never answers"
    APPLIES_AND_DROPS = "applies it and ends the connection"
    APPLIES_AND_DRIPS = "applies it and answers byte by byte"
    APPLIES_LATE = "applies it just after the deadline"


APPLIED = {Manner.TAKES, Manner.APPLIES_AND_HANGS, Manner.APPLIES_AND_DROPS, Manner.APPLIES_AND_DRIPS,
           Manner.APPLIES_LATE}  # fmt: skip
"""The manners in which people hear of it."""


@dataclass
class Faults:
    """What can go wrong, as chances: of a worker to be killed at a pause, of a receiver to be bad at a message, ...

    `late_results`: of a worker that knows what became of its messages, to record it after its claims have run out.
    """

    kill: float
    lost_connection: float
    unnoticed_death: float
    stall: float
    hang: float
    late_results: float
    lost_message: float
    doubled_message: float
    late_message: float
    bad_receiver: float
    manners: list[Manner]
    bad_mail: float
    edits: float
    mutes: float


def choose_faults(chance: random.Random) -> Faults:
    """How bad it is: some worlds are quiet but for one kind of fault, some have all of them."""

    def often(most: float) -> float:
        return chance.choice([0, 0, most / 4, most])

    bad: list[Manner] = [manner for manner in Manner if manner is not Manner.TAKES]
    return Faults(
        kill=often(0.01),
        lost_connection=often(0.01),
        unnoticed_death=often(0.8),
        stall=often(0.01),
        hang=often(0.01),
        late_results=often(0.2),
        lost_message=often(0.4),
        doubled_message=often(0.3),
        late_message=often(0.4),
        bad_receiver=chance.choice([0, 0.3, 0.6, 0.9]),
        manners=bad if chance.random() < 0.5 else chance.sample(bad, chance.choice([1, 2, 3])),
        bad_mail=chance.choice([0, 0.3, 0.6]),
        edits=often(1.0),
        mutes=often(0.5),
    )
