"""What the page of an incident shows (shell)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from checkins.models import CheckIn
from dashboard.runs import exit_status_of, log_lines
from incidents.models import Duty, Incident

DUTIES_SHOWN = 100
EARLIER_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest stored failure of an incident, with the end of its log if the reader may see it."""

    explanation: Mapping[str, Any] = field(default_factory=dict)
    checkin: CheckIn | None = None
    exit_status: object = None
    log: Sequence[str] = ()


def load_failure(incident: Incident, *, sees_log: bool) -> Failure:
    """Return the newest failure; of a check-in that was removed, what its explanation holds. Three statements."""
    newest = incident.occurrences.order_by("-number").first()
    explanation = {} if newest is None else newest.explanation
    checkin_id = incident.starting_checkin_id if newest is None else newest.checkin_id
    checkin = CheckIn.objects.filter(pk=checkin_id).first()
    lines = str(explanation.get("log_tail") or "").splitlines()
    if checkin is None:
        return Failure(explanation, None, explanation.get("exit_status"), lines if sees_log else ())
    log = (log_lines(checkin) or lines) if sees_log else ()
    return Failure(explanation, checkin, exit_status_of(checkin), log)


def is_acknowledged(incident: Incident, *, now: datetime) -> bool:
    """Return whether somebody looks after an incident, or did until it was resolved."""
    if incident.acknowledged_at is None:
        return False
    until = incident.acknowledged_until
    return incident.resolved_at is not None or until is None or until > now


def load_duties(incident: Incident) -> Sequence[Duty]:
    """Return who was notified of what, over which channel, with which result. One statement."""
    return list(incident.duties.select_related("notification", "channel", "message").order_by("id")[:DUTIES_SHOWN])


def nobody_notified(incident: Incident) -> str:
    """Return why nobody at all has been notified of an incident; "" if somebody was, or will be. One statement."""
    notifications = list(incident.notifications.order_by("id"))
    if not notifications:
        return _("Nobody was notified: the environment was muted, or the issue archived.")
    if any(one.sent_at or one.held_by or not one.nobody_since for one in notifications):
        return ""
    return _("Nobody was notified: no route catches this monitor, and the instance notifies no address by mail.")


def load_earlier(incident: Incident) -> Sequence[Incident]:
    """Return the incidents of the same environment before this one, newest first. One statement."""
    rows = Incident.objects.filter(monitor_environment=incident.monitor_environment_id, id__lt=incident.id)
    return list(rows.order_by("-id")[:EARLIER_SHOWN])
