"""Telling people of a clock incident, once, through the outbox of incidents (shell).

A short one is told when it is over and summarised, and only if it made anything unknown. One that lasts is told while
it goes on, since then somebody has to look; no second mail follows. What was told is in the row (`told_at`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse

from checkins.watermarks import lost_spans
from clocktasks.clock import MINUTE
from clocktasks.models import ClockIncident, Tick
from incidents.notifications.outbox import write_message
from lib.durations import duration

GOES_ON = timedelta(minutes=5)
"""A deploy or a short network fault is over by then; what lasts longer will hardly end by itself."""
NEWS_MAX = timedelta(days=7)
"""What began before that is no news: whoever sets ALERT_EMAIL_TO late does not get a year of mails."""
BATCH_ROWS_MAX = 20

WHAT = {
    ClockIncident.Cause.DEAF.value: "nobody listened for check-ins",
    ClockIncident.Cause.VOLUME.value: "far fewer check-ins came in than usual",
}
LOST = "check-ins were lost, or nobody listened for them"
WHAT_NOW = {
    ClockIncident.Cause.DEAF.value: (
        "Since {since} nobody listens for check-ins, and it goes on: no web process of Watchclock runs, or none "
        "reaches PostgreSQL to say so.\n\n"
        "While it lasts nothing that falls due is reported as missed or timed out: it becomes unknown. So look now."
    ),
    ClockIncident.Cause.VOLUME.value: (
        "Since {since} far fewer check-ins come in than usual, and it goes on.\n\n"
        "Either Watchclock is deaf in front of its listeners (a network, a proxy, a name server), or that many jobs "
        "have really stopped at once. It cannot tell which.\n\n"
        "While it lasts nothing that falls due is reported as missed or timed out: it becomes unknown. So look now."
    ),
}


def tell(*, recipients: Sequence[str], now: datetime) -> int:
    """Tell of the clock incidents that people should know of and do not, oldest first; returns of how many.

    What is to be said goes into the outbox in the transaction that records it (`told_at`); delivery does the rest.
    Another worker passes a locked row over. Without recipients nothing is written or recorded.
    """
    if not recipients:
        return 0
    told = 0
    for incident_id in list(_untold(now).values_list("id", flat=True)[:BATCH_ROWS_MAX]):
        with transaction.atomic():
            incident = _untold(now).select_for_update(skip_locked=True, of=("self",)).filter(id=incident_id).first()
            if incident is None:
                continue
            subject, body = _what_goes_on(incident, now=now) if incident.ended_at is None else _what_was(incident)
            write_message(
                # Other installations have an incident 1 too.
                key_name=f"{settings.PUBLIC_URL} {incident.id} {incident.started_at.isoformat()}",
                recipients=recipients,
                subject=f"[Watchclock] {subject}",
                body=body,
                now=now,
            )
            incident.told_at = now
            incident.save(update_fields=["told_at"])
            told += 1
    return told


def _untold(now: datetime) -> QuerySet[ClockIncident]:
    """Clock incidents to be told of: over and touched somebody, or in the ledger for a while and still going on.

    Not counted from the beginning of an outage: the first minutes of a clock that was away are those of its return.
    """
    known_for_a_while = Tick.objects.filter(at=OuterRef("started_at") + MINUTE, dispatched_at__lte=now - GOES_ON)
    return ClockIncident.objects.filter(
        Q(summarised_at__isnull=False, environment_count__gte=1)
        | (Q(ended_at__isnull=True) & Q(Exists(known_for_a_while))),
        told_at__isnull=True,
        started_at__gte=now - NEWS_MAX,
    ).order_by("started_at")


def _what_goes_on(incident: ClockIncident, *, now: datetime) -> tuple[str, str]:
    since = f"{_minute(incident.started_at)} ({duration(now - incident.started_at)})"
    body = WHAT_NOW[incident.cause].format(since=since)
    subject = {
        ClockIncident.Cause.DEAF.value: "Nobody listens for check-ins",
        ClockIncident.Cause.VOLUME.value: "Far fewer check-ins than usual",
    }[incident.cause]
    end = "No second mail will come when it is over. " + _where_to_look("clock", "the clock's page")
    return f"{subject} since {_minute(incident.started_at)}", f"{body}\n\n{end}\n"


def _what_was(incident: ClockIncident) -> tuple[str, str]:
    assert incident.ended_at is not None, incident
    is_lost = incident.cause == ClockIncident.Cause.DEAF.value and bool(
        lost_spans(incident.started_at, incident.ended_at, now=incident.ended_at)
    )
    what, length = LOST if is_lost else WHAT[incident.cause], duration(incident.ended_at - incident.started_at)
    checkins = _many(incident.unknown_count, "check-in")
    environments = _many(incident.environment_count, "monitor environment")
    paragraphs = [
        f"From {_minute(incident.started_at)} to {_minute(incident.ended_at)} ({length}) {what}.",
        f"What fell due meanwhile is unknown: {checkins} of {environments}. Whether these jobs ran is not known; none "
        "of it counts as a failure.",
    ]
    if is_lost:
        paragraphs.append(
            "A spool of a web process was damaged, and check-ins that it had acknowledged are gone. What was received "
            "before and after them is stored. The damaged file is kept beside the spool; see the log of the web."
        )
    if incident.cause == ClockIncident.Cause.VOLUME.value:
        paragraphs.append(
            "Either Watchclock was deaf in front of its listeners (a network, a proxy, a name server), or that many "
            "jobs had really stopped at once."
        )
    paragraphs.append(_where_to_look("admin:clocktasks_clockincident_changelist", "Clock incidents"))
    return f"{what.capitalize()} for {length}", "\n\n".join(paragraphs) + "\n"


def _where_to_look(view: str, name: str) -> str:
    """Say where more is to be seen; Watchclock knows its own address only if it was told."""
    if not settings.PUBLIC_URL:
        return f"See {name} in the admin."
    return f"See {name}: {settings.PUBLIC_URL.rstrip('/')}{reverse(view)}"


def _many(count: int | None, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
