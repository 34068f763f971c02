"""The task that sends the heartbeat."""

from celery import shared_task
from django.conf import settings

from clocktasks import metrics
from health import heartbeat
from lib.wallclock import utcnow


# Its former name: another version of beat may have sent the message.
@shared_task(name="clocktasks.tasks.send_heartbeat")
def send_heartbeat() -> int:
    """Send a heartbeat to HEARTBEAT_URL, if there is one and the clock is on time; return how many were sent."""
    if not settings.HEARTBEAT_URL:
        return 0
    result = heartbeat.send_if_on_time(settings.HEARTBEAT_URL, now=utcnow())
    metrics.heartbeats.labels(result.value).inc()
    return int(result is heartbeat.HeartbeatResult.SENT)
