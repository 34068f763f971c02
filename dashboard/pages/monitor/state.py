"""The state of a monitor in one environment, in one sentence (pure)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """The state of an environment for people; each has a mark of its own."""

    DISABLED = "disabled"
    FAILING = "error"
    LATE = "late"
    RUNNING = "running"
    OK = "ok"
    WAITING = "active"


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides the state: the row's status, what is expected, and whether a run goes on."""

    is_disabled: bool
    status: str
    pending_slot: datetime | None
    deadline: datetime | None
    is_running: bool


def state_of(situation: Situation, *, now: datetime) -> State:
    """Return the state: what is failing stays so while it runs or is late; what is late may be missed soon."""
    if situation.is_disabled:
        return State.DISABLED
    if situation.status == "error":
        return State.FAILING
    if is_due(situation.pending_slot, situation.deadline, now=now):
        return State.LATE
    if situation.is_running:
        return State.RUNNING
    return State.OK if situation.status == "ok" else State.WAITING


def is_due(slot: datetime | None, deadline: datetime | None, *, now: datetime) -> bool:
    """Return whether a slot has come, and waits for its check-in."""
    return slot is not None and slot <= now and deadline is not None
