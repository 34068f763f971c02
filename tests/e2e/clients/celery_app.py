"""A Celery application whose scheduled tasks are monitored by the SDK alone: there is no check-in in its code.

Its entries ran last in 2020, hence they are due as soon as beat starts.
Environment: SENTRY_DSN, BROKER_URL, KEY_PREFIX (keeps its queue apart from others on the same broker).
"""

import os
from datetime import UTC, datetime

import sentry_sdk
from celery import Celery
from celery.schedules import crontab
from sentry_sdk.integrations.celery import CeleryIntegration

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], integrations=[CeleryIntegration(monitor_beat_tasks=True)])

app = Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.update(
    broker_transport_options={"global_keyprefix": os.environ["KEY_PREFIX"]},
    broker_connection_retry_on_startup=True,
    timezone="UTC",
    beat_schedule={
        "nightly-report": {"task": "report", "schedule": crontab(minute="0", hour="4"), "last_run_at": LONG_AGO},
        "daily-cleanup": {"task": "clean_up", "schedule": 24 * 60 * 60.0, "last_run_at": LONG_AGO},
    },
)


@app.task(name="report")
def report() -> None:
    pass


@app.task(name="clean_up")
def clean_up() -> None:
    pass
