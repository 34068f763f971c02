"""Applying stored check-ins: parked ones whose monitor exists by now, and failed ones for a person (shell)."""

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import InterfaceError, OperationalError, transaction

from checkins.messages import (
    CheckInMessage,
    LogMessage,
)
from checkins.models import WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.items import monitor_not_found
from checkins.processing.limits import limits
from checkins.processing.problems import ProblemReport, record_problems
from checkins.processing.waiting import claim_settled, described, restored, store_failed

SETTLED_MAX = 500
"""Parked check-ins settled in one transaction."""


def settle_parked(*, now: datetime) -> int:
    """Apply parked check-ins whose monitor exists by now, and report expired ones as "monitor not found" (D17).

    Returns how many were settled. Call again until it returns 0.
    """
    with transaction.atomic():
        ready, late = claim_settled(now=now, most=SETTLED_MAX)
        if not ready and not late:
            return 0
        _receive_or_keep(ready, now=now)
        record_problems(
            (
                ProblemReport(
                    project_id=message.project_id,
                    monitor_id=None,
                    slug=message.slug,
                    environment=message.environment,
                    source=message.source,
                    received_at=message.received_at,
                    problem=monitor_not_found(message),
                    payload=message.payload,
                    key_id=message.key_id,
                )
                for message in late
            ),
            now=now,
        )
        return len(ready) + len(late)


def _receive_or_keep(messages: Sequence[CheckInMessage | LogMessage], *, now: datetime) -> None:
    """Apply messages; those that meet an unexpected error are stored as failed and delay nothing else (D14)."""
    try:
        with transaction.atomic():
            receive(messages, now=now)
    except (OperationalError, InterfaceError):
        raise  # The database cannot do it now; the next sweep may.
    except Exception as error:  # noqa: BLE001 - any error is reported, and the check-in is stored
        if len(messages) == 1:
            store_failed(messages[0], error)
            return
        for message in messages:
            _receive_or_keep([message], now=now)


def retry_failed(ids: Collection[int], *, now: datetime) -> tuple[int, int]:
    """Apply check-ins again that failed with an unexpected error (D14), each by itself.

    Returns how many were applied, and how many failed again; these stay, with the new error.
    """
    applied = failed = 0
    for id_ in sorted(ids):
        try:
            with transaction.atomic():
                row = WaitingCheckIn.objects.select_for_update().filter(id=id_, reason="failed").first()
                if row is None:
                    continue
                receive(restored(row, limits()), now=now, applies_parked=False)
                row.delete()
                applied += 1
        except Exception as error:  # noqa: BLE001 - any error is reported, and the check-in is stored
            WaitingCheckIn.objects.filter(id=id_).update(error=described(error))
            failed += 1
    return applied, failed
