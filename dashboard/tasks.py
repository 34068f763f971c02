"""Celery tasks of what people get."""

from celery import shared_task

from dashboard.report.sending import send_due_reports
from lib.wallclock import utcnow


@shared_task(name="dashboard.tasks.send_reports")
def send_reports() -> int:
    """Write the weekly reports that are due; returns how many."""
    return send_due_reports(now=utcnow())
