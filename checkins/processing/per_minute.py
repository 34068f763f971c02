"""How many check-ins of an environment are accepted in a minute (pure; D13, D25)."""

from datetime import datetime

from msgspec.structs import replace

from checkins.messages import CheckInMessage, CheckInStatus, LogMessage
from checkins.processing.transitions import CheckInState
from monitors.state import EnvironmentState

SPARED_FACTOR = 10
"""The limit for spared messages, those that report the end of a run, is this many times as high (D25)."""


def is_spared(message: CheckInMessage | LogMessage, existing: CheckInState | None) -> bool:
    """Return whether the limit spares a message: the end of a known run, and every error (D25)."""
    if isinstance(message, LogMessage) or message.status is CheckInStatus.IN_PROGRESS:
        return False
    return existing is not None or message.status is CheckInStatus.ERROR


def count_towards_limit(
    state: EnvironmentState, *, received_at: datetime, per_minute_max: int, spared: bool = False
) -> EnvironmentState | None:
    """Count a check-in in its minute of reception; None if that minute is used up for the environment (D13, D25).

    The minute of reception decides, so a backlog that is stored later is not limited.
    """
    minute = received_at.replace(second=0, microsecond=0)
    if state.limit_minute != minute:
        return replace(state, limit_minute=minute, limit_count=1)
    if state.limit_count >= per_minute_max * (SPARED_FACTOR if spared else 1):
        return None
    return replace(state, limit_count=state.limit_count + 1)
