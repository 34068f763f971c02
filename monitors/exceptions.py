"""The errors of this app have one root, so that a caller can catch all of them and nothing else."""

import reprlib

from lib.texts import Text


class MonitorsError(Exception):
    """Something about a monitor that cannot be used or stored. The text says why."""


class ScheduleError(MonitorsError, ValueError):
    """A schedule that cannot be used; the sentence names the field, its value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(field, value, allowed)
        self.field = field
        self.value = value
        self.allowed = allowed

    @property
    def text(self) -> Text:
        """The sentence."""
        value = reprlib.repr(self.value)
        return Text(
            "%(field)s %(value)s cannot be used: %(allowed)s.", field=self.field, value=value, allowed=self.allowed
        )

    def __str__(self) -> str:
        return str(self.text)
