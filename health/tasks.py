"""The task that sends the heartbeat."""

from celery import shared_task
from django.conf import settings

from clocktasks import metrics
from health import heartbeat
from lib.wallclock import utcnow


# Its name of old: a message may be on its way while another version of beat runs.
@shared_task(name="clocktasks.tasks.send_heartbeat")
def send_heartbeat() -> int:
    """Tell HEARTBEAT_URL, if there is one, that the clock is on time; returns how many heartbeats were sent."""
    if not settings.HEARTBEAT_URL:
        return 0
    outcome = heartbeat.send_if_on_time(settings.HEARTBEAT_URL, now=utcnow())
    metrics.heartbeats.labels(outcome.value).inc()
    return int(outcome is heartbeat.Outcome.SENT)
