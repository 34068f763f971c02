"""The heartbeat: Watchclock's own check-in with another service, once a minute, while it is on time (shell).

If it stops, some part of Watchclock has stopped. So it is not sent while the newest finished tick is old, while people
cannot be notified, or while anything else is bad. The receiver (another Watchclock, Healthchecks, any service for
pings) has to notice that it is missing; a failure is never reported.
"""

import http.client
import logging
import urllib.error
import urllib.request
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from health.facts import Facts
from health.problems import find_problems, is_on_time
from health.queries import read_rows

logger = logging.getLogger(__name__)

ANSWER_SECONDS_MAX = 5.0
"""There is another one in a minute, and the worker has other things to do."""


class HeartbeatResult(StrEnum):
    """What became of a heartbeat."""

    SENT = "sent"
    FAILED = "failed"
    WITHHELD = "withheld"


def send_if_on_time(url: str, *, now: datetime) -> HeartbeatResult:
    """Request the URL if the clock is on time at `now`. A failure is logged; the next minute tries again."""
    # A worker does this, woken by beat through the broker: these three are known to work.
    facts = Facts(now=now, watched_since=now, rows=read_rows(now), last_seen={"beat": now, "worker": now})
    if not is_on_time(facts):
        reasons = [finding.what for finding in find_problems(facts) if finding.is_bad]
        logger.warning(
            "heartbeat withheld: %s", " ".join(reasons) or "the newest finished tick is old, or there is none"
        )
        return HeartbeatResult.WITHHELD
    host = urlsplit(url).hostname  # The whole URL is a secret: it allows to send heartbeats.
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "Watchclock"})  # noqa: S310 - the settings check it
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310
            answer.read(1)
    except urllib.error.HTTPError as error:
        logger.warning("heartbeat to %s failed: it answers %d", host, error.code)
        error.close()
        return HeartbeatResult.FAILED
    except (OSError, http.client.HTTPException) as error:
        logger.warning("heartbeat to %s failed: %s", host, error)
        return HeartbeatResult.FAILED
    return HeartbeatResult.SENT
