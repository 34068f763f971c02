"""Acknowledgements that people make in a service, such as PagerDuty, and that the service reports to us (shell)."""

import time
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _

from audit.entries import Actor, Source
from incidents.handling.acknowledging import TOGETHER_MAX, acknowledge_many
from incidents.models import Channel
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.callbacks import CALLBACKS, Call, CallbackRefusedError, read
from incidents.notifications.configuring import stored_secrets
from lib.sql import fetch_rows

SECONDS_MAX = 3.0
"""A storm has many incidents: what is left after this time is acknowledged when the service repeats its request."""


class Reception(StrEnum):
    """What became of a request of a service."""

    DONE = "done"
    REFUSED = "refused"
    MORE = "more"
    """Ask again: some incidents of a storm are left."""


def receive(channel_guid: UUID, call: Call, *, now: datetime) -> Reception:
    """Acknowledge what a service reports as acknowledged there, if the request is genuine.

    Incidents of other projects are left alone. To repeat it changes nothing.
    """
    channel = Channel.objects.filter(guid=channel_guid, removed_at__isnull=True, project__isnull=False).first()
    if channel is None or channel.kind not in CALLBACKS:
        return Reception.REFUSED
    callback = CALLBACKS[channel.kind]
    try:
        received = read(channel.kind, call, stored_secrets(channel).get(callback.secret.name, ""), now=now)
    except CallbackRefusedError:
        return Reception.REFUSED
    if received is None:
        return Reception.DONE
    until = time.monotonic() + SECONDS_MAX
    parameters = {"key": received.key, "project": channel.project_id, "channel": channel.id, "most": TOGETHER_MAX}
    while found := [id_ for (id_,) in fetch_rows(_MEANT_SQL, parameters)]:
        if time.monotonic() > until:
            return Reception.MORE
        acknowledge_many(
            found,
            by=Actor(received.by, Source.CHANNEL, now),
            via=f"{SENDERS[channel.kind].NAME}, channel {channel}",
            now=now,
            channel_id=channel.id if callback.knows else None,
        )
    return Reception.DONE


_MEANT_SQL = """
    SELECT i.id
      FROM (SELECT id FROM incidents_incident WHERE guid = %(key)s
             UNION
            SELECT d.incident_id
              FROM incidents_storm AS s
              JOIN incidents_message AS m ON m.storm_id = s.id
              JOIN incidents_duty AS d ON d.message_id = m.id
             WHERE s.guid = %(key)s AND s.channel_id = %(channel)s) AS meant
      JOIN incidents_incident AS i ON i.id = meant.id
      JOIN monitors_monitorenvironment AS e ON e.id = i.monitor_environment_id
      JOIN monitors_monitor AS o ON o.id = e.monitor_id
     WHERE o.project_id = %(project)s AND i.resolved_at IS NULL AND i.acknowledged_at IS NULL
     ORDER BY i.id LIMIT %(most)s
"""


def describe_way_back(channel: Channel) -> str:
    """Return, for the page of a channel, whether an acknowledgement in its service comes back, and by which address.

    A token at the end of the address is not shown.
    """
    callback = CALLBACKS.get(channel.kind)
    if callback is None:
        return _("An acknowledgement there does not come back. The link in an alert acknowledges.")
    if channel.project_id is None:
        return _("None: a channel of the instance is notified of no incidents of monitors.")
    if not settings.PUBLIC_URL:
        return _("They do not come back: PUBLIC_URL is not set.")
    address = f"{settings.PUBLIC_URL}{reverse('hook', args=[channel.guid])}{'/<token>' if callback.has_token else ''}"
    if callback.secret.name in stored_secrets(channel):
        return _("They come back to %(address)s") % {"address": address}
    text = _("They do not come back until “%(field)s” is set. The address for the service: %(address)s")
    return text % {"field": _(callback.secret.label), "address": address}
