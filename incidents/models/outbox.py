"""Notifications about incidents, whom each concerns, and the messages that carry them."""

from django.db import models
from django.db.models import Q

from incidents.models.channels import EMAIL, Channel
from incidents.models.incidents import Incident
from incidents.models.storms import Storm


class Notification(models.Model):
    """A change of an incident that people have to be notified about, written in the transaction of the change.

    Waiting while `addressed_at` is empty; then `Message` rows replace it, one for each recipient, unless it is out of
    date. `sent_at` is when the mail server accepted the first of them. `nobody_since` is when it was found that there
    are no recipients (no address, or no mail server); if the incident is still open when there are some, they are
    notified late. It is not addressed before `held_until`, and `held_by` says why in words. `tick` is the tick that
    wrote it; empty for check-ins and people.

    `number` counts what may come more than once, from 1: the row is then written anew, and addressed again.
    """

    class Transition(models.TextChoices):
        OPENED = "opened", "opened"
        RESOLVED = "resolved", "resolved"
        REMINDER = "reminder", "still open"
        ESCALATED = "escalated", "escalated"
        ACKNOWLEDGED = "acknowledged", "acknowledged"

    class Channel(models.TextChoices):
        EMAIL = "email", "e-mail"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="notifications", db_index=False)
    transition = models.CharField(max_length=12, choices=Transition.choices)
    channel = models.CharField(max_length=10, choices=Channel.choices)
    created_at = models.DateTimeField()
    # With defaults in the database: during an upgrade older processes write rows without them.
    number = models.PositiveSmallIntegerField(default=0, db_default=0)
    tick = models.DateTimeField(null=True, blank=True)
    held_until = models.DateTimeField(null=True, blank=True)
    held_by = models.TextField(blank=True, default="", db_default="")
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
            models.Index(
                fields=["id"],
                condition=Q(addressed_at__isnull=True, nobody_since__isnull=True),
                name="notification_new",
            ),
            models.Index(
                fields=["held_until"],
                condition=Q(addressed_at__isnull=True, held_until__isnull=False),
                name="notification_held",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.transition} by {self.channel}"


