"""The names of fields in the audit log, and their values, in the reader's language."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, pgettext_lazy

from dashboard.vocabulary import setting, word

LABELS: Mapping[str, object] = {
    # monitors, and their addresses
    "slug": pgettext_lazy("field", "slug"),
    "name": pgettext_lazy("field", "name"),
    "project": pgettext_lazy("field", "project"),
    "status": pgettext_lazy("field", "status"),
    "is_muted": pgettext_lazy("field", "is muted"),
    "snoozed_until": pgettext_lazy("field", "snoozed until"),
    "schedule_type": pgettext_lazy("field", "schedule type"),
    "crontab": pgettext_lazy("field", "crontab"),
    "interval": pgettext_lazy("field", "interval"),
    "interval_unit": pgettext_lazy("field", "interval unit"),
    "timezone": pgettext_lazy("field", "timezone"),
    "checkin_margin": pgettext_lazy("field", "checkin margin"),
    "max_runtime": pgettext_lazy("field", "max runtime"),
    "failure_threshold": pgettext_lazy("field", "failure threshold"),
    "recovery_threshold": pgettext_lazy("field", "recovery threshold"),
    "limits": pgettext_lazy("field", "limits"),
    "owner": pgettext_lazy("field", "owner"),
    "severity": pgettext_lazy("field", "severity"),
    "tags": pgettext_lazy("field", "tags"),
    "is_config_locked": pgettext_lazy("field", "is config locked"),
    "has_private_logs": pgettext_lazy("field", "has private logs"),
    "depends_on": pgettext_lazy("field", "depends on"),
    "ping_address": pgettext_lazy("field", "ping address"),
    "former_address_ends_at": pgettext_lazy("field", "former address ends at"),
    # keys for check-ins, members and invitations
    "label": pgettext_lazy("field", "label"),
    "public_key": pgettext_lazy("field", "public key"),
    "is_active": pgettext_lazy("field", "is active"),
    "replaced_by": pgettext_lazy("field", "replaced by"),
    "role": pgettext_lazy("field", "role"),
    # issues, incidents, exports
    "assignee": pgettext_lazy("field", "assignee"),
    "text": pgettext_lazy("field", "text"),
    "via": pgettext_lazy("field", "via"),
    "acknowledged_by": pgettext_lazy("field", "acknowledged by"),
    "format": pgettext_lazy("field", "format"),
    "filters": pgettext_lazy("field", "filters"),
    # maintenance windows, status pages, saved views
    "monitor": pgettext_lazy("field", "monitor"),
    "monitor_id": pgettext_lazy("field", "monitor id"),
    "tag": pgettext_lazy("field", "tag"),
    "environment": pgettext_lazy("field", "environment"),
    "environment_id": pgettext_lazy("field", "environment id"),
    "starts_at": pgettext_lazy("field", "starts at"),
    "ends_at": pgettext_lazy("field", "ends at"),
    "minutes": pgettext_lazy("field", "minutes"),
    "until": pgettext_lazy("field", "until"),
    "address": pgettext_lazy("field", "address"),
    "is_public": pgettext_lazy("field", "is public"),
    "query": pgettext_lazy("field", "query"),
    # routes
    "position": pgettext_lazy("field", "position"),
    "channels": pgettext_lazy("field", "channels"),
    "tells_owner": pgettext_lazy("field", "tells owner"),
    "continues": pgettext_lazy("field", "continues"),
    "is_fallback": pgettext_lazy("field", "is fallback"),
    "reminder_hours": pgettext_lazy("field", "reminder hours"),
    "loops": pgettext_lazy("field", "loops"),
    "is_enabled": pgettext_lazy("field", "is enabled"),
    "conditions": pgettext_lazy("field", "conditions"),
    "escalation": pgettext_lazy("field", "escalation"),
    # channels, and their settings
    "language": pgettext_lazy("field", "language"),
    "folds": pgettext_lazy("field", "folds"),
    "quiet_from": pgettext_lazy("field", "quiet from"),
    "quiet_until": pgettext_lazy("field", "quiet until"),
    "to": pgettext_lazy("field", "to"),
    "alerts": pgettext_lazy("field", "alerts"),
    "weekly reports": pgettext_lazy("field", "weekly reports"),
    "api_url": pgettext_lazy("field", "api url"),
    "channel": pgettext_lazy("field", "channel"),
    "chat_id": pgettext_lazy("field", "chat id"),
    "routing_key": pgettext_lazy("field", "routing key"),
    "server": pgettext_lazy("field", "server"),
    "team": pgettext_lazy("field", "team"),
    "thread_id": pgettext_lazy("field", "thread id"),
    "url": pgettext_lazy("field", "url"),
    "setting_api_key": pgettext_lazy("field", "setting api key"),
    "setting_callback_token": pgettext_lazy("field", "setting callback token"),
    "setting_old_secret": pgettext_lazy("field", "setting old secret"),
    "setting_routing_key": pgettext_lazy("field", "setting routing key"),
    "setting_secret": pgettext_lazy("field", "setting secret"),
    "setting_signing_secret": pgettext_lazy("field", "setting signing secret"),
    "setting_token": pgettext_lazy("field", "setting token"),
    "setting_topic": pgettext_lazy("field", "setting topic"),
    "setting_url": pgettext_lazy("field", "setting url"),
}

OF_WORDS = frozenset(("status", "schedule_type", "interval_unit", "severity", "role", "via"))
"""Fields whose values are words of Watchclock. What people or machines wrote is shown as it is."""


def label_of(name: str) -> str:
    """Return the name of a field as people read it; of one that is not known, its own in words."""
    return str(LABELS[name]) if name in LABELS else name.replace("_", " ")


def value_text(name: str, value: Any) -> str:
    """Return a stored value of a field as people read it."""
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return gettext("yes") if value else gettext("no")
        case list():
            return ", ".join(map(str, value))
        case str() if name in OF_WORDS:
            return word(value)
        case _:
            return str(setting(value))
