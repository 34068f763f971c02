"""Alerts for the tests of channels, and sending them."""

import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from uuid import UUID, uuid5

import msgspec

from incidents.notifications.alert import Alert, Event, IncidentFacts, Severity
from incidents.notifications.channels.base import Request, SendResult, Target
from incidents.notifications.exchange import open_session, send

NOW = datetime(2026, 11, 28, 3, 10, 5, tzinfo=UTC)
OPENED_AT = datetime(2026, 11, 28, 3, 10, tzinfo=UTC)
GUID = UUID("0d6f1c7e-5b0a-5c57-9d0e-3b8f7f0a1c11")
STORM = UUID("5707a3b1-0d6f-5c57-9d0e-3b8f7f0a1c11")
CHANNEL = UUID("c4a11e10-0d6f-4c57-9d0e-3b8f7f0a1c11")
LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
REASON = (
    "Expected at 03:00 Europe/Berlin (Crontab */5 3 * * 1#2,3L), ten minutes of margin, no check-in by 03:10. "
    "It failed 3 times in a row, since 2026-11-26 03:00; the threshold is 3."
)

INCIDENT = IncidentFacts(
    guid=GUID,
    project="ops",
    slug="nightly-backup",
    monitor="nightly-backup",
    environment="production",
    tags=("db", "nightly"),
    severity=Severity.ERROR,
    kind="missed",
    is_open=True,
    started_at=OPENED_AT,
    opened_at=OPENED_AT,
    reason=REASON,
    log_tail="dumping\ntar: /var/lib: no space left\nexit 2",
    explanation={"kind": "missed", "crontab": "*/5 3 * * 1#2,3L", "failure_streak": 3},
    url="https://w.example/i/0d6f",
    acknowledge_url="https://w.example/a/0d6f",
)
_TITLES = {
    Event.OPENED: "nightly-backup (production) is failing",
    Event.REMINDER: "nightly-backup (production) is still failing after 4 hours (reminder 1)",
    Event.ESCALATED: "nightly-backup (production) is failing, and nobody has acknowledged it",
    Event.ACKNOWLEDGED: "nightly-backup (production): acknowledged by Ada",
    Event.RESOLVED: "nightly-backup (production) recovered after 41 minutes",
    Event.PASSED: "nightly-backup (production) failed at 03:10, recovered at 03:51",
    Event.DIGEST: "60 monitors are failing",
    Event.STORM_OVER: "60 monitors recovered",
    Event.CLOCK: "The clock is behind",
    Event.TEST: "A test from Watchclock",
}
ABOUT_ONE = (Event.OPENED, Event.REMINDER, Event.ESCALATED, Event.ACKNOWLEDGED, Event.RESOLVED, Event.PASSED)
ABOUT_MANY = (Event.DIGEST, Event.STORM_OVER)


def incident(event: Event = Event.OPENED, **changes) -> IncidentFacts:
    """The incident as it is when the event happens."""
    if event in {Event.RESOLVED, Event.PASSED, Event.STORM_OVER}:
        changes = {"is_open": False, "resolved_at": OPENED_AT + timedelta(minutes=41), **changes}
    if event is Event.ACKNOWLEDGED:
        changes = {"acknowledged_by": "Ada", **changes}
    return msgspec.structs.replace(INCIDENT, **changes)


def alert(event: Event, **changes) -> Alert:
    """An alert of this event."""
    facts: dict = {
        "key": uuid5(GUID, event),
        "event": event,
        "at": OPENED_AT,
        "title": _TITLES[event],
        "reason": REASON,
        "group": GUID,
        "reminder": int(event is Event.REMINDER),
        "url": "https://w.example/i/0d6f",
        "unsubscribe_url": "",
        "timezone": "Europe/Berlin",
    }
    if event in ABOUT_ONE:
        facts["incidents"] = (incident(event),)
    elif event in ABOUT_MANY:
        facts |= {"incidents": many(event, 50), "omitted": 10, "group": STORM, "reason": "Since 03:10."}
    return Alert(**facts | changes)


def many(event: Event, count: int, **changes) -> tuple[IncidentFacts, ...]:
    """Incidents of a storm."""
    names = (f"Job {number}" for number in range(count))
    return tuple(
        incident(event, **{"guid": uuid5(GUID, name), "slug": name.lower(), "monitor": name} | changes)
        for name in names
    )


def target(kind: str, values: dict[str, str]) -> Target:
    return Target(guid=CHANNEL, kind=kind, values=values, timezone="Europe/Berlin", language="en")


def exchange(requests: tuple[Request, ...], classify, *, allowed=LOOPBACK, seconds: float = 10) -> SendResult:
    """Send the requests of a message for real."""
    return exchange_all([requests], classify, allowed=allowed, seconds=seconds)[0]


def exchange_all(messages, classify, *, allowed=LOOPBACK, seconds: float = 10) -> list[SendResult]:
    """Send the requests of several messages, one after the other."""

    async def run() -> list[SendResult]:
        deadline = timedelta(seconds=seconds)
        async with open_session(allowed) as session:
            return [await send(one, classify=classify, session=session, deadline=deadline) for one in messages]

    return asyncio.run(run())
