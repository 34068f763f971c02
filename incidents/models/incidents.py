"""Incidents, the issues that people see, and occurrences with their explanations."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models import Membership
from monitors.models import MonitorEnvironment, Project


class Issue(models.Model):
    """The record of failures that people handle: one per monitor environment for life (constant fingerprint).

    `unresolved`: failing. `resolved`: by recovery or by hand; the next failure makes it unresolved again (regresses).
    `archived`: nobody is notified any more; failures and recoveries are recorded, but the issue stays archived.
    `assignee` is the member of the project who looks after it.
    """

    class Status(models.TextChoices):
        UNRESOLVED = "unresolved", "unresolved"
        RESOLVED = "resolved", "resolved"
        ARCHIVED = "archived", "archived"

    class ResolvedBy(models.TextChoices):
        RECOVERY = "recovery", "recovery"
        HAND = "hand", "by hand"

    # Copied from the monitor environment, for the unique fingerprint; its foreign keys are the check.
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="issues", db_constraint=False, db_index=False
    )
    monitor_environment = models.ForeignKey(MonitorEnvironment, on_delete=models.CASCADE, related_name="issues")
    fingerprint = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.UNRESOLVED)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    occurrence_count = models.PositiveIntegerField(default=0)
    regression_count = models.PositiveIntegerField(default=0)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(  # noqa: DJ001 - null, not empty: set exactly when resolved is a constraint
        max_length=10, choices=ResolvedBy.choices, null=True, blank=True
    )
    assignee = models.ForeignKey(
        Membership, on_delete=models.SET_NULL, related_name="assigned_issues", null=True, blank=True
    )

    class Meta:
        constraints = [
            # P5: one issue per fingerprint.
            models.UniqueConstraint(fields=["project", "fingerprint"], name="issue_fingerprint_unique_in_project"),
            models.CheckConstraint(
                condition=Q(status="resolved", resolved_at__isnull=False, resolved_by__isnull=False)
                | (Q(status__in=["unresolved", "archived"]) & Q(resolved_at__isnull=True, resolved_by__isnull=True)),
                name="issue_resolved_exactly_when_dated",
            ),
        ]
        indexes = [models.Index(fields=["status", "-last_seen_at"], name="issue_newest")]

    def __str__(self) -> str:
        return self.title


class Incident(models.Model):
    """A failing stretch of one monitor environment, from the first failed check-in to the ok that ended it.

    Open while `resolved_at` is empty; never reopened. `started_at` is the start of the failing run, `opened_at` when
    the threshold was reached, `resolved_at` the start of the check-in that ended it. `issue` is empty if the
    environment has been muted all the time. `occurrence_count` counts all occurrences; only some are stored (D42).

    `acknowledged_at` is when a person said that somebody looks after it; `acknowledged_by` who, `acknowledged_via` the
    way, and `acknowledged_channel` the id of the channel where that was said, if it was in one. From
    `acknowledged_until` on it counts as not acknowledged again.
    """

    guid = models.UUIDField(default=uuid.uuid4, unique=True)
    monitor_environment = models.ForeignKey(MonitorEnvironment, on_delete=models.CASCADE, related_name="incidents")
    issue = models.ForeignKey(Issue, on_delete=models.SET_NULL, null=True, blank=True, related_name="incidents")
    starting_checkin = models.ForeignKey(
        "checkins.CheckIn", on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    started_at = models.DateTimeField()
    opened_at = models.DateTimeField()
    resolving_checkin = models.ForeignKey(
        "checkins.CheckIn",
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
    )
    resolved_at = models.DateTimeField(null=True, blank=True)
    occurrence_count = models.PositiveIntegerField(default=0)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    # With defaults in the database: check-ins insert rows without them.
    acknowledged_by = models.CharField(max_length=200, blank=True, default="", db_default="")
    acknowledged_via = models.CharField(max_length=100, blank=True, default="", db_default="")
    acknowledged_channel = models.BigIntegerField(null=True, blank=True)
    acknowledged_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            # P5: one open incident per monitor environment.
            models.UniqueConstraint(
                fields=["monitor_environment"],
                condition=Q(resolved_at__isnull=True),
                name="incident_one_open_per_monitor_environment",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at__isnull=True, resolving_checkin__isnull=True)
                | Q(resolved_at__isnull=False, resolving_checkin__isnull=False),
                name="incident_resolved_exactly_by_a_checkin",
            ),
            models.CheckConstraint(
                condition=Q(acknowledged_at__isnull=False) | Q(acknowledged_by="", acknowledged_until__isnull=True),
                name="incident_acknowledged_exactly_when_dated",
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at"], name="incident_newest"),
            # For the sweep, which looks for acknowledgements that have run out.
            models.Index(
                fields=["acknowledged_until"],
                condition=Q(acknowledged_until__isnull=False, resolved_at__isnull=True),
                name="incident_acknowledged_until",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.monitor_environment} since {self.started_at:%Y-%m-%d %H:%M}"


class Occurrence(models.Model):
    """One failed check-in of an incident, with the explanation as of that moment (P8).

    `number` counts the occurrences of the incident from 1. The first 10 and the newest 100 are stored (D42).
    """

    # Copied from the incident, for the issue's page; its foreign key is the check.
    issue = models.ForeignKey(Issue, on_delete=models.CASCADE, related_name="occurrences", db_constraint=False)
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="occurrences", db_index=False)
    number = models.PositiveIntegerField()
    checkin = models.ForeignKey(
        "checkins.CheckIn", on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    title = models.CharField(max_length=200)
    subtitle = models.TextField()
    failure_reason = models.TextField()
    environment = models.CharField(max_length=64)
    detected_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    last_ok_at = models.DateTimeField(null=True, blank=True)
    run_checkin_guids = ArrayField(models.UUIDField())
    trace_id = models.UUIDField(null=True, blank=True)
    explanation = models.JSONField()

    class Meta:
        constraints = [
            # D7: a failed check-in has one occurrence in its incident, even if work is repeated.
            models.UniqueConstraint(fields=["incident", "checkin"], name="occurrence_once_per_failed_checkin"),
            # D42: the number decides which ones are stored.
            models.UniqueConstraint(fields=["incident", "number"], name="occurrence_numbered_once"),
        ]
        indexes = [
            # Retention: all but the first 10 of an incident, oldest first.
            models.Index(fields=["detected_at"], condition=Q(number__gt=10), name="occurrence_later"),
        ]
        # Failures are in the order of their runs, however late they were reported (D26).
        ordering = ["occurred_at", "id"]

    def __str__(self) -> str:
        return self.subtitle
