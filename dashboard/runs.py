"""Runs for pages: the newest ones of some environments, the slot that a run serves, the end of its log (shell)."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet

from checkins.messages import CheckInStatus
from checkins.models import CheckIn, CheckInLog
from monitors.maintenance import MAINTAINED, Window, deadline_after, window_of_slot
from monitors.models import MonitorEnvironment
from monitors.windows import load_windows

LOG_LINES_SHOWN = 20
LOGS_SHOWN = 20
LOG_NEAR = timedelta(days=1)
"""Output may arrive before the first message of its run, or after its last."""
EARLY_MAX = timedelta(minutes=1)
"""The maximum of EARLY_CHECKIN_SECONDS: a run may begin so long before its slot (D12)."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def slot_of(checkin: Any) -> datetime | None:
    """Return the slot that a run serves; a slot that was still in the future then does not count as expected."""
    slot: datetime | None = checkin.expected_time
    return slot if slot is None or slot <= checkin.date_added + EARLY_MAX else None


def newest_checkins(environments: QuerySet[MonitorEnvironment], count: int) -> list[Any]:
    """Return the newest check-ins of some environments, newest first. Two statements.

    The newest ones of each environment are found by index (checkin_history), so a long history costs nothing.
    """
    checkins = CheckIn.objects.all()
    newest = checkins.filter(monitor_environment=OuterRef("pk")).order_by("-date_added").values("pk")[:count]
    ids = environments.annotate(newest_ids=ArraySubquery(newest)).values_list("newest_ids", flat=True)
    wanted = [checkin_id for environment_ids in ids for checkin_id in environment_ids]
    rows = checkins.filter(pk__in=wanted).select_related("monitor_environment__environment")
    return list(rows.order_by("-date_added", "-id")[:count])


def checkins_of(environment: MonitorEnvironment, count: int, *, before: int = 0) -> list[CheckIn]:
    """Return the newest check-ins of an environment, newest first; or those before the one with the id `before`.

    None if that one is not there. At most two statements. Index: checkin_history.
    """
    found = CheckIn.objects.filter(monitor_environment=environment)
    if before:
        at = found.filter(pk=before).values_list("date_added", flat=True).first()
        if at is None:
            return []
        found = found.filter(date_added__lte=at).exclude(date_added=at, pk__gte=before)
    return list(found.select_related("monitor_environment__environment").order_by("-date_added", "-id")[:count])


class Log(NamedTuple):
    """An output of a run: when it came, with which status ("" for none), its stored end, and how long it was."""

    received_at: datetime
    status: str
    text: str
    stored_bytes: int
    size_bytes: int


def exit_status_of(checkin: CheckIn) -> int | None:
    """Return the exit status of a run, which is in one of two columns."""
    return checkin.exit_status if checkin.wide_exit_status is None else checkin.wide_exit_status


def log_lines(checkin: CheckIn) -> list[str]:
    """Return the last lines of the newest output of a run; none if there is no output. One statement."""
    logs = CheckInLog.objects.filter(
        monitor_environment=checkin.monitor_environment_id,
        guid=checkin.guid,
        received_at__range=(checkin.date_added - LOG_NEAR, checkin.date_updated + LOG_NEAR),
    )
    log = logs.order_by("-received_at", "-id").first()
    return [] if log is None else readable(bytes(log.body)).rstrip().splitlines()[-LOG_LINES_SHOWN:]


def readable(body: bytes) -> str:
    """Return bytes as UTF-8 text, with a mark for each invalid byte and each character that cannot be printed.

    >>> readable(b"caf\\xe9 \\x00")
    'caf\ufffd \ufffd'
    """
    return _UNPRINTABLE.sub("\ufffd", body.decode(errors="replace"))


def logs_of(checkin: CheckIn) -> list[Log]:
    """Return the newest outputs of a run, newest first. One statement."""
    logs = CheckInLog.objects.filter(
        monitor_environment=checkin.monitor_environment_id,
        guid=checkin.guid,
        received_at__range=(checkin.date_added - LOG_NEAR, checkin.date_updated + LOG_NEAR),
    )
    return [
        Log(row.received_at, row.status, readable(bytes(row.body)), len(row.body), row.size_bytes)
        for row in logs.order_by("-received_at", "-id")[:LOGS_SHOWN]
    ]


def why_not_judged(checkin: CheckIn) -> str:
    """Return why a slot or a run was not judged, or an error did not count; "" if nothing says so.

    The name of a maintenance window is found again by the decision that found it. At most two statements.
    """
    why = checkin.get_unknown_because_display() or ""
    if checkin.unknown_because != MAINTAINED:
        return why
    at, margin = checkin.date_updated, timedelta()
    if checkin.status != CheckInStatus.ERROR:
        at, minutes = checkin.date_added, checkin.config.columns().get("checkin_margin")
        margin = timedelta(minutes=minutes if isinstance(minutes, int) else 0)
    window = window_of_slot(_windows_of(checkin, since=at), at, at + margin)
    return why if window is None else f"{why}: {window.name}"


def judged_at(checkin: CheckIn) -> datetime | None:
    """Return when a run in progress is a timeout: a maintenance window moves its deadline. At most two statements."""
    if checkin.timeout_at is None:
        return None
    return deadline_after(_windows_of(checkin, since=checkin.timeout_at - timedelta(minutes=1)), checkin.timeout_at)


def _windows_of(checkin: CheckIn, *, since: datetime) -> Sequence[Window]:
    monitor, environment = checkin.monitor_environment.monitor, checkin.monitor_environment.environment
    return load_windows({monitor.pk: monitor.project_id}, since=since).of_environment(monitor.pk, environment.name)
