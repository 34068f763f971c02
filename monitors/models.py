"""Projects and their keys, monitors, and the live state of each monitor environment.

Services change the rows; these classes define columns, constraints and indexes only.
No column has the clock as its default: the caller passes every instant, so that all rows of one operation agree.
"""

import secrets
import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from monitors.address_models import FormerAddress as FormerAddress
from monitors.configuration import (
    CONFIGURATION_COLUMNS,
    MARGIN_MINUTES_MAX,
    NUMBERS,
    OWNER_CHARACTERS_MAX,
    RUNTIME_MINUTES_MAX,
    THRESHOLD_MAX,
    shared_rules,
)
from monitors.dependency_models import Dependency as Dependency
from monitors.instance_models import Housekeeping as Housekeeping
from monitors.instance_models import ShardLayout as ShardLayout
from monitors.limits import CHARACTERS_MAX
from monitors.querysets import IngestKeyQuerySet, MonitorEnvironmentQuerySet, MonitorQuerySet
from monitors.schedule import CRONTAB_CHARACTERS_MAX, IntervalUnit, Schedule, ScheduleType, read_schedule
from monitors.state import EnvironmentStatus, MonitorRules, MonitorStatus, Severity
from monitors.window_models import MaintenanceWindow as MaintenanceWindow

CONFIG_CHANGES_KEPT = 50
"""The newest changes by check-ins that are stored for a monitor (D40)."""


def new_public_key() -> str:
    """Return a fresh ingest key: 32 lower-case hex digits, the only form that every client accepts in a DSN."""
    return secrets.token_hex(16)


