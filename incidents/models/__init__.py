"""The tables of incidents: what failed, who is notified of it over which channels, and what people do about it."""

from incidents.models.channels import Channel, MailOutage, Route, Unsubscription
from incidents.models.handling import Comment, FollowUp
from incidents.models.incidents import Incident, Issue, Occurrence
from incidents.models.noise import Flapping, LongBroken
from incidents.models.outbox import Duty, Message, Notification
from incidents.models.reports import WeeklyReport
from incidents.models.storms import Storm

__all__ = [
    "Channel",
    "Comment",
    "Duty",
    "Flapping",
    "FollowUp",
    "Incident",
    "Issue",
    "LongBroken",
    "MailOutage",
    "Message",
    "Notification",
    "Occurrence",
    "Route",
    "Storm",
    "Unsubscription",
    "WeeklyReport",
]
