"""Incidents, the issues that people see, occurrences with their explanations, and notifications."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from monitors.models import MonitorEnvironment, Project


class Issue(models.Model):
    """The record of failures that people handle: one per monitor environment for life (constant fingerprint).

    `unresolved`: failing. `resolved`: by recovery or by hand; the next failure makes it unresolved again (regresses).
    `archived`: nobody is notified any more; failures and recoveries are recorded, but the issue stays archived.
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
        ]
        indexes = [models.Index(fields=["-opened_at"], name="incident_newest")]

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


class Notification(models.Model):
    """A change of an incident that people have to be notified about, written in the transaction of the change.

    Waiting while `addressed_at` is empty; then `Message` rows replace it, one for each recipient, unless it is out of
    date. `sent_at` is when the mail server accepted the first of them. `nobody_since` is when it was found that there
    are no recipients (no address, or no mail server); if the incident is still open when there are some, they are
    notified late.
    """

    class Transition(models.TextChoices):
        OPENED = "opened", "opened"
        RESOLVED = "resolved", "resolved"

    class Channel(models.TextChoices):
        EMAIL = "email", "e-mail"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="notifications", db_index=False)
    transition = models.CharField(max_length=10, choices=Transition.choices)
    channel = models.CharField(max_length=10, choices=Channel.choices)
    created_at = models.DateTimeField()
    nobody_since = models.DateTimeField(null=True, blank=True)
    addressed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            # P5: one notification per incident transition and channel.
            models.UniqueConstraint(
                fields=["incident", "transition", "channel"], name="notification_once_per_transition_and_channel"
            ),
            models.CheckConstraint(
                condition=Q(sent_at__isnull=True) | Q(addressed_at__isnull=False),
                name="notification_sent_after_it_was_addressed",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(addressed_at__isnull=True), name="notification_unaddressed"),
        ]

    def __str__(self) -> str:
        return f"{self.transition} by {self.channel}"


class Message(models.Model):
    """The outbox: one mail to one recipient, about the change of an incident or from the clock (without an incident).

    `waiting` until `due_at`; claimed by a worker until `claimed_until`, which is longer than sending may take; then
    `sent`, waiting again with a later `due_at`, `failed` after the last attempt, or `folded` into a newer message with
    more content. The text is stored before the first attempt, so that every repetition is the same, under the same
    `idempotency_key`. `attempt_count` counts claims: a worker that lost its claim cannot record a result.
    """

    class Kind(models.TextChoices):
        OPENED = "opened", "opened"
        RESOLVED = "resolved", "resolved"
        PASSED = "passed", "opened and resolved"
        CLOCK = "clock", "from the clock"

    class Status(models.TextChoices):
        WAITING = "waiting", "waiting"
        SENT = "sent", "sent"
        FAILED = "failed", "failed"
        FOLDED = "folded", "folded into a newer one"

    incident = models.ForeignKey(
        Incident, on_delete=models.CASCADE, related_name="messages", db_index=False, null=True, blank=True
    )
    kind = models.CharField(max_length=10, choices=Kind.choices)
    recipient = models.CharField(max_length=320)
    idempotency_key = models.UUIDField(unique=True)
    subject = models.TextField(blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True, blank=True)
    attempt_count = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    finished_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)

    class Meta:
        constraints = [
            # P5: one message per change of an incident and recipient. Also finds the messages of an incident.
            models.UniqueConstraint(
                fields=["incident", "recipient", "kind"], name="message_once_per_incident_recipient_and_kind"
            ),
            models.CheckConstraint(
                condition=Q(status="waiting", finished_at__isnull=True)
                | Q(status__in=["sent", "failed", "folded"], finished_at__isnull=False, claimed_until__isnull=True),
                name="message_finished_exactly_when_dated",
            ),
            models.CheckConstraint(
                condition=Q(kind="clock", incident__isnull=True)
                | Q(kind__in=["opened", "resolved", "passed"], incident__isnull=False),
                name="message_is_about_an_incident_or_from_the_clock",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at", "id"], condition=Q(status="waiting"), name="message_due"),
            models.Index(fields=["created_at"], condition=Q(status="waiting"), name="message_waiting"),
            models.Index(fields=["finished_at"], condition=~Q(status="waiting"), name="message_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} to {self.recipient}"