class Duty(models.Model):
    """What routing decided about a notification: whom it concerns, over which channel, and the reason.

    Without a channel it is a mail to an address of ALERT_EMAIL_TO. `recipient` is an e-mail address, or the channel's
    guid. The message that carries it may carry others too; its state is the message's. `number` is that of the
    notification when it was addressed.
    """

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="duties")
    # Removed on their own by age, like the rows they name.
    notification = models.ForeignKey(
        Notification, on_delete=models.CASCADE, related_name="duties", db_index=False, db_constraint=False
    )
    channel = models.ForeignKey(
        Channel, on_delete=models.CASCADE, related_name="duties", null=True, blank=True, db_index=False
    )
    message = models.ForeignKey("Message", on_delete=models.CASCADE, related_name="duties", db_constraint=False)
    # With a default in the database: during an upgrade older processes write rows without it.
    number = models.PositiveSmallIntegerField(default=0, db_default=0)
    recipient = models.CharField(max_length=320)
    reason = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "duties"
        constraints = [
            # P5: nobody is notified twice of one change.
            models.UniqueConstraint(
                fields=["notification", "recipient", "number"], name="duty_once_per_notification_recipient_and_number"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.reason}"


class Message(models.Model):
    """The outbox: one message to one recipient, about the change of an incident, many (a storm), or from the clock.

    Without a channel it is a mail to an address of ALERT_EMAIL_TO. `recipient` is an e-mail address, or the channel's
    guid. `external_ref` is what the service returned, by which later messages update or follow this one; `answer` is
    the beginning of its answer. `is_plain`: the service refused the text with markup, so it is sent without.
    `is_in_doubt`: an attempt ended without an answer, or its worker without a result, so it may have arrived; nothing
    replaces it, since a pager that has it must be notified of the end.

    `waiting` until `due_at`; claimed by a worker until `claimed_until`, which is longer than sending may take; then
    `sent`, waiting again with a later `due_at`, `failed` after the last attempt, `folded` into a newer message with
    more content, or `superseded`: a reminder that was not sent when the incident ended or was acknowledged. The text is
    stored before the first attempt, so that every repetition is the same, under the same `idempotency_key`.
    `attempt_count` counts claims: a worker that lost its claim cannot record a result. `number` is that of the
    notification. `fallback_at`: when people were notified over another channel that it has failed.
    """

    class Kind(models.TextChoices):
        OPENED = "opened", "opened"
        RESOLVED = "resolved", "resolved"
        PASSED = "passed", "opened and resolved"
        REMINDER = "reminder", "still open"
        ESCALATED = "escalated", "escalated"
        ACKNOWLEDGED = "acknowledged", "acknowledged"
        DIGEST = "digest", "many incidents at once"
        STORM_OVER = "storm_over", "recovery of many incidents"
        CLOCK = "clock", "from the clock"
        TEST = "test", "a test"
        FALLBACK = "fallback", "a channel fails"
        REPORT = "report", "a weekly report"

    class Status(models.TextChoices):
        WAITING = "waiting", "waiting"
        SENT = "sent", "sent"
        FAILED = "failed", "failed"
        FOLDED = "folded", "folded into a newer one"
        SUPERSEDED = "superseded", "no longer needed"

    incident = models.ForeignKey(
        Incident, on_delete=models.CASCADE, related_name="messages", db_index=False, null=True, blank=True
    )
    storm = models.ForeignKey(Storm, on_delete=models.CASCADE, related_name="messages", null=True, blank=True)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    number = models.PositiveSmallIntegerField(default=0, db_default=0)
    channel = models.ForeignKey(
        Channel, on_delete=models.CASCADE, related_name="messages", null=True, blank=True, db_index=False
    )
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
    # With defaults in the database: during an upgrade older processes write rows without them.
    is_plain = models.BooleanField(default=False, db_default=False)
    is_in_doubt = models.BooleanField(default=False, db_default=False)
    external_ref = models.TextField(blank=True, default="", db_default="")
    answer = models.TextField(blank=True, default="", db_default="")
    fallback_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            # P5: one message per change of an incident and recipient. Also finds the messages of an incident.
            models.UniqueConstraint(
                fields=["incident", "recipient", "kind", "number"], name="message_once_per_recipient_kind_and_number"
            ),
            models.CheckConstraint(
                condition=Q(status="waiting", finished_at__isnull=True)
                | Q(
                    status__in=["sent", "failed", "folded", "superseded"],
                    finished_at__isnull=False,
                    claimed_until__isnull=True,
                ),
                name="message_finished_exactly_when_dated",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["clock", "test", "fallback", "report"], incident__isnull=True, storm__isnull=True)
                | Q(kind__in=["digest", "storm_over"], incident__isnull=True, storm__isnull=False)
                | Q(kind="acknowledged", incident__isnull=True, storm__isnull=False)
                | Q(
                    ~Q(kind__in=["clock", "test", "fallback", "report", "digest", "storm_over"]),
                    incident__isnull=False,
                    storm__isnull=True,
                ),
                name="message_is_about_an_incident_a_storm_or_the_instance",
            ),
            # The digest, and each summary of recoveries.
            models.UniqueConstraint(fields=["storm", "kind", "number"], name="message_once_per_storm_kind_and_number"),
        ]
        indexes = [
            models.Index(fields=["due_at", "id"], condition=Q(status="waiting"), name="message_due"),
            models.Index(
                fields=["channel", "due_at", "id"],
                condition=Q(status="waiting", channel__isnull=False),
                name="message_due_in_channel",
            ),
            models.Index(
                fields=["channel", "claimed_until"],
                condition=Q(status="waiting", channel__isnull=False, claimed_until__isnull=False),
                name="message_on_the_way",
            ),
            models.Index(fields=["created_at"], condition=Q(status="waiting"), name="message_waiting"),
            models.Index(
                fields=["recipient"],
                condition=Q(status="waiting", storm__isnull=False),
                name="message_storm_waiting",
            ),
            models.Index(fields=["finished_at"], condition=~Q(status="waiting"), name="message_finished"),
            models.Index(
                fields=["finished_at"],
                condition=Q(status="failed", fallback_at__isnull=True),
                name="message_failed_untold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} to {self.recipient}"

    @property
    def is_about_incidents(self) -> bool:
        """Whether it is about an incident or a storm, and gets its text when it is claimed."""
        return self.incident_id is not None or self.storm_id is not None

    @property
    def is_mail(self) -> bool:
        """Whether it is a mail, to an address of ALERT_EMAIL_TO or of an e-mail channel."""
        return self.channel is None or self.channel.kind == EMAIL
