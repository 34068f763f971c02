"""Removing what is no longer wanted, in bounded steps: deleted monitors and old processing errors (shell)."""

from datetime import datetime, timedelta

from django.db import transaction

from checkins.models import CheckIn, ProcessingError
from monitors.models import Environment, Monitor, MonitorEnvironment

BATCH_ROWS_MAX = 5_000
"""Check-ins removed in one transaction: short enough not to be felt by ingest."""
PROCESSING_ERROR_AGE_MAX = timedelta(days=7)
"""How long processing errors are kept. Source: reference section 1."""


def purge_deleted() -> int:
    """Remove one batch of what `delete_monitors` and `delete_environments` took out of sight; returns the rows removed.

    Check-ins go first, a batch at a time; an environment goes with its incidents when it has none left, a monitor when
    it has no environments left. Call again until it returns 0.
    """
    environment = MonitorEnvironment.objects.filter(status="pending_deletion").order_by("id").first()
    if environment is not None:
        with transaction.atomic():
            ids = CheckIn.objects.filter(monitor_environment=environment).values_list("id", flat=True)[:BATCH_ROWS_MAX]
            removed = CheckIn.objects.filter(id__in=list(ids)).delete()[0]
            if removed:
                return removed
            name_id = environment.environment_id
            return environment.delete()[0] + Environment.objects.filter(id=name_id).delete()[0]
    empty = Monitor.objects.filter(status="pending_deletion", monitor_environments__isnull=True)
    return Monitor.objects.filter(id__in=list(empty.values_list("id", flat=True)[:BATCH_ROWS_MAX])).delete()[0]


def prune_processing_errors(*, now: datetime) -> int:
    """Remove processing errors that were last seen more than seven days ago; returns how many."""
    return ProcessingError.objects.filter(last_received_at__lt=now - PROCESSING_ERROR_AGE_MAX).delete()[0]
