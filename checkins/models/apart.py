"""What was received beside check-ins that are applied: what waits, what could not be used, what keys have used up."""

from django.db import models
from django.db.models import Q

from checkins.messages import ProblemKind, Source
from monitors.models import Monitor, Project


class WaitingCheckIn(models.Model):
    """A check-in that was acknowledged and is kept, but not applied yet.

    A row is one of:
    1. `monitor_unknown`: its monitor may come with the run's other message. It is applied then, or given up after the
       parking time (D17).
    2. `failed`: an unexpected error kept it from being applied. A person may try again (D14).
    `message` is the whole message, so that it can be applied as if it came now, with its own reception time.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="waiting_checkins")
    slug = models.CharField(max_length=50, blank=True)
    environment = models.CharField(max_length=64, blank=True)
    reason = models.CharField(
        max_length=20, choices={"monitor_unknown": "monitor unknown", "failed": "processing failed"}
    )
    error = models.TextField(blank=True)
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})
    received_at = models.DateTimeField()
    message = models.JSONField()

    class Meta:
        verbose_name = "waiting check-in"
        constraints = [
            models.CheckConstraint(
                condition=Q(reason="monitor_unknown", error="") | (Q(reason="failed") & ~Q(error="")),
                name="waiting_checkin_failed_exactly_with_an_error",
            ),
        ]
        indexes = [
            models.Index(
                fields=["project", "slug"], condition=Q(reason="monitor_unknown"), name="waiting_checkin_parked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slug} {self.received_at:%Y-%m-%d %H:%M:%S}"


class ClientLossReport(models.Model):
    """A client's own report that check-ins were lost on their way to us (D19): evidence of a false alarm.

    It names no monitor and no time of loss; it comes with the client's next message that gets through.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="loss_reports", db_index=False)
    reason = models.CharField(max_length=100)
    quantity = models.PositiveIntegerField()
    reported_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField()
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})

    class Meta:
        verbose_name = "client loss report"
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=1), name="loss_report_counts_at_least_one"),
        ]
        indexes = [models.Index(fields=["project", "received_at"], name="loss_report_history")]

    def __str__(self) -> str:
        return f"{self.quantity} lost: {self.reason}"


class ProcessingError(models.Model):
    """Something a client sent that could not be used, kept for the project's people: what, why, how often.

    One row a minute and kind for the same monitor and environment, with a count (D13), so that a flood stays readable.
    `payload` is the first of them. `monitor` is empty when the slug is not known.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="processing_errors", db_index=False)
    monitor = models.ForeignKey(
        Monitor, on_delete=models.SET_NULL, null=True, blank=True, related_name="processing_errors"
    )
    kind = models.CharField(max_length=50, choices={k.value: k.value for k in ProblemKind})
    slug = models.CharField(max_length=200, blank=True)
    environment = models.CharField(max_length=200, blank=True)
    field = models.CharField(max_length=100, blank=True)
    value = models.TextField(blank=True)
    message = models.TextField()
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})
    minute = models.DateTimeField()
    first_received_at = models.DateTimeField()
    last_received_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=1)
    payload = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "slug", "environment", "kind", "field", "minute"],
                name="processing_error_once_a_minute_and_kind",
            ),
            models.CheckConstraint(condition=Q(count__gte=1), name="processing_error_counts_at_least_one"),
        ]
        indexes = [models.Index(fields=["-last_received_at"], name="processing_error_newest")]

    def __str__(self) -> str:
        return f"{self.kind} {self.slug}"


class KeyUse(models.Model):
    """What an ingest key has used of one of its budgets in an hour or a day that began at `since` (D38).

    `key_id` 0 stands for the addresses of the project's monitors. Keys may be deleted meanwhile, so nothing is referred
    to. The sum over the `stripe`s counts, see `checkins.processing.budgets`.
    """

    project_id = models.BigIntegerField()
    key_id = models.BigIntegerField()
    budget = models.CharField(max_length=20)
    since = models.DateTimeField()
    stripe = models.PositiveSmallIntegerField()
    used = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project_id", "key_id", "budget", "since", "stripe"], name="key_use_once_a_period"
            ),
            models.CheckConstraint(condition=Q(used__gte=0), name="key_use_counts_from_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.used} {self.budget} since {self.since:%Y-%m-%d %H:%M}"
