"""The Celery application. Its configuration is in `project.settings`, under CELERY_."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Set
from contextlib import suppress
from typing import Any

import redis
import structlog
from billiard.process import current_process
from celery import Celery, bootsteps, signals
from django.conf import settings

from project import broker, starting

logger = logging.getLogger(__name__)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

# Celery's command line lets a wrong setting end in a traceback.
sys.excepthook = starting.report_uncaught
broker.register()

_PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>: the signal that this process gets when the thread that forked it ends."""
KINDS = {"clock": "worker", "delivery": "delivery"}
"""What a worker of a queue is called where people look."""

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def log_like_everybody(loglevel: int | None = None, **_: Any) -> None:
    """Log as the settings do, from --loglevel on; with somebody here, Celery sets up nothing of its own."""
    if loglevel and loglevel != logging.getLogger().level:
        logging.getLogger().setLevel(loglevel)


@signals.worker_process_init.connect
def end_with_the_main_process(**_: Any) -> None:
    """Have a process of the pool end with the worker's main process, also if that is killed.

    Such processes inherit the pipes of each other, so none of them reads the end of its own: they would wait for tasks
    that never come, for ever.
    """
    parent = vars(current_process())["_parent_pid"]
    if sys.platform != "linux" or parent is None:  # A pool of one process is the main process itself.
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It ended before that.
        os._exit(os.EX_OSERR)


@signals.worker_process_init.connect
def end_a_worker_that_hangs(**_: Any) -> None:
    """Give a worker that runs its tasks itself the time limit which the main process of a pool keeps for others.

    The kernel ends it, whatever it waits for; whoever watches over it starts it again.
    """
    if vars(current_process())["_parent_pid"] is None:
        signals.task_prerun.connect(_start_alarm)
        signals.task_postrun.connect(_stop_alarm)


def _start_alarm(**_: Any) -> None:
    signal.alarm(settings.CELERY_TASK_TIME_LIMIT)


def _stop_alarm(**_: Any) -> None:
    signal.alarm(0)


@signals.task_prerun.connect
def bind_task(task: Any, task_id: str, **_: Any) -> None:
    """Let every log line of a task say which one it is."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id)


@signals.task_prerun.connect
def leave_a_broken_connection(**_: Any) -> None:
    """Go on with the connection of the task before, unless it broke since: then the first query opens another."""
    from django.db import connection

    if connection.connection is not None and not connection.is_usable():
        connection.close()


@signals.task_postrun.connect
def push_meters(**_: Any) -> None:
    """Bring what the task has counted to Valkey. A process of the pool may be ended after any task."""
    from lib import metrics

    structlog.contextvars.clear_contextvars()
    with suppress(redis.RedisError):  # The next push brings it.
        metrics.push()


@signals.celeryd_after_setup.connect
@signals.beat_init.connect
def report_absent_engines(**_: Any) -> None:
    """Name the setting of an engine that cannot be reached. Celery goes on and tries again: it may come back."""
    for absent in starting.find_absent_engines():
        logger.error(absent)


@signals.worker_ready.connect
def say_if_a_setting_is_ignored(**_: Any) -> None:
    """Let those who have changed CLOCK_SHARDS and nothing else read in the log why nothing happens."""
    from django.db import DatabaseError, connection

    from monitors.shard_count import ignored_setting

    try:
        sentence = ignored_setting()
    except DatabaseError:  # PostgreSQL is away; the worker's tasks will say so.
        return
    finally:
        connection.close()  # Processes that the pool starts later must not inherit it.
    if sentence is not None:
        logger.warning(sentence)


@signals.beat_init.connect
def watch_beat(**_: Any) -> None:
    """Let beat mark itself as alive whenever it has sent something: that is its work."""
    signals.after_task_publish.connect(_mark_beat_alive)


def _mark_beat_alive(**_: Any) -> None:
    _mark_alive("beat")


def _mark_alive(*kinds: str) -> None:
    """Mark a process as doing its work: in Valkey for people, in ALIVE_FILE for a health check that costs nothing."""
    from health import liveness
    from lib.wallclock import utcnow

    now = utcnow()
    for kind in kinds:
        liveness.mark_alive(liveness.Kind(kind), now)
    if settings.ALIVE_FILE is not None:
        with suppress(OSError):  # Then the check fails, and says where to look.
            settings.ALIVE_FILE.touch()


class MarkAlive(bootsteps.StartStopStep):
    """Lets a worker mark itself as alive, for as long as it has its broker and its event loop turns."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    _queues: Set[str] = frozenset()

    def start(self, parent: Any) -> None:
        """Begin, also again after the broker was away: then the timers are gone."""
        from health import liveness

        self._queues = set(parent.app.amqp.queues.consume_from)
        self._mark()
        speed = settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1.0
        parent.timer.call_repeatedly(liveness.MARK_SECONDS / speed, self._mark)

    def _mark(self) -> None:
        _mark_alive(*(kind for queue, kind in KINDS.items() if queue in self._queues))


app.steps["consumer"].add(MarkAlive)
