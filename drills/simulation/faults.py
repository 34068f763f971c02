"""What goes wrong in a world, and how likely it is."""

import random
from dataclasses import dataclass
from datetime import timedelta

AROUND_COMMIT = 4
"""How much likelier a fault is just before a COMMIT and just after it: that is where most can go wrong."""
SKEW_MAX = timedelta(seconds=90)
"""How wrong the clock of beat and workers may be."""


@dataclass
class Faults:
    """What can go wrong, as chances: of an actor to be killed or to lose its connection at a pause, and so on."""

    kill: float
    lost_connection: float
    unnoticed_death: float
    lost_message: float
    doubled_message: float
    late_message: float
    lost_beat: float
    second_beat: float
    outage: float
    skew: float
    deafness: float
    edits: float


def choose_faults(chance: random.Random) -> Faults:
    """How bad it is: some worlds are quiet but for one kind of fault, some have all of them."""

    def often(most: float) -> float:
        return chance.choice([0, 0, most / 4, most])

    return Faults(
        kill=often(0.04),
        lost_connection=often(0.04),
        unnoticed_death=often(0.8),
        lost_message=often(0.4),
        doubled_message=often(0.5),
        late_message=often(0.4),
        lost_beat=often(0.5),
        second_beat=often(0.5),
        outage=often(0.9),
        skew=often(0.8),
        deafness=often(0.6),
        edits=often(1.0),
    )
