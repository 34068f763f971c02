"""When beat sends which task. Each finds out by itself what is due, so a lost message only delays (P3)."""

from typing import Any

from celery.schedules import schedule


def schedule_at(speed: float, *, grace_seconds: float) -> dict[str, Any]:
    """Return beat's schedule for a clock of this speed; a tick is sent so many seconds after its minute."""
    return {
        "tick": {
            "task": "clocktasks.tasks.tick",
            "schedule": schedule(60 / speed, relative=True),
            "options": {
                "queue": "clock",
                # Before that no minute may be applied, see `clocktasks.clock.tick_window`.
                "countdown": grace_seconds / speed,
                # While no worker runs, messages pile up of which one is enough. Five minutes tolerate clocks that
                # disagree.
                "expires": 300,
            },
        },
        # Whoever writes into the outbox wakes delivery; this finds what was put off, and makes up for what was lost.
        "deliver": {
            "task": "incidents.tasks.deliver",
            "schedule": schedule(20 / speed),
            "options": {"queue": "delivery", "expires": 20},
        },
        "keep-channels-alive": {
            "task": "incidents.tasks.keep_channels_alive",
            "schedule": schedule(60 / speed),
            "options": {"queue": "delivery", "expires": 60},
        },
        "tell-failures": {
            "task": "incidents.tasks.tell_failures",
            "schedule": schedule(60 / speed),
            "options": {"queue": "housekeeping", "expires": 60},
        },
        "tell-clock-incidents": {
            "task": "clocktasks.tasks.tell_clock_incidents",
            "schedule": schedule(20 / speed),
            "options": {"queue": "housekeeping", "expires": 20},
        },
        "pursue": {
            "task": "incidents.tasks.pursue",
            "schedule": schedule(20 / speed),
            "options": {"queue": "housekeeping", "expires": 20},
        },
        "look-after-long-broken": {
            "task": "incidents.tasks.look_after_long_broken",
            "schedule": schedule(3600 / speed),
            "options": {"queue": "housekeeping", "expires": 3600},
        },
        "settle-parked": {
            "task": "checkins.tasks.settle_parked",
            "schedule": schedule(20 / speed),
            "options": {"queue": "housekeeping", "expires": 20},
        },
        "ensure-partitions": {
            "task": "checkins.tasks.ensure_partitions",
            "schedule": schedule(3600 / speed),
            "options": {"queue": "housekeeping", "expires": 3600},
        },
        "send-heartbeat": {
            "task": "clocktasks.tasks.send_heartbeat",
            "schedule": schedule(60 / speed, relative=True),
            # Half a minute after the tick: by then it is finished, or the clock is late.
            "options": {"queue": "housekeeping", "countdown": 30 / speed, "expires": 60},
        },
        "send-reports": {
            "task": "dashboard.tasks.send_reports",
            "schedule": schedule(300 / speed),
            "options": {"queue": "housekeeping", "expires": 300},
        },
        "keep-house": {
            "task": "checkins.tasks.keep_house",
            "schedule": schedule(600 / speed),
            "options": {"queue": "housekeeping", "expires": 600},
        },
        "keep-the-clocks-house": {
            "task": "clocktasks.tasks.keep_house",
            "schedule": schedule(600 / speed),
            "options": {"queue": "housekeeping", "expires": 600},
        },
    }
