"""Removing old and deleted rows in bounded steps: deleted monitors, old logs, old reports (shell)."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from checkins.models import CheckIn, CheckInLog, ClientLossReport
from checkins.partitions import DEFAULT
from checkins.partitions import kept_since as checkins_kept_since
from incidents.housekeeping import INCIDENTS_MAX
from incidents.models import Incident
from monitors.models import Environment, Monitor, MonitorEnvironment
from monitors.pruning import kept_since, remove_piece

BATCH_ROWS_MAX = 5_000
"""Check-ins removed in one transaction: few enough not to slow down ingest."""
LOGS_MAX = 500
"""Logs removed in one transaction. One may be a hundred times as large as a check-in."""


def purge_deleted() -> int:
    """Remove one batch of deleted monitors and environments; returns the number of rows removed.

    Check-ins and their logs are removed first, a batch at a time; an environment follows with its incidents when it has
    no check-ins left, a monitor when it has no environments left. Call again until it returns 0.
    """
    environment = MonitorEnvironment.objects.filter(status="pending_deletion").order_by("id").first()
    if environment is not None:
        with transaction.atomic():
            ids = CheckIn.objects.filter(monitor_environment=environment).values_list("id", flat=True)[:BATCH_ROWS_MAX]
            removed = CheckIn.objects.filter(id__any_of=list(ids)).delete()[0]
            log_ids = CheckInLog.objects.filter(monitor_environment=environment).values_list("id", flat=True)[:LOGS_MAX]
            removed += CheckInLog.objects.filter(id__any_of=list(log_ids)).delete()[0]
            incident_ids = Incident.objects.filter(monitor_environment=environment).values_list("id", flat=True)
            removed += Incident.objects.filter(id__any_of=list(incident_ids[:INCIDENTS_MAX])).delete()[0]
            if removed:
                return removed
            name_id = environment.environment_id
            return environment.delete()[0] + Environment.objects.filter(id=name_id).delete()[0]
    empty = Monitor.objects.filter(status="pending_deletion", monitor_environments__isnull=True)
    return Monitor.objects.filter(id__any_of=list(empty.values_list("id", flat=True)[:BATCH_ROWS_MAX])).delete()[0]


def prune_processing_errors(*, now: datetime) -> int:
    """Remove one piece of processing errors last seen more than PROCESSING_ERROR_RETENTION_DAYS ago; returns how many.

    Index: processing_error_newest.
    """
    before = kept_since(now, settings.PROCESSING_ERROR_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("checkins_processingerror", "last_received_at < %s", [before], order_by="last_received_at")


def prune_failed_checkins(*, now: datetime) -> int:
    """Remove one piece of failed check-ins older than FAILED_CHECKIN_RETENTION_DAYS; returns how many.

    Check-ins that wait for their monitor are settled within minutes, see `checkins.processing.waiting`.
    """
    before = kept_since(now, settings.FAILED_CHECKIN_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("checkins_waitingcheckin", "reason = 'failed' AND received_at < %s", [before], order_by="id")


def prune_logs(*, now: datetime) -> int:
    """Remove one batch of logs and notes older than CHECKIN_LOG_DAYS; returns how many. Call again until it returns 0.

    None is kept for longer than CHECKIN_RETENTION_DAYS, after which their runs are dropped. Until then the runs stay:
    the output of a job takes by far the most space and loses its use first. The batch is chosen among the lowest ids,
    which are the oldest except for a spool's delay, so the search needs no index of its own and no table scan.
    """
    oldest = CheckInLog.objects.order_by("id").values_list("id", flat=True)[:LOGS_MAX]
    days = settings.CHECKIN_LOG_DAYS
    if settings.CHECKIN_RETENTION_DAYS:
        days = min(days, settings.CHECKIN_RETENTION_DAYS)
    received_before = now - timedelta(days=days)
    return CheckInLog.objects.filter(id__any_of=list(oldest), received_at__lt=received_before).delete()[0]


def prune_strays(*, now: datetime) -> int:
    """Remove one batch of old check-ins from the default partition; returns how many rows.

    Runs in progress stay until the clock has judged them. Call again until it returns 0. Partitions of days are
    dropped as a whole: see `checkins.partitions`.
    """
    before = checkins_kept_since(now)
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


def prune_run_hours(*, now: datetime) -> int:
    """Remove one piece of the hours of runs older than RUN_HOUR_RETENTION_DAYS; returns how many.

    Index: the primary key, which begins with the hour.
    """
    before = kept_since(now, settings.RUN_HOUR_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("checkins_runhour", "hour < %s", [before], key="ctid", order_by="hour")


def prune_loss_reports(*, now: datetime) -> int:
    """Remove one batch of loss reports older than LOSS_REPORT_RETENTION_DAYS; returns how many.

    Call again until it returns 0. Rows are chosen as in `prune_logs`.
    """
    received_before = kept_since(now, settings.LOSS_REPORT_RETENTION_DAYS)
    if received_before is None:
        return 0
    oldest = ClientLossReport.objects.order_by("id").values_list("id", flat=True)[:BATCH_ROWS_MAX]
    return ClientLossReport.objects.filter(id__any_of=list(oldest), received_at__lt=received_before).delete()[0]
