"""Lets the jobs of the demo go on: each checks in over HTTP when its time has come (shell)."""

import heapq
import random
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from dashboard.demo.jobs import JOBS, Job
from lib.wallclock import utcnow
from monitors.schedule import Schedule, next_slot

ANSWER_SECONDS_MAX = 10.0
Send = Callable[[Job, str], None]


def go_on(base_url: str, key: str) -> None:
    """Run for ever: begin and end each run at its time. What cannot be sent is not sent again."""

    def send(job: Job, state: str) -> None:
        address = f"{base_url}/ping/{key}/{job.slug}{state}?env={job.environment}"
        with suppress(OSError), urllib.request.urlopen(address, timeout=ANSWER_SECONDS_MAX):  # noqa: S310 - ours
            pass

    chance = random.Random()  # noqa: S311 - no secret
    waiting = [(due, number, "/start") for number, job in enumerate(JOBS) if (due := _next(job, utcnow())) is not None]
    heapq.heapify(waiting)
    while waiting:
        due, number, state = heapq.heappop(waiting)
        time.sleep(max(0.0, (due - utcnow()).total_seconds()))
        job = JOBS[number]
        trouble = job.trouble_at(due, utcnow())
        if state == "/start":
            if trouble != "missed":
                send(job, state)
                seconds = max(1.0, job.seconds * chance.gauss(1, 0.15))
                end = due + timedelta(seconds=seconds)
                heapq.heappush(waiting, (end, number, "/fail" if trouble == "error" else ""))
            if (following := _next(job, due)) is not None:
                heapq.heappush(waiting, (following, number, "/start"))
        else:
            send(job, state)


def _next(job: Job, after: datetime) -> datetime | None:
    return next_slot(Schedule.from_crontab(job.schedule, job.timezone), after, None)
