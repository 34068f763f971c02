"""A Celery application with a scheduled task that fails twice and is retried; the SDK alone reports it.

Its entry ran last in 2020, hence it is due as soon as beat starts.
Environment: SENTRY_DSN, BROKER_URL, KEY_PREFIX (keeps its queue apart from others on the same broker).
"""

import os
from datetime import UTC, datetime
from typing import Any

import sentry_sdk
from celery import Celery
from celery.schedules import crontab
from sentry_sdk.integrations.celery import CeleryIntegration

sentry_sdk.init(
    dsn=os.environ["SENTRY_DSN"], integrations=[CeleryIntegration(monitor_beat_tasks=True)], traces_sample_rate=1.0
)

app = Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.update(
    broker_transport_options={"global_keyprefix": os.environ["KEY_PREFIX"]},
    broker_connection_retry_on_startup=True,
    timezone="Europe/Vienna",
    beat_schedule={
        "import orders": {
            "task": "import_orders",
            "schedule": crontab(minute="0", hour="4"),
            "last_run_at": datetime(2020, 1, 1, tzinfo=UTC),
        }
    },
)


@app.task(name="import_orders", bind=True)
def import_orders(self: Any) -> str:
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("the shop does not answer"), countdown=0)
    return "imported at last"
