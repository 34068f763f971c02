"""Storms: many openings of which one recipient is notified in one message."""

import uuid

from django.db import models
from django.db.models import Q

from incidents.models.channels import Channel, Route
from monitors.models import Project


class Storm(models.Model):
    """Openings of one project that are sent to one recipient together.

    Its members are the incidents of the duties that its first message carries. `tick`: what one tick opened, for one
    route. `errors`: errors reported within a short time, for one route. `quiet`: what happened while the recipient
    wanted quiet, sent at its end. `reminder` and `escalation`: what nobody has acknowledged. `backlog`: what waited
    until the channel accepted messages again. A pager knows its alert by `guid`, which is resolved with the last
    member.
    """

    class Cause(models.TextChoices):
        TICK = "tick", "opened by one tick"
        ERRORS = "errors", "many errors at once"
        QUIET = "quiet", "quiet hours"
        REMINDER = "reminder", "many reminders at once"
        ESCALATION = "escalation", "many steps of escalations at once"
        BACKLOG = "backlog", "what had waited for the channel"

    guid = models.UUIDField(default=uuid.uuid4, unique=True)
    cause = models.CharField(max_length=10, choices=Cause.choices)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="storms")
    # Both may be removed while the storm goes on; nothing is looked up by them alone.
    channel = models.ForeignKey(
        Channel,
        on_delete=models.DO_NOTHING,
        related_name="storms",
        null=True,
        blank=True,
        db_index=False,
        db_constraint=False,
    )
    route = models.ForeignKey(
        Route, on_delete=models.DO_NOTHING, related_name="+", null=True, blank=True, db_index=False, db_constraint=False
    )
    recipient = models.CharField(max_length=320)
    tick = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(cause="tick", tick__isnull=False) | (~Q(cause="tick") & Q(tick__isnull=True)),
                name="storm_of_a_tick_names_it",
            ),
        ]
        # Retention: oldest first.
        indexes = [models.Index(fields=["created_at"], name="storm_oldest")]

    def __str__(self) -> str:
        return f"{self.get_cause_display()}, {self.created_at:%Y-%m-%d %H:%M}"
