"""Celery as workers of production run it, but with a line of the log for each task that they have done.

The drill of a rolling upgrade counts these lines; production leaves them out (`project.logs.TALKATIVE`).
"""

import logging
import sys
from typing import Any

from celery import signals
from celery.__main__ import main


@signals.celeryd_after_setup.connect
def log_tasks(**_: Any) -> None:
    """Log from here on: processes of the pool are forks of this one."""
    logging.getLogger("celery.app.trace").setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