class Project(models.Model):
    """A tenant: owns monitors, keys, environments, issues and processing errors. Its id is the DSN's last part."""

    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=50, unique=True)
    # An older version that still runs during the migration does not know the column.
    is_config_locked = models.BooleanField(
        "monitors refuse configuration from check-ins",
        default=False,
        db_default=False,
        help_text="For monitors that do not say otherwise. New monitors are made by check-ins all the same.",
    )
    maintained_until = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="No maintenance window ends later; empty if there never was one.",
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        indexes = [
            # Every batch and every pass of the clock ask for projects with windows: mostly there are none.
            models.Index(
                fields=["maintained_until"],
                condition=Q(maintained_until__isnull=False),
                name="project_maintained_until",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class IngestKey(models.Model):
    """A public key that lets clients send check-ins to a project. Inactive keys are refused like unknown ones.

    So are those whose `ends_at` is over: during a rotation the old key works beside the new one until then.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="ingest_keys")
    public_key = models.CharField(max_length=32, unique=True, default=new_public_key)
    label = models.CharField(max_length=100, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Until when it works; empty: without end.")

    objects = IngestKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            # Clients check keys before they send: the Node SDK drops everything for a key with a dash.
            models.CheckConstraint(
                condition=Q(public_key__regex=r"^[0-9a-f]{32}$"), name="ingest_key_is_32_lower_case_hex_digits"
            ),
        ]

    def __str__(self) -> str:
        # People without access to keys read titles, messages and the admin log.
        return f"{self.label or 'key'} {self.public_key[:4]}…"


class ConfigSnapshot(models.Model):
    """An immutable monitor configuration, shared by every check-in that ran under it. Found by its content.

    `unused_since`: when housekeeping first found that it is no longer in force (D42).
    """

    sha256 = models.CharField(max_length=64, unique=True)
    config = models.JSONField()
    unused_since = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.sha256[:12]

    def columns(self) -> dict[str, object]:
        """Return the columns for display; nothing if somebody wrote something else by hand (D37)."""
        return self.config if isinstance(self.config, dict) else {}


class Monitor(models.Model):
    """A monitored job, identified by its slug within its project.

    `config` is the snapshot of the present values of the typed columns; `monitors.services` updates both together.
    `is_muted` is the initial value of new environments; each environment has its own flag. Nobody is notified of a new
    incident before `snoozed_until`.
    """

    # The index of the pair with the slug is enough. Plans cached from the time when the table was empty used a second
    # index by project alone, and read all monitors of a project for each wanted row.
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="monitors", db_index=False)
    slug = models.CharField(max_length=50)
    name = models.CharField(max_length=128)
    guid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    status = models.CharField(
        max_length=20, choices={s.value: s.value.replace("_", " ") for s in MonitorStatus}, default="active"
    )
    schedule_type = models.CharField(max_length=10, choices={t.value: t.value for t in ScheduleType})
    # Null, not empty: crontab xor interval is a constraint.
    crontab = models.CharField(max_length=CRONTAB_CHARACTERS_MAX, blank=True, null=True)  # noqa: DJ001
    interval = models.PositiveIntegerField(blank=True, null=True)
    interval_unit = models.CharField(  # noqa: DJ001
        max_length=10, choices={u.value: u.value for u in IntervalUnit}, blank=True, null=True
    )
    timezone = models.CharField(max_length=64, default="UTC")
    checkin_margin = models.PositiveIntegerField(
        default=NUMBERS["checkin_margin"].default,
        help_text=f"Minutes of grace after an expected time before it is a miss (1 to {MARGIN_MINUTES_MAX}).",
    )
    max_runtime = models.PositiveIntegerField(
        default=NUMBERS["max_runtime"].default,
        help_text=f"Minutes that a check-in may stay in progress (1 to {RUNTIME_MINUTES_MAX}).",
    )
    failure_threshold = models.PositiveSmallIntegerField(
        default=NUMBERS["failure_threshold"].default,
        help_text=f"Consecutive failures that open an incident (1 to {THRESHOLD_MAX}).",
    )
    recovery_threshold = models.PositiveSmallIntegerField(
        default=NUMBERS["recovery_threshold"].default,
        help_text=f"Consecutive ok check-ins that resolve it (1 to {THRESHOLD_MAX}).",
    )
    disabled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when it judges nothing; empty while it is active."
    )
    was_disabled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when it was disabled the last time, if ever (D23)."
    )
    was_enabled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Until when it was disabled the last time, if ever (D23)."
    )
    rules_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when the rules hold, if they were ever edited (D32)."
    )
    is_muted = models.BooleanField(default=False)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    is_upserting = models.BooleanField(
        default=False, help_text="The newest new check-in carried the configuration, so edits here may be overwritten."
    )
    is_config_locked = models.BooleanField(
        "refuses configuration from check-ins", null=True, blank=True, help_text="Empty: as the project says."
    )
    refused_changes = models.JSONField(
        null=True, blank=True, editable=False, help_text="What was refused and told since the lock was set (D40)."
    )
    owner = models.CharField(max_length=OWNER_CHARACTERS_MAX, blank=True, help_text="user:<name> or team:<name>")
    severity = models.CharField(
        max_length=10,
        choices={severity.value: severity.value for severity in Severity},
        default=Severity.ERROR.value,
        # During an upgrade older processes write rows without it.
        db_default=Severity.ERROR.value,
        help_text="How bad a failure is. Routes may go by it, and it is shown in alerts.",
    )
    # Null, not empty, as in the rules. One column of text: each batch reads it for each of its environments.
    limits = models.CharField(  # noqa: DJ001
        max_length=CHARACTERS_MAX,
        null=True,
        blank=True,
        editable=False,
        help_text="Limits of runs that end ok, as monitors.limits writes them (D44); empty: none.",
    )
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    has_private_logs = models.BooleanField(
        "logs are private",
        default=False,
        db_default=False,
        help_text="Viewers of the project do not see what its runs print.",
    )
    former_tags = models.JSONField(
        null=True, blank=True, editable=False, help_text="The tags that it had, and until when: windows go by them."
    )
    config = models.ForeignKey(ConfigSnapshot, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    objects = MonitorQuerySet.as_manager()

    class Meta:
        constraints = [
            # A check-in finds its monitor by this pair.
            models.UniqueConstraint(fields=["project", "slug"], name="monitor_slug_unique_in_project"),
            models.CheckConstraint(condition=~Q(slug=""), name="monitor_slug_not_empty"),
            models.CheckConstraint(
                condition=Q(was_disabled_at__isnull=True, was_enabled_at__isnull=True)
                | Q(was_disabled_at__isnull=False, was_enabled_at__isnull=False),
                name="monitor_was_disabled_from_and_to",
            ),
            # Crontab or interval, never both, never neither. A check passes unless it is false, and a comparison with
            # null is not: hence every "is not null" in these constraints.
            models.CheckConstraint(
                condition=Q(
                    schedule_type="crontab",
                    crontab__isnull=False,
                    interval__isnull=True,
                    interval_unit__isnull=True,
                )
                | Q(
                    schedule_type="interval",
                    crontab__isnull=True,
                    interval__isnull=False,
                    interval__gt=0,
                    interval_unit__isnull=False,
                    interval_unit__in=["minute", "hour", "day", "week", "month", "year"],
                ),
                name="monitor_crontab_xor_interval",
            ),
            models.CheckConstraint(
                condition=Q(checkin_margin__gte=1, checkin_margin__lte=MARGIN_MINUTES_MAX),
                name="monitor_margin_in_range",
            ),
            models.CheckConstraint(
                condition=Q(max_runtime__gte=1, max_runtime__lte=RUNTIME_MINUTES_MAX),
                name="monitor_max_runtime_in_range",
            ),
            models.CheckConstraint(
                condition=Q(
                    failure_threshold__gte=1,
                    failure_threshold__lte=THRESHOLD_MAX,
                    recovery_threshold__gte=1,
                    recovery_threshold__lte=THRESHOLD_MAX,
                ),
                name="monitor_thresholds_in_range",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["active", "disabled", "pending_deletion"]), name="monitor_status_is_known"
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["info", "warning", "error", "critical"]), name="monitor_severity_is_known"
            ),
        ]
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    def rules(self) -> MonitorRules:
        """Return the configuration as a value, for decisions."""
        return shared_rules(*(getattr(self, column) for column in CONFIGURATION_COLUMNS))

    def schedule(self) -> Schedule:
        """Return the schedule columns as a value. Every write path checks them, except an edit of the row by hand."""
        return read_schedule(self.schedule_type, self.crontab, self.interval, self.interval_unit, self.timezone)


class FormerRules(models.Model):
    """The rules that a monitor had until an edit, for slots and runs from before it that are not judged yet (D32).

    `until` is exclusive for messages (a message is judged by the configuration that it sends) and inclusive for slots
    and ticks.
    """

    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, related_name="former_rules", db_index=False)
    until = models.DateTimeField()
    config = models.ForeignKey(ConfigSnapshot, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            # Of two edits at one instant, the first defines the rules before.
            models.UniqueConstraint(fields=["monitor", "until"], name="former_rules_unique_until"),
        ]

    def __str__(self) -> str:
        return f"{self.monitor} until {self.until}"


class ConfigChange(models.Model):
    """A change of a monitor's configuration by a check-in, with its key (D40). The newest 50 are stored.

    `made_by` is the key's label at that time, never the key. `difference` maps columns to their old and new values.
    """

    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, related_name="config_changes")
    changed_at = models.DateTimeField()
    made_by = models.CharField(max_length=120)
    difference = models.JSONField()

    def __str__(self) -> str:
        return f"{self.monitor} by {self.made_by}"


class Environment(models.Model):
    """A named place where jobs run (production, staging), shared by the monitors of a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="environments", db_index=False)
    name = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="environment_name_unique_in_project"),
            models.CheckConstraint(condition=~Q(name=""), name="environment_name_not_empty"),
        ]

    def __str__(self) -> str:
        return self.name


