"""Counters of delivery."""

from prometheus_client import Counter

from lib.metrics import METERS

mails = Counter(
    "watchclock_mails",
    "Attempts to send a mail to a recipient: sent or failed.",
    ["outcome"],
    registry=METERS,
)
