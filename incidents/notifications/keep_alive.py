"""Sending again every minute what is open, to channels that forget it otherwise: Alertmanager (shell).

    rows: what each channel was last sent of what is open -> its requests -> the loop of the lanes, nobody waits
    a minute later: what became of them -> the channel's breaker

This is no message: it has no attempts and no limit, and a lost one is made up for by the next. What is over is sent
again too, for some minutes: a repetition that was on its way may have arrived after the end.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from incidents.exceptions import IncidentsError
from incidents.models import Channel
from incidents.notifications import lanes
from incidents.notifications.alert import Alert
from incidents.notifications.alerts import target_of
from incidents.notifications.breaker import Result
from incidents.notifications.channels import alertmanager
from incidents.notifications.channels.base import Request, SendResult, SendResultKind
from incidents.notifications.claims import Attempt, record_attempts
from lib.sql import fetch_rows

logger = logging.getLogger(__name__)

KEPT_MAX = 2_000
"""Alerts of one channel that are sent again. With more than that, some are forgotten."""
ENDS_FOR = timedelta(minutes=5)
"""So long an end is sent again."""
LOST_SECONDS = 120.0
"""An attempt without a result after that time belongs to a loop that is gone."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """An attempt that is on its way. `since` is on the monotonic clock."""

    future: "Future[SendResult]"
    since: float


_asked: dict[int, _Asked] = {}
"""The attempts of this process, by channel."""


def keep_alive(*, now: datetime) -> int:
    """Send all such channels again what is open; returns how many there are. A channel still being asked waits."""
    _record(now=now)
    channels = {
        channel.id: channel
        for channel in Channel.objects.filter(kind=alertmanager.KIND)
        if channel.is_enabled or channel.removed_at is not None
    }
    count = 0
    for channel_id, alerts in _to_send(sorted(channels), now=now).items():
        if channel_id in _asked:
            continue
        try:
            requests = alertmanager.keep_alive(alerts, target_of(channels[channel_id]), now=now)
        except IncidentsError as error:  # Its messages show it too.
            logger.warning("channel %s cannot be sent again what is open: %s", channel_id, error)
            continue
        if requests:
            _asked[channel_id] = _Asked(lanes.start(_send(requests)), time.monotonic())
            count += 1
    return count


async def _send(requests: Sequence[Request]) -> SendResult:
    """Send the requests one after the other, until the channel itself fails."""
    outcome = SendResult(kind=SendResultKind.DELIVERED)
    for request in requests:
        outcome = await lanes.ask([request], alertmanager)
        if outcome.kind not in lanes.GOES_ON:
            break
    return outcome


def _to_send(channel_ids: Sequence[int], *, now: datetime) -> Mapping[int, list[Alert]]:
    """Return what each channel was last sent of each incident and storm that is open, or over for a moment."""
    found: dict[int, list[Alert]] = {}
    if not channel_ids:
        return found
    parameters = {"channels": list(channel_ids), "since": now - ENDS_FOR, "most": KEPT_MAX * len(channel_ids)}
    for channel_id, is_open, body in fetch_rows(_SENT_SQL, parameters):
        alert = msgspec.json.decode(body, type=Alert)
        alerts = found.setdefault(channel_id, [])
        if alertmanager.is_end(alert) != is_open and len(alerts) < KEPT_MAX:
            alerts.append(alert)
    return found


_SENT_SQL = """
    (SELECT DISTINCT ON (m.channel_id, m.incident_id) m.channel_id, true AS is_open, m.body
       FROM incidents_incident AS i JOIN incidents_message AS m ON m.incident_id = i.id
      WHERE i.resolved_at IS NULL AND m.channel_id = ANY(%(channels)s) AND m.status = 'sent' AND m.body <> ''
      ORDER BY m.channel_id, m.incident_id, m.id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT DISTINCT ON (m.storm_id) m.channel_id, true, m.body
       FROM (SELECT DISTINCT o.storm_id
               FROM incidents_incident AS i
               JOIN incidents_duty AS d ON d.incident_id = i.id
               JOIN incidents_message AS o ON o.id = d.message_id
              WHERE i.resolved_at IS NULL AND o.storm_id IS NOT NULL AND o.channel_id = ANY(%(channels)s)) AS storm
       JOIN incidents_message AS m ON m.storm_id = storm.storm_id
      WHERE m.status = 'sent' AND m.body <> ''
      ORDER BY m.storm_id, m.id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT m.channel_id, false, m.body
       FROM incidents_message AS m
      WHERE m.channel_id = ANY(%(channels)s) AND m.status = 'sent' AND m.finished_at > %(since)s AND m.body <> ''
        AND m.kind NOT IN ('clock', 'test', 'fallback')
      ORDER BY m.finished_at DESC LIMIT %(most)s)
"""
"""Indexes: incident_one_open_per_monitor_environment, message_once_per_recipient_kind_and_number, message_finished, and
those of the foreign keys of duties and storms."""


def _record(*, now: datetime) -> None:
    """Record what became of earlier attempts."""
    for channel_id, asked in list(_asked.items()):
        if not asked.future.done():
            if time.monotonic() - asked.since > LOST_SECONDS:
                del _asked[channel_id]
            continue
        del _asked[channel_id]
        if asked.future.cancelled() or asked.future.exception() is not None:
            continue
        outcome = asked.future.result()
        result = Result.WORKS if outcome.kind in lanes.GOES_ON else Result.FAILS
        record_attempts(channel_id, [Attempt(result, outcome.slows, outcome.retry_after, outcome.excerpt)], now=now)
