"""Celery's door to housekeeping."""

from celery import shared_task

from checkins.housekeeping import prune_processing_errors, purge_deleted
from checkins.nodes import forget_gone_nodes
from monitors.wallclock import utcnow


@shared_task(name="checkins.tasks.keep_house")
def keep_house() -> int:
    """Remove deleted monitors and old processing errors; returns the rows removed."""
    removed = prune_processing_errors(now=utcnow()) + forget_gone_nodes(now=utcnow())
    while batch := purge_deleted():
        removed += batch
    return removed
