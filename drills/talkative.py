"""A program of `make run`, but with a line of the log for each task that its worker has done.

The drill of a rolling upgrade counts these lines; others leave them out (`project.logs.TALKATIVE`).
"""

import logging
import sys
from typing import Any

from celery import signals

from project.local.program import main


@signals.celeryd_after_setup.connect
def log_tasks(**_: Any) -> None:
    """Log from here on."""
    logging.getLogger("celery.app.trace").setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
