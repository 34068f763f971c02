"""Clock incidents: times in which the clock cannot judge jobs. Opened and closed here, and people notified (shell).

People are notified once, through the outbox of incidents. A short incident is reported after its end, and only if it
made anything unknown. A long one is reported while it lasts, since somebody has to act; no second mail follows. The row
records the notification (`told_at`).
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse

from checkins.watermarks import lost_spans
from clocktasks.clock import MINUTE
from clocktasks.models import ClockIncident, Tick
from incidents.notifications.outbox import write_message
from incidents.notifications.routing import Recipient
from lib.durations import duration

logger = logging.getLogger(__name__)

ONGOING_AFTER = timedelta(minutes=5)
"""A deploy or a short network fault is over by then; a longer incident will hardly end by itself."""
NEWS_MAX = timedelta(days=7)
"""Older incidents are not reported: setting ALERT_EMAIL_TO late does not send a year of mails."""
BATCH_ROWS_MAX = 20

DESCRIPTIONS = {
    ClockIncident.Cause.DEAF.value: "no check-ins could be received",
    ClockIncident.Cause.VOLUME.value: "far fewer check-ins than usual were received",
}
LOST = "check-ins were lost, or could not be received"
ONGOING = {
    ClockIncident.Cause.DEAF.value: (
        "Since {since} no check-ins can be received: no web process of Watchclock runs, or none reaches PostgreSQL.\n\n"
        "Until this ends, nothing that falls due is reported as missed or timed out: it becomes unknown."
    ),
    ClockIncident.Cause.VOLUME.value: (
        "Since {since} far fewer check-ins than usual are received.\n\n"
        "Either check-ins are stopped before they reach Watchclock (a network, a proxy, a name server), or that many "
        "jobs have really stopped at once. Watchclock cannot distinguish the two.\n\n"
        "Until this ends, nothing that falls due is reported as missed or timed out: it becomes unknown."
    ),
}


def update_incidents(causes: Iterable[tuple[datetime, ClockIncident.Cause | None]]) -> None:
    """Open and close clock incidents, from the causes of the minutes that have just been decided, in order."""
    ongoing = ClockIncident.objects.filter(ended_at__isnull=True).first()
    for minute, cause in causes:
        if ongoing is not None and ongoing.cause != cause:
            ongoing.ended_at = minute
            ongoing.save(update_fields=["ended_at"])
            logger.warning(
                "check-ins are received again (%s), since %s", ongoing.get_cause_display(), minute.isoformat()
            )
            ongoing = None
        if cause is not None and ongoing is None:
            ongoing = ClockIncident.objects.create(cause=cause, started_at=minute)
            logger.warning("what falls due is unknown: %s, since %s", cause.label, minute.isoformat())


def summarise_incidents(*, now: datetime) -> None:
    """Count what each ended clock incident made unknown, once all its ticks are finished.

    Index: checkin_date_updated_brin.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE clocktasks_clockincident AS incident
               SET summarised_at = %(now)s, unknown_count = counted.checkins, environment_count = counted.environments
              FROM clocktasks_clockincident AS over
             CROSS JOIN LATERAL (
                   SELECT count(*) AS checkins, count(DISTINCT monitor_environment_id) AS environments
                     FROM checkins_checkin
                    WHERE status = 'unknown' AND date_updated > over.started_at AND date_updated <= over.ended_at
                   ) AS counted
             WHERE incident.id = over.id AND over.ended_at IS NOT NULL AND over.summarised_at IS NULL
               AND NOT EXISTS (SELECT FROM clocktasks_tick WHERE at <= over.ended_at AND finished_at IS NULL)
            """,
            {"now": now},
        )


def notify(*, recipients: Sequence[Recipient], now: datetime) -> int:
    """Notify about clock incidents that nobody was notified about, oldest first; returns how many.

    The message goes into the outbox in the transaction that records it (`told_at`); delivery sends it. Another worker
    skips a locked row. Without recipients nothing is written.
    """
    if not recipients:
        return 0
    notified = 0
    for incident_id in list(_unnotified(now).values_list("id", flat=True)[:BATCH_ROWS_MAX]):
        with transaction.atomic():
            incident = _unnotified(now).select_for_update(skip_locked=True, of=("self",)).filter(id=incident_id).first()
            if incident is None:
                continue
            subject, body = (
                _describe_ongoing(incident, now=now) if incident.ended_at is None else _describe_ended(incident)
            )
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
            notified += 1
    return notified


def _unnotified(now: datetime) -> QuerySet[ClockIncident]:
    """Return the clock incidents to report: ended ones that made something unknown, and long ones that are ongoing.

    Ongoing time counts from the ledger's row, not from the beginning of an outage: a clock that was away itself writes
    the first minutes when it returns.
    """
    known_for_a_while = Tick.objects.filter(at=OuterRef("started_at") + MINUTE, dispatched_at__lte=now - ONGOING_AFTER)
    return ClockIncident.objects.filter(
        Q(summarised_at__isnull=False, environment_count__gte=1)
        | (Q(ended_at__isnull=True) & Q(Exists(known_for_a_while))),
        told_at__isnull=True,
        started_at__gte=now - NEWS_MAX,
    ).order_by("started_at")


def _describe_ongoing(incident: ClockIncident, *, now: datetime) -> tuple[str, str]:
    since = f"{_minute(incident.started_at)} ({duration(now - incident.started_at)})"
    body = ONGOING[incident.cause].format(since=since)
    subject = {
        ClockIncident.Cause.DEAF.value: "No check-ins can be received",
        ClockIncident.Cause.VOLUME.value: "Far fewer check-ins than usual",
    }[incident.cause]
    end = "There will be no second mail when it ends. " + _link("clock", "the clock's page")
    return f"{subject} since {_minute(incident.started_at)}", f"{body}\n\n{end}\n"


def _describe_ended(incident: ClockIncident) -> tuple[str, str]:
    assert incident.ended_at is not None, incident
    is_lost = incident.cause == ClockIncident.Cause.DEAF.value and bool(
        lost_spans(incident.started_at, incident.ended_at, now=incident.ended_at)
    )
    what, length = LOST if is_lost else DESCRIPTIONS[incident.cause], duration(incident.ended_at - incident.started_at)
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
            "Either check-ins were stopped before they reached Watchclock (a network, a proxy, a name server), or that "
            "many jobs had really stopped at once."
        )
    paragraphs.append(_link("admin:clocktasks_clockincident_changelist", "Clock incidents"))
    return f"{what.capitalize()} for {length}", "\n\n".join(paragraphs) + "\n"


def _link(view: str, name: str) -> str:
    """Return where to find more; the address is known only if PUBLIC_URL is set."""
    if not settings.PUBLIC_URL:
        return f"See {name} in the admin."
    return f"See {name}: {settings.PUBLIC_URL.rstrip('/')}{reverse(view)}"


def _many(count: int | None, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
