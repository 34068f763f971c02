"""Check-in messages for tests, as a decoder would hand them on: say what the test is about, and nothing else."""

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkins.messages import CheckInMessage, CheckInStatus, Source
from monitors.configuration import Configuration
from monitors.schedule import Schedule

if TYPE_CHECKING:  # Tests of pure modules use messages too, and load no models.
    from monitors.models import Monitor

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
"""As in the factories of rows."""


def run_id(number: int) -> uuid.UUID:
    """Return the id of a client's run number so-and-so."""
    return uuid.UUID(int=number + (4 << 76) + (2 << 62))


def make_message(
    status: str = "ok",
    *,
    monitor: "Monitor | None" = None,
    at: datetime = NOW,
    run: int | None = None,
    environment: str = "production",
    **fields: Any,
) -> CheckInMessage:
    """Return a message received `at`; `run=None` is the all-zero id."""
    slug = "job" if monitor is None else monitor.slug
    values: dict[str, Any] = {
        "project_id": 1 if monitor is None else monitor.project_id,
        "slug": slug,
        "raw_slug": slug,
        "environment": environment,
        "status": CheckInStatus(status),
        "check_in_id": None if run is None else run_id(run),
        "duration_ms": None,
        "trace_id": None,
        "sent_at": None,
        "received_at": at,
        "source": Source.SENTRY_ENVELOPE,
        "config": None,
        "config_problem": None,
        "problems": (),
        "payload": {"monitor_slug": slug, "status": status},
    }
    return CheckInMessage(**{**values, **fields})


def make_config(crontab: str = "*/5 * * * *", *, timezone: str | None = None, **fields: Any) -> Configuration:
    """Return a configuration that names the fields given, and no others."""
    return Configuration(schedule=Schedule.from_crontab(crontab, timezone or "UTC"), timezone=timezone, **fields)
