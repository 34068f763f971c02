"""The wall clock: the one place in the project that reads it.

Edges (views, Celery tasks, management commands) call `utcnow` once and pass the instant down as `now` or `tick`;
everything below the edges receives time as an argument. A lint rule (ruff TID251) forbids all other access to the
clock.

End-to-end tests cannot wait for real minutes, so a *test clock* may run faster than the wall clock. It is a pure
function of the wall clock, hence all processes on a machine agree about it without talking to each other.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings


@dataclass(frozen=True)
class ClockSpeed:
    """A clock that agreed with the wall clock at `origin` and has run `speed` times as fast since."""

    origin: datetime
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.origin.tzinfo is None:
            raise ValueError("the origin of a test clock needs a time zone, as in 2026-01-05T00:00:00+00:00")
        if not 0 < self.speed <= 3600:
            raise ValueError("the speed of a test clock is a number above 0 and at most 3600")

    @classmethod
    def parse(cls, text: str) -> "ClockSpeed":
        """Read `<ISO 8601 instant>@<speed>`, as in `2026-01-05T00:00:00Z@60`. Raises `ValueError` with the reason."""
        origin, at, speed = text.rpartition("@")
        if not at:
            raise ValueError("a test clock is written <ISO 8601 instant>@<speed>, as in 2026-01-05T00:00:00Z@60")
        return cls(origin=datetime.fromisoformat(origin), speed=float(speed))

    def at(self, wall: datetime) -> datetime:
        """Return the instant of this clock when the wall clock shows `wall`, in UTC."""
        return (self.origin + (wall - self.origin) * self.speed).astimezone(UTC)


def utcnow() -> datetime:
    """Return the present instant in UTC, as an aware datetime; the test clock's if `settings.TEST_CLOCK` is set."""
    wall = datetime.now(UTC)
    clock: ClockSpeed | None = settings.TEST_CLOCK
    return wall if clock is None else clock.at(wall)
