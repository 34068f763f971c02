"""Removing what is no longer wanted, in bounded steps: deleted monitors, old logs, old reports (shell)."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from checkins.models import CheckIn, CheckInLog, ClientLossReport, ProcessingError
from checkins.partitions import DEFAULT, kept_since
from monitors.models import Environment, Monitor, MonitorEnvironment

BATCH_ROWS_MAX = 5_000
"""Check-ins removed in one transaction: short enough not to be felt by ingest."""
LOGS_MAX = 500
"""Logs removed in one transaction. One may be a hundred times as large as a check-in."""
PROCESSING_ERROR_AGE_MAX = timedelta(days=7)
"""How long processing errors are kept. Source: reference section 1."""
LOSS_REPORT_AGE_MAX = timedelta(days=30)
"""How long clients' loss reports are kept: they explain alarms, which people look into within days."""


def purge_deleted() -> int:
    """Remove one batch of what `delete_monitors` and `delete_environments` took out of sight; returns the rows removed.

    Check-ins and their logs go first, a batch at a time; an environment goes with its incidents when it has none left,
    a monitor when it has no environments left. Call again until it returns 0.
    """
    environment = MonitorEnvironment.objects.filter(status="pending_deletion").order_by("id").first()
    if environment is not None:
        with transaction.atomic():
            ids = CheckIn.objects.filter(monitor_environment=environment).values_list("id", flat=True)[:BATCH_ROWS_MAX]
            removed = CheckIn.objects.filter(id__any_of=list(ids)).delete()[0]
            log_ids = CheckInLog.objects.filter(monitor_environment=environment).values_list("id", flat=True)[:LOGS_MAX]
            removed += CheckInLog.objects.filter(id__any_of=list(log_ids)).delete()[0]
            if removed:
                return removed
            name_id = environment.environment_id
            return environment.delete()[0] + Environment.objects.filter(id=name_id).delete()[0]
    empty = Monitor.objects.filter(status="pending_deletion", monitor_environments__isnull=True)
    return Monitor.objects.filter(id__any_of=list(empty.values_list("id", flat=True)[:BATCH_ROWS_MAX])).delete()[0]


def prune_processing_errors(*, now: datetime) -> int:
    """Remove processing errors that were last seen more than seven days ago; returns how many."""
    return ProcessingError.objects.filter(last_received_at__lt=now - PROCESSING_ERROR_AGE_MAX).delete()[0]


def prune_logs(*, now: datetime) -> int:
    """Remove one batch of logs and notes older than CHECKIN_LOG_DAYS; returns how many. Call again until it returns 0.

    None is kept for longer than CHECKIN_RETENTION_DAYS, after which their runs go. Until then their runs stay: what a
    job printed is by far the largest thing that is known of it, and the first to lose its use. The batch is sought
    among the lowest ids, which are the oldest but for a spool's delay, so that looking costs no index of its own and no
    table.
    """
    oldest = CheckInLog.objects.order_by("id").values_list("id", flat=True)[:LOGS_MAX]
    days = settings.CHECKIN_LOG_DAYS
    if settings.CHECKIN_RETENTION_DAYS:
        days = min(days, settings.CHECKIN_RETENTION_DAYS)
    received_before = now - timedelta(days=days)
    return CheckInLog.objects.filter(id__any_of=list(oldest), received_at__lt=received_before).delete()[0]


def prune_strays(*, now: datetime) -> int:
    """Remove one batch of old check-ins that have no day of their own to go with; returns how many rows.

    Runs in progress stay until the clock has judged them. Call again until it returns 0. Partitions of days are
    dropped as a whole: see `checkins.partitions`.
    """
    before = kept_since(now)
    if before is None:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH old AS (SELECT id, date_added FROM {DEFAULT}
                          WHERE date_added < %s AND status <> 'in_progress' LIMIT %s),
                 words AS (DELETE FROM checkins_attempt WHERE checkin_id IN (SELECT id FROM old))
            DELETE FROM {DEFAULT} WHERE (id, date_added) IN (SELECT id, date_added FROM old)
            """,  # noqa: S608
            [before, BATCH_ROWS_MAX],
        )
        return int(cursor.rowcount)


def prune_loss_reports(*, now: datetime) -> int:
    """Remove one batch of loss reports received more than 30 days ago; returns how many. Call again until it returns 0.

    Found as old logs are.
    """
    oldest = ClientLossReport.objects.order_by("id").values_list("id", flat=True)[:BATCH_ROWS_MAX]
    received_before = now - LOSS_REPORT_AGE_MAX
    return ClientLossReport.objects.filter(id__any_of=list(oldest), received_at__lt=received_before).delete()[0]
