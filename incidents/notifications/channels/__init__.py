"""Channels by which people are notified, one module each.

`SENDERS` has all that are sent over HTTP; e-mail is a module of its own kind (`email`).
"""

from collections.abc import Mapping

from incidents.notifications.channels import (
    alertmanager,
    discord,
    goalert,
    grafana_oncall,
    ntfy,
    opsgenie,
    pagerduty,
    slack,
    slack_bot,
    splunk_oncall,
    teams,
    telegram,
    webhook,
)
from incidents.notifications.channels.base import Sender

SENDERS: Mapping[str, Sender] = {
    webhook.KIND: webhook,
    slack.KIND: slack,
    slack_bot.KIND: slack_bot,
    teams.KIND: teams,
    discord.KIND: discord,
    telegram.KIND: telegram,
    ntfy.KIND: ntfy,
    pagerduty.KIND: pagerduty,
    opsgenie.KIND: opsgenie,
    splunk_oncall.KIND: splunk_oncall,
    goalert.KIND: goalert,
    grafana_oncall.KIND: grafana_oncall,
    alertmanager.KIND: alertmanager,
}
"""The senders by kind, in the order in which they are offered."""