class MonitorEnvironment(models.Model):
    """The hot row: the live state of one job in one environment (columns: `monitors.state.EnvironmentState`).

    A row is one of:
    1. new (`active`): created by its first message; it has expected times as soon as that message is applied.
    2. healthy (`ok`): no open incident.
    3. failing (`error`): exactly one open incident (D6: both always change in one transaction).
    4. `pending_deletion`: ignored everywhere until it is removed.
    Expected times are empty exactly when nothing is expected: no check-in so far, or the monitor is disabled.

    Always lock rows in id order: this rule prevents deadlocks between ingest and the clock.
    """

    # The unique constraint below serves look-ups by monitor.
    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, related_name="monitor_environments", db_index=False)
    # Every tick updates these rows and all their indexes: an index that only the deletion of an environment would use
    # costs more than the scan that it would save.
    environment = models.ForeignKey(
        Environment, on_delete=models.CASCADE, related_name="monitor_environments", db_index=False
    )
    status = models.CharField(
        max_length=20, choices={s.value: s.value.replace("_", " ") for s in EnvironmentStatus}, default="active"
    )
    is_muted = models.BooleanField(default=False)
    shard = models.PositiveSmallIntegerField()
    last_checkin = models.DateTimeField(null=True, blank=True)
    last_ok_at = models.DateTimeField(null=True, blank=True)
    last_ok_received_at = models.DateTimeField(null=True, blank=True)
    pending_slot = models.DateTimeField(null=True, blank=True)
    next_checkin = models.DateTimeField(null=True, blank=True)
    next_checkin_latest = models.DateTimeField(null=True, blank=True)
    anchor_at = models.DateTimeField(null=True, blank=True)
    anchor_day = models.PositiveSmallIntegerField(null=True, blank=True)
    served_ahead = models.JSONField(null=True, blank=True)
    unjudged_until = models.DateTimeField(null=True, blank=True)
    failure_streak = models.PositiveIntegerField(default=0)
    failure_streak_started_at = models.DateTimeField(null=True, blank=True)
    ok_streak = models.PositiveIntegerField(default=0)
    limit_minute = models.DateTimeField(null=True, blank=True)
    limit_count = models.PositiveIntegerField(default=0)
    first_timeout_at = models.DateTimeField(null=True, blank=True)
    has_deferred = models.BooleanField(default=False, db_default=False)
    spans = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField()
    # A text: a new column of a fixed length would leave gaps in rows that every tick writes.
    muted_until = models.CharField(  # noqa: DJ001
        max_length=10, choices={"recovery": "recovery"}, null=True, blank=True
    )

    objects = MonitorEnvironmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["monitor", "environment"], name="monitor_environment_unique"),
            models.CheckConstraint(
                condition=Q(status__in=["active", "ok", "error", "pending_deletion"]),
                name="monitor_environment_status_is_known",
            ),
            # The slot pointer, the next expected time and the deadline belong together.
            models.CheckConstraint(
                condition=Q(pending_slot__isnull=True, next_checkin__isnull=True, next_checkin_latest__isnull=True)
                | Q(
                    pending_slot__isnull=False,
                    next_checkin__isnull=False,
                    next_checkin_latest__isnull=False,
                    next_checkin__gte=F("pending_slot"),
                    next_checkin_latest__gt=F("pending_slot"),
                ),
                name="monitor_environment_expected_times_together",
            ),
            models.CheckConstraint(
                condition=Q(anchor_at__isnull=True, anchor_day__isnull=True)
                | Q(anchor_at__isnull=False, anchor_day__isnull=False, anchor_day__gte=1, anchor_day__lte=31),
                name="monitor_environment_anchor_complete",
            ),
            # Only a pointer can jump.
            models.CheckConstraint(
                condition=Q(served_ahead__isnull=True) | Q(pending_slot__isnull=False),
                name="monitor_environment_served_ahead_of_a_slot",
            ),
            # A row with several pointers has one that waits, and its columns sum them up (D32).
            models.CheckConstraint(
                condition=Q(spans__isnull=True)
                | Q(pending_slot__isnull=False, served_ahead__isnull=True, anchor_at__isnull=True),
                name="monitor_environment_spans_summed_up",
            ),
            # A run of failures ends with an ok and a run of oks with a failure: never both at once (D5, D6).
            models.CheckConstraint(
                condition=Q(failure_streak=0, failure_streak_started_at__isnull=True)
                | Q(failure_streak__gt=0, failure_streak_started_at__isnull=False, ok_streak=0),
                name="monitor_environment_one_streak_at_a_time",
            ),
            # An environment that is being removed expects nothing.
            models.CheckConstraint(
                condition=~Q(status="pending_deletion") | Q(next_checkin_latest__isnull=True),
                name="monitor_environment_being_deleted_expects_nothing",
            ),
        ]
        indexes = [
            # The clock: the rows due in a shard at a tick, and the earliest deadline of a shard.
            models.Index(
                fields=["shard", "next_checkin_latest"],
                condition=Q(next_checkin_latest__isnull=False),
                name="monenv_due",
            ),
            # Environments that cannot be judged, which are reported (D37): a few, or none.
            models.Index(fields=["monitor"], condition=Q(unjudged_until__isnull=False), name="monenv_unjudged"),
        ]

    def __str__(self) -> str:
        return f"{self.monitor} / {self.environment}"
