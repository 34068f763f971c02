"""Where people are notified: channels, and the routes that choose among them."""

import uuid

from django.db import models
from django.db.models import Q

from accounts.models import Membership
from monitors.models import Project

NAME_LENGTH_MAX = 100
EMAIL = "email"
"""The kind of channel whose messages are mails, one to each of its addresses."""


class Channel(models.Model):
    """A place where people are notified, such as a chat room or a pager: one address of one service.

    Without a project it belongs to the instance: it is notified of the clock's own incidents, and no route names it.
    `values` are its settings, `sealed` its secrets, encrypted (`incidents.secrets`). A channel that was removed keeps
    its row, with `removed_at`, while a message may still need it: whoever was notified that an incident opened
    is notified of its end.

    A personal channel (`is_personal`) is that of `member`, who is notified by mail at the own address; its zone,
    language and quiet hours follow the person's preferences (`incidents.notifications.personal`). It has no member, and
    notifies nobody, when the membership has ended.

    `folds`: many openings at once make one message. From `quiet_from` to `quiet_until`, by the clocks of its
    `timezone`, it is notified only of what is critical; both are empty if there are no such hours.

    `fallback_told_at` is when people were last notified, over another channel, that this one fails. Before
    `paced_until` its service accepts no more messages (`incidents.notifications.rates`). The other columns are its
    circuit breaker (`incidents.notifications.breaker`). Closed while `open_since` is empty.
    """

    guid = models.UUIDField(default=uuid.uuid4, unique=True)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="channels", null=True, blank=True)
    kind = models.CharField(max_length=30)
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    values = models.JSONField(default=dict, blank=True)
    sealed = models.TextField(blank=True)
    language = models.CharField(max_length=10, default="en")
    timezone = models.CharField(max_length=64, default="UTC")
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    # With defaults in the database: during an upgrade older processes write rows without them.
    folds = models.BooleanField(default=True, db_default=True)
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    changed_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)
    is_personal = models.BooleanField(default=False, db_default=False)
    member = models.ForeignKey(Membership, on_delete=models.SET_NULL, related_name="channels", null=True, blank=True)

    failure_count = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    open_since = models.DateTimeField(null=True, blank=True)
    probe_at = models.DateTimeField(null=True, blank=True)
    probe_count = models.PositiveIntegerField(default=0)
    slow_until = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    fallback_told_at = models.DateTimeField(null=True, blank=True)
    paced_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=Q(removed_at__isnull=True),
                nulls_distinct=False,
                name="channel_name_unique_in_project",
            ),
            models.CheckConstraint(
                condition=Q(open_since__isnull=True, probe_at__isnull=True)
                | Q(open_since__isnull=False, probe_at__isnull=False),
                name="channel_probed_exactly_while_open",
            ),
            models.CheckConstraint(
                condition=Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False) & ~Q(quiet_from=models.F("quiet_until")),
                name="channel_quiet_hours_have_two_ends",
            ),
            models.CheckConstraint(
                condition=Q(is_personal=False, member__isnull=True)
                | Q(is_personal=True, kind=EMAIL, project__isnull=False),
                name="channel_of_a_member_is_personal",
            ),
            models.UniqueConstraint(
                fields=["member"], condition=Q(removed_at__isnull=True), name="channel_one_for_each_member"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class MailOutage(models.Model):
    """One row while the mail server cannot be used and mails to ALERT_EMAIL_TO wait: no channel has their breaker.

    It stays if those mails are given up; `failed_at` is the last attempt. `told_projects`: of whose mails people were
    notified over another channel; null is the instance.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    began_at = models.DateTimeField()
    failed_at = models.DateTimeField()
    last_error = models.TextField(blank=True)
    told_projects = models.JSONField(default=list, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="mail_outage_is_one_row"),
        ]

    def __str__(self) -> str:
        return f"since {self.began_at:%Y-%m-%d %H:%M}"


class Route(models.Model):
    """A rule of a project: which incidents go to which channels. Routes are tried in the order of `position`.

    `matchers` are conditions that all must hold (`incidents.notifications.routing`); without one it catches everything.
    The first route that catches an incident ends the search, unless it `continues`. The fallback route of a project
    catches nothing: its channels are notified when another channel fails. `tells_owner`: so are the owner of the
    monitor and who looks after its issue, if they have personal channels.

    While an incident is open and nobody has acknowledged it, its recipients are reminded after `reminder_hours` (empty:
    REMINDER_HOURS; 0: never), then at longer intervals, and the channels of each of the `steps` are notified in turn
    (`incidents.notifications.pursuit`), `loops` times again after the last one.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="routes")
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    position = models.PositiveIntegerField()
    matchers = models.JSONField(default=list, blank=True)
    continues = models.BooleanField(default=False)
    is_enabled = models.BooleanField(default=True)
    # With defaults in the database: during an upgrade older processes write rows without them.
    is_fallback = models.BooleanField(default=False, db_default=False)
    reminder_hours = models.PositiveSmallIntegerField(null=True, blank=True)
    tells_owner = models.BooleanField(default=False, db_default=False)
    steps = models.JSONField(default=list, blank=True, db_default=[])
    loops = models.PositiveSmallIntegerField(default=0, db_default=0)
    changed_at = models.DateTimeField()
    channels = models.ManyToManyField(Channel, related_name="routes", blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="route_name_unique_in_project"),
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(is_fallback=True),
                name="route_one_fallback_in_project",
                violation_error_message="The project has a fallback route already.",
            ),
        ]
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.name


class Unsubscription(models.Model):
    """An address that wants no more mails of a topic from an e-mail channel, as its owner said with the link in a mail.

    It stays when the address is removed from the channel and added again: only people who may change the channel
    subscribe it again, in the admin.
    """

    class Topic(models.TextChoices):
        ALERTS = "alerts", "alerts"
        REPORTS = "reports", "weekly reports"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="unsubscriptions", db_index=False)
    address = models.CharField(max_length=320)
    topic = models.CharField(max_length=10, choices=Topic.choices, default=Topic.ALERTS, db_default=Topic.ALERTS.value)
    unsubscribed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "address", "topic"], name="unsubscription_once_per_channel_address_and_topic"
            ),
        ]

    def __str__(self) -> str:
        return self.address
