"""Whether the messages of a channel get through (pure)."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

from django.utils.translation import gettext_lazy as _


class ChannelState(StrEnum):
    """The state of a channel; the values name its mark."""

    DISABLED = "disabled"
    FAILS = "error"
    DOUBTFUL = "late"
    WORKS = "ok"
    UNTRIED = "active"


WORDS = {
    ChannelState.DISABLED: _("disabled"),
    ChannelState.FAILS: _("failing"),
    ChannelState.DOUBTFUL: _("doubtful"),
    ChannelState.WORKS: _("working"),
    ChannelState.UNTRIED: _("not tried yet"),
}


class HasBreaker(Protocol):
    """What decides the state: the columns of a channel."""

    is_enabled: bool
    open_since: datetime | None
    failure_count: int
    delivered_at: datetime | None


def state_of(channel: HasBreaker) -> ChannelState:
    """Return the state: one that failed just now is doubtful, and failing when its breaker is open."""
    if not channel.is_enabled:
        return ChannelState.DISABLED
    if channel.open_since is not None:
        return ChannelState.FAILS
    if channel.failure_count:
        return ChannelState.DOUBTFUL
    return ChannelState.WORKS if channel.delivered_at else ChannelState.UNTRIED
