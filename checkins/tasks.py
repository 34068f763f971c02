"""Celery's doors to housekeeping and to the check-ins that wait for their monitors."""

import logging
from collections.abc import Callable

from celery import shared_task

from checkins import housekeeping, partitions, services
from checkins.nodes import forget_gone_nodes
from monitors.wallclock import utcnow

logger = logging.getLogger(__name__)


@shared_task(name="checkins.tasks.settle_parked")
def settle_parked() -> int:
    """Apply parked check-ins whose monitor has come and give up those that waited in vain (D17); returns how many."""
    now = utcnow()
    return _until_done(lambda: services.settle_parked(now=now))


@shared_task(name="checkins.tasks.keep_house")
def keep_house() -> int:
    """Remove deleted monitors, and what is old and has no partition to go with; returns the rows removed."""
    now = utcnow()
    return (
        housekeeping.prune_processing_errors(now=now)
        + forget_gone_nodes(now=now)
        + _until_done(lambda: housekeeping.prune_logs(now=now))
        + _until_done(lambda: housekeeping.prune_loss_reports(now=now))
        + _until_done(lambda: housekeeping.prune_strays(now=now))
        + _until_done(housekeeping.purge_deleted)
    )


@shared_task(name="checkins.tasks.ensure_partitions")
def ensure_partitions() -> int:
    """Make the coming days of check-ins and drop those past keeping; returns how many partitions came or went."""
    outcome = partitions.ensure_partitions(now=utcnow())
    for name, reason in outcome.postponed.items():
        logger.warning("partition %s has to wait: %s", name, reason)
    return len(outcome.created) + len(outcome.dropped)


def _until_done(step: Callable[[], int]) -> int:
    """Repeat a bounded step until it finds nothing left to do; returns the sum of what it did."""
    done = 0
    while count := step():
        done += count
    return done
