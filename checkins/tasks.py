"""Celery tasks for housekeeping and for the check-ins that wait for their monitors."""

import logging
from collections.abc import Callable
from functools import partial

from celery import shared_task

from checkins import housekeeping, partitions
from checkins.nodes import forget_gone_nodes
from checkins.processing import counting, retry
from checkins.processing.budgets import prune_key_uses
from incidents.housekeeping import (
    prune_duties,
    prune_follow_ups,
    prune_incidents,
    prune_issues,
    prune_messages,
    prune_notifications,
    prune_occurrences,
    prune_storms,
)
from lib.wallclock import utcnow
from monitors import pruning
from monitors.housekeeping import (
    prune_admin_log,
    prune_audit_log,
    prune_config_snapshots,
    prune_former_rules,
    prune_maintenance_windows,
    prune_sessions,
)

logger = logging.getLogger(__name__)


@shared_task(name="checkins.tasks.settle_parked")
def settle_parked() -> int:
    """Apply parked check-ins whose monitor exists by now, and give up expired ones (D17); returns how many.

    Also counts the ends of runs that no clock will count any more (D29).
    """
    now = utcnow()
    return _until_done(lambda: retry.settle_parked(now=now)) + _until_done(counting.count_stranded)


@shared_task(name="checkins.tasks.keep_house")
def keep_house() -> int:
    """Remove deleted monitors, and old rows of tables without partitions; returns the number of rows removed."""
    now = pruning.time_to_prune(utcnow())
    return pruning.run_steps(
        [
            housekeeping.purge_deleted,
            *(
                partial(prune, now=now)
                for prune in (
                    housekeeping.prune_processing_errors,
                    housekeeping.prune_failed_checkins,
                    housekeeping.prune_logs,
                    housekeeping.prune_loss_reports,
                    housekeeping.prune_strays,
                    housekeeping.prune_run_hours,
                    prune_key_uses,
                    forget_gone_nodes,
                    prune_occurrences,
                    prune_messages,
                    prune_duties,
                    prune_storms,
                    prune_follow_ups,
                    prune_notifications,
                    prune_incidents,
                    prune_issues,
                    prune_former_rules,
                    prune_maintenance_windows,
                    prune_config_snapshots,
                    prune_sessions,
                    prune_admin_log,
                    prune_audit_log,
                )
            ),
        ]
    )


@shared_task(name="checkins.tasks.ensure_partitions")
def ensure_partitions() -> int:
    """Create the coming days of check-ins and drop those past their retention; returns how many partitions changed."""
    now = utcnow()
    outcome = partitions.ensure_partitions(
        now=now, drop_as_of=pruning.time_to_prune(now), drops_max=partitions.DROPS_MAX
    )
    for name, reason in outcome.postponed.items():
        logger.warning("partition %s is postponed: %s", name, reason)
    return len(outcome.created) + len(outcome.dropped)


def _until_done(step: Callable[[], int]) -> int:
    """Repeat a bounded step until nothing is left to do; returns the sum of its results."""
    done = 0
    while count := step():
        done += count
    return done
