"""A worker or beat of `make run`: what Celery's command line starts, without that command line.

    python -m project.local.program worker --queues delivery --hostname delivery@%h
    python -m project.local.program beat

To read its options Celery's command line writes to 3 MiB of what every fork shares (`project.local.nursery`), and
argparse to 1 MiB.
"""

import os
import sys


def main() -> int:
    """Run until asked to end. Returns the exit code."""
    kind, *words = sys.argv[1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    # Celery's own switch. Django's checks of models and addresses write to nearly all that is imported, and `bootstrap`
    # has made them.
    os.environ["CELERY_SKIP_CHECKS"] = "true"
    from celery import signals
    from celery.utils.nodenames import host_format

    from project.celery import app, report_absent_engines

    for signal in (signals.celeryd_after_setup, signals.beat_init):
        signal.disconnect(report_absent_engines)  # The supervisor has waited for them, and reports their end.
    if kind == "beat":
        app.Beat(loglevel="INFO", quiet=True).run()
        return 0
    worker = app.Worker(
        hostname=host_format(options["--hostname"]),
        queues=options["--queues"],
        # It runs its tasks itself: a main process with a pool beside it would need as much again.
        pool_cls="solo",
        loglevel="INFO",
        quiet=True,
        # Nobody reads these; each costs time at the start.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
