"""What people do about incidents, and what waits for them to do something."""

from django.db import models
from django.db.models import Q

from incidents.models.incidents import Incident, Issue


class FollowUp(models.Model):
    """What happens about an open incident until somebody acknowledges it: reminders, or the steps of an escalation.

    One for each route that caught the incident and has steps, and one for the reminders of all routes with the same
    hours, with a copy of what they said (`plan`). `route` is the name of the (first) route, empty for ALERT_EMAIL_TO.
    `done` counts how often it was done; the next time is at `due_at`, empty if there is none: all is done, or somebody
    has acknowledged.
    """

    class Kind(models.TextChoices):
        REMINDER = "reminder", "reminder"
        ESCALATION = "escalation", "escalation"

    # The unique constraint below serves look-ups by incident.
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="follow_ups", db_index=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    route = models.CharField(max_length=100, blank=True)
    plan = models.JSONField()
    done = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["incident", "kind", "route"], name="follow_up_once_per_incident_kind_and_route"
            ),
        ]
        indexes = [
            # For the sweep, which looks for what is due.
            models.Index(fields=["due_at", "id"], condition=Q(due_at__isnull=False), name="follow_up_due"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.route or 'ALERT_EMAIL_TO'}"


class Comment(models.Model):
    """What a person wrote about an issue. The account's id and name are those at that time."""

    issue = models.ForeignKey(Issue, on_delete=models.CASCADE, related_name="comments")
    author_id = models.BigIntegerField(null=True, blank=True)
    author_name = models.CharField(max_length=200)
    text = models.TextField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.author_name}: {self.text[:50]}"
