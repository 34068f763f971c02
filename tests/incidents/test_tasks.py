"""The Celery tasks of incidents, as a worker runs them."""

import subprocess
import sys

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
