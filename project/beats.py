"""When beat sends which task. Each finds out by itself what is due, so a lost message only delays (P3)."""

from datetime import datetime, timedelta
from typing import Any

from celery.schedules import schedule
from celery.utils.time import remaining


class EveryMinute(schedule):
    """Each minute of a clock of this speed, so many of its seconds after the full minute.

    A message with a countdown waits in its worker, which may have begun something else when it is due. This one waits
    in its queue, for the first worker that is free.
    """

    run_every: timedelta

    def __init__(self, *, after_seconds: float, speed: float) -> None:
        # `relative` keeps to whole minutes, also after a late run.
        super().__init__(60 / speed, relative=True)
        self._after = timedelta(seconds=after_seconds / speed)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next one."""
        before, now = (self.maybe_make_aware(instant) - self._after for instant in (last_run_at, self.now()))
        left: timedelta = remaining(before, self.run_every, now, self.relative)
        return left


def schedule_at(speed: float, *, grace_seconds: float) -> dict[str, Any]:
    """Return beat's schedule for a clock of this speed; a tick is sent so many seconds after its minute."""

    def sweep(task: str, seconds: int, *, queue: str = "housekeeping") -> dict[str, Any]:
        """A task that is sent again and again: a message that was not received until the next one is not needed."""
        return {"task": task, "schedule": schedule(seconds / speed), "options": {"queue": queue, "expires": seconds}}

    return {
        "tick": {
            "task": "clocktasks.tasks.tick",
            # Before that no minute may be applied, see `clocktasks.clock.tick_window`.
            "schedule": EveryMinute(after_seconds=grace_seconds, speed=speed),
            "options": {
                "queue": "clock",
                # While no worker runs, messages pile up of which one is enough. Five minutes tolerate clocks that
                # disagree.
                "expires": 300,
            },
        },
        # Whoever writes into the outbox wakes delivery; this finds what was put off, and makes up for what was lost.
        "deliver": sweep("incidents.tasks.deliver", 20, queue="delivery"),
        "keep-channels-alive": sweep("incidents.tasks.keep_channels_alive", 60, queue="delivery"),
        "tell-failures": sweep("incidents.tasks.tell_failures", 60),
        "tell-clock-incidents": sweep("clocktasks.tasks.tell_clock_incidents", 20),
        "pursue": sweep("incidents.tasks.pursue", 20),
        "look-after-long-broken": sweep("incidents.tasks.look_after_long_broken", 3600),
        "settle-parked": sweep("checkins.tasks.settle_parked", 20),
        "ensure-partitions": sweep("checkins.tasks.ensure_partitions", 3600),
        "send-heartbeat": {
            "task": "clocktasks.tasks.send_heartbeat",
            # Half a minute after the tick: by then it is finished, or the clock is late.
            "schedule": EveryMinute(after_seconds=30, speed=speed),
            "options": {"queue": "housekeeping", "expires": 60},
        },
        "send-reports": sweep("dashboard.tasks.send_reports", 300),
        "keep-house": sweep("checkins.tasks.keep_house", 600),
        "keep-the-clocks-house": sweep("clocktasks.tasks.keep_house", 600),
    }
