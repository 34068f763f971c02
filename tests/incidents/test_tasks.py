"""The Celery tasks of incidents, as a worker runs them."""

import subprocess
import sys

from incidents.notifications.channels import alertmanager
from incidents.tasks import keep_channels_alive
from project.celery import app as celery_app

HANGS = """
import time
import django
django.setup()
from incidents import tasks
tasks.STUCK_SECONDS = 0.2
def waits_for_ever(**_):
    time.sleep(300)
tasks.delivery.deliver = waits_for_ever
tasks.deliver()
"""


def test_a_run_of_delivery_that_hangs_ends_its_process_with_a_traceback():
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "waits_for_ever" in ended.stderr


def test_open_incidents_are_told_again_every_minute_by_the_delivery_worker():
    entry = celery_app.conf.beat_schedule["keep-channels-alive"]
    assert entry["options"]["queue"] == "delivery"
    assert entry["schedule"].run_every == alertmanager.REPEAT_EVERY
    assert keep_channels_alive.name == entry["task"]
