"""Removing configurations, sessions and entries of the logs of what people did past their retention (shell)."""

from datetime import datetime, timedelta

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction

from monitors.changes import JUDGES_SQL
from monitors.configuration import MARGIN_MINUTES_MAX
from monitors.models import ConfigSnapshot
from monitors.pruning import PIECE_ROWS_MAX, kept_since, remove_piece

LATE = timedelta(days=10)
"""A snapshot stays this long after its check-ins: a run may receive messages for a week, and its partition is dropped a
day later."""

FORMER_RULES_KEPT = timedelta(minutes=MARGIN_MINUTES_MAX) + LATE


def prune_config_snapshots(*, now: datetime) -> int:
    """Record which snapshots are no longer in force, and remove one piece of those that nothing refers to any more.

    A check-in refers to the snapshot in force at its reception, so a snapshot is stored after its last use for as long
    as check-ins are, and for CONFIG_SNAPSHOT_RETENTION_DAYS at least. If either is 0, snapshots are stored forever.
    Returns how many were removed. A snapshot is locked while it is put in force
    (`monitors.changes.attach_config_snapshots`).
    """
    days, checkin_days = settings.CONFIG_SNAPSHOT_RETENTION_DAYS, settings.CHECKIN_RETENTION_DAYS
    if not days or not checkin_days:
        return 0
    before = now - max(timedelta(days=days), timedelta(days=checkin_days) + LATE)
    in_force = _in_force()
    with transaction.atomic(), connection.cursor() as cursor:
        for is_set, condition, value in (("IS NOT NULL", in_force, None), ("IS NULL", f"NOT {in_force}", now)):
            cursor.execute(
                f"""
                UPDATE monitors_configsnapshot SET unused_since = %s WHERE id = ANY(ARRAY(
                    SELECT id FROM monitors_configsnapshot AS old WHERE unused_since {is_set} AND {condition}
                     ORDER BY id LIMIT %s FOR UPDATE OF old SKIP LOCKED))
                """,  # noqa: S608 - names come from the models
                [value, PIECE_ROWS_MAX],
            )
    condition = f"unused_since < %s AND NOT {in_force}"
    return remove_piece("monitors_configsnapshot", condition, [before], order_by="unused_since")


def prune_former_rules(*, now: datetime) -> int:
    """Remove one piece of the former rules of monitors; returns how many.

    They are removed when no slot or run of their time can still fall due, no message of their time can still be
    accepted, and no slot that waits for the clock is to be judged by them (D32).
    """
    return remove_piece(
        "monitors_formerrules",
        f"until < %s AND NOT {JUDGES_SQL}",
        [now - FORMER_RULES_KEPT],
        order_by="until",
        alias="f",
    )


def _in_force() -> str:
    """Return the condition that a row other than a check-in refers to the snapshot `old`."""
    referring = [
        f"EXISTS (SELECT FROM {model._meta.db_table} AS r WHERE r.{field.column} = old.id)"
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if field.related_model is ConfigSnapshot and model._meta.label != "checkins.CheckIn"
    ]
    return f"({' OR '.join(referring)})"


def prune_sessions(*, now: datetime) -> int:
    """Remove one piece of expired sessions; returns how many. Index: on the expiry."""
    return remove_piece("django_session", "expire_date < %s", [now], key="session_key", order_by="expire_date")


def prune_admin_log(*, now: datetime) -> int:
    """Remove one piece of admin log entries older than ADMIN_LOG_RETENTION_DAYS; returns how many."""
    before = kept_since(now, settings.ADMIN_LOG_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("django_admin_log", "action_time < %s", [before], order_by="id")


def prune_audit_log(*, now: datetime) -> int:
    """Remove one piece of audit entries older than AUDIT_DAYS; returns how many. Index: audit_entry_oldest."""
    before = kept_since(now, settings.AUDIT_DAYS)
    if before is None:
        return 0
    return remove_piece("audit_entry", "at < %s", [before], order_by="at")


def prune_maintenance_windows(*, now: datetime) -> int:
    """Remove one piece of the maintenance windows that ended MAINTENANCE_WINDOW_RETENTION_DAYS ago; returns how many.

    They are stored while a slot or a run of their time may still be judged.
    """
    days = settings.MAINTENANCE_WINDOW_RETENTION_DAYS
    if not days:
        return 0
    before = now - max(timedelta(days=days), FORMER_RULES_KEPT)
    return remove_piece("monitors_maintenancewindow", "ends_at < %s", [before], order_by="ends_at")
