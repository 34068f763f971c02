"""Errors of the clock."""


class ClockError(Exception):
    """The clock cannot do what was asked; the message gives the reason."""


class UnreadableClockTaskError(ClockError):
    """A clock task message names no known kind, shard or tick. Nothing depends on a message, so it is dropped."""


class ReplayWindowError(ClockError):
    """The window of a replay lies in the future, is the wrong way round, or is not in whole minutes."""


class ShardCountError(ClockError):
    """There cannot be so many shards, or so few."""
