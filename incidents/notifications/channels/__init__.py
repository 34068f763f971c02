"""Channels by which people are notified, one module each.

`SENDERS` has all but e-mail, which is a module of its own kind (`email`).
"""

from collections.abc import Mapping

from incidents.notifications.channels import (
    alertmanager,
    apprise,
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
    apprise.KIND: apprise,
}
"""The senders by kind, in the order in which they are offered."""
