"""Emptying the outbox: notifications are written with their incident and sent from here, at least once (shell)."""

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from incidents.models import Notification
from incidents.notifiers import email

logger = logging.getLogger(__name__)
BATCH_ROWS_MAX = 100
"""One run of the task sends no more; the next run goes on. A slow mail server must not keep a worker for long."""


def deliver_unsent(*, recipients: Sequence[str], now: datetime) -> int:
    """Send what waits in the outbox, oldest first, and return how many were sent.

    Each is sent and recorded in its own transaction, with its row locked: several workers share the work. A crash
    between sending and recording sends it again, under the same idempotency key. A failure is kept in the row and tried
    again by the next run.
    """
    sent = 0
    unsent = Notification.objects.filter(sent_at__isnull=True).order_by("created_at", "id")
    for notification_id in list(unsent.values_list("id", flat=True)[:BATCH_ROWS_MAX]):
        with transaction.atomic():
            notification = (
                Notification.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("incident__monitor_environment__monitor", "incident__monitor_environment__environment")
                .filter(id=notification_id, sent_at__isnull=True)
                .first()
            )
            if notification is None:
                continue
            notification.attempt_count += 1
            try:
                email.send(notification, recipients=recipients)
            except OSError as error:
                notification.last_error = f"{type(error).__name__}: {error}"
                logger.warning("notification %s was not sent: %s", notification.id, notification.last_error)
            else:
                notification.sent_at = now
                notification.last_error = ""
                sent += 1
            notification.save(update_fields=["attempt_count", "sent_at", "last_error"])
    return sent
