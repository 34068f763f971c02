"""The tables of incidents: what failed, and who is notified of it over which channels."""

from incidents.models.channels import Channel, Route
from incidents.models.incidents import Incident, Issue, Occurrence
from incidents.models.outbox import Duty, Message, Notification

__all__ = ["Channel", "Duty", "Incident", "Issue", "Message", "Notification", "Occurrence", "Route"]
