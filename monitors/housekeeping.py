"""Removing what is past keeping of configurations, and of what Django keeps of people (shell)."""

from datetime import datetime, timedelta

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction

from monitors.changes import JUDGES_SQL
from monitors.configuration import MARGIN_MINUTES_MAX
from monitors.models import ConfigSnapshot
from monitors.pruning import PIECE_ROWS_MAX, kept_since, remove_piece

LATE = timedelta(days=10)
"""A run may take words for a week, and its day is dropped a day later: so long after its check-ins a snapshot stays."""

FORMER_RULES_KEPT = timedelta(minutes=MARGIN_MINUTES_MAX) + LATE


def prune_config_snapshots(*, now: datetime) -> int:
    """Note which snapshots are no longer in force, and remove one piece of those that nothing can show any more.

    A check-in refers to what was in force when it came, so a snapshot outlives its last use by as long as check-ins are
    kept, and by CONFIG_SNAPSHOT_RETENTION_DAYS at least. If either is 0 snapshots are kept for ever. Returns how many
    were removed. Whoever puts one in force locks it (`monitors.changes.attach_config_snapshots`).
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
    """Remove one piece of the rules that monitors had before; returns how many.

    They go once no slot or run of then can still fall due and no message of then be taken, and no slot waits for the
    clock that is to be judged by them (D32).
    """
    return remove_piece(
        "monitors_formerrules",
        f"until < %s AND NOT {JUDGES_SQL}",
        [now - FORMER_RULES_KEPT],
        order_by="until",
        alias="f",
    )


def _in_force() -> str:
    """Return the condition that something other than a check-in refers to the snapshot `old`."""
    referring = [
        f"EXISTS (SELECT FROM {model._meta.db_table} AS r WHERE r.{field.column} = old.id)"
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if field.related_model is ConfigSnapshot and model._meta.label != "checkins.CheckIn"
    ]
    return f"({' OR '.join(referring)})"


def prune_sessions(*, now: datetime) -> int:
    """Remove one piece of the sessions of people that have expired; returns how many. Index: on the expiry."""
    return remove_piece("django_session", "expire_date < %s", [now], key="session_key", order_by="expire_date")


def prune_admin_log(*, now: datetime) -> int:
    """Remove one piece of what people did in the admin more than ADMIN_LOG_RETENTION_DAYS ago; returns how many."""
    before = kept_since(now, settings.ADMIN_LOG_RETENTION_DAYS)
    if before is None:
        return 0
    return remove_piece("django_admin_log", "action_time < %s", [before], order_by="id")
