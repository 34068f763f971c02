"""What is watched: projects and their keys, monitors, and the live state of each monitor environment.

Rows are changed through services; these classes hold columns, constraints and indexes only.
No column sets itself from the clock: every instant is given by the caller, so that all rows of one operation agree.
"""

import secrets
import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from monitors.configuration import (
    CONFIGURATION_COLUMNS,
    MARGIN_MINUTES_MAX,
    NUMBERS,
    OWNER_CHARACTERS_MAX,
    RUNTIME_MINUTES_MAX,
    THRESHOLD_MAX,
    shared_rules,
)
from monitors.querysets import MonitorEnvironmentQuerySet, MonitorQuerySet
from monitors.schedule import CRONTAB_CHARACTERS_MAX, IntervalUnit, Schedule, ScheduleType, read_schedule
from monitors.sharding import SHARDS_MAX
from monitors.state import EnvironmentStatus, MonitorRules, MonitorStatus

CONFIG_CHANGES_KEPT = 50
"""Changes by check-ins that are kept of a monitor, the newest (D40)."""


def new_public_key() -> str:
    """Return a fresh ingest key: 32 lower-case hex digits, the one form that every client accepts in a DSN."""
    return secrets.token_hex(16)


class Project(models.Model):
    """A tenant: owns monitors, keys, environments, issues and processing errors. Its id is the DSN's last part."""

    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=50, unique=True)
    # A program of before, which still runs while this is migrated, knows nothing of the column.
    is_config_locked = models.BooleanField(
        "monitors refuse configuration from check-ins",
        default=False,
        db_default=False,
        help_text="For monitors that do not say otherwise. New monitors are made by check-ins all the same.",
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class IngestKey(models.Model):
    """A public key that lets clients send check-ins to a project. Inactive keys are refused like unknown ones."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="ingest_keys")
    public_key = models.CharField(max_length=32, unique=True, default=new_public_key)
    label = models.CharField(max_length=100, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            # Clients check keys before they send: the Node SDK drops everything for a key with a dash.
            models.CheckConstraint(
                condition=Q(public_key__regex=r"^[0-9a-f]{32}$"), name="ingest_key_is_32_lower_case_hex_digits"
            ),
        ]

    def __str__(self) -> str:
        # Titles, messages and the log of changes are read by people who may not see keys.
        return f"{self.label or 'key'} {self.public_key[:4]}…"


class ConfigSnapshot(models.Model):
    """An immutable monitor configuration, shared by every check-in that ran under it. Found by its content.

    `unused_since`: since when housekeeping has found it in force nowhere (D42).
    """

    sha256 = models.CharField(max_length=64, unique=True)
    config = models.JSONField()
    unused_since = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.sha256[:12]

    def columns(self) -> dict[str, object]:
        """Return what it holds for people to read; nothing if a hand wrote something else (D37)."""
        return self.config if isinstance(self.config, dict) else {}


class Monitor(models.Model):
    """A job that is watched, found by its slug within its project.

    `config` points at the snapshot of the typed columns as they are now; `monitors.services` keeps both in step.
    `is_muted` is what new environments start with; each environment carries its own flag.
    """

    # The index of the pair with the slug is enough. Plans that were kept from the time when the table was empty took a
    # second one by project alone, and read all monitors of a project for each that was wanted.
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
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
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
        ]
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    def rules(self) -> MonitorRules:
        """Return the configuration as the value that decisions take."""
        return shared_rules(*(getattr(self, column) for column in CONFIGURATION_COLUMNS))

    def schedule(self) -> Schedule:
        """Return the schedule columns as a value. Every write path checks them; a hand in the database does not."""
        return read_schedule(self.schedule_type, self.crontab, self.interval, self.interval_unit, self.timezone)


class FormerRules(models.Model):
    """The rules that a monitor had until an edit, for what came before it and is not judged yet (D32).

    Until is exclusive for messages (one that brings a configuration is judged by it) and inclusive for slots and ticks.
    """

    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, related_name="former_rules", db_index=False)
    until = models.DateTimeField()
    config = models.ForeignKey(ConfigSnapshot, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            # Of two edits at one instant, the first says what held before.
            models.UniqueConstraint(fields=["monitor", "until"], name="former_rules_unique_until"),
        ]

    def __str__(self) -> str:
        return f"{self.monitor} until {self.until}"


class ConfigChange(models.Model):
    """What a check-in changed of a monitor's configuration, and with which key (D40). The newest 50 are kept.

    `made_by` is the key's label as it was, never the key. `difference` maps columns to what they held and hold.
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


class ShardLayout(models.Model):
    """How many shards the environments are spread over: one row, made by whoever first needs a shard.

    Creating environments holds it; changing it goes with moving all that carries a shard (`manage.py change_shards`).
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    count = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            # One truth: a second row could say something else.
            models.CheckConstraint(condition=Q(id=1), name="shard_layout_is_one_row"),
            models.CheckConstraint(
                condition=Q(count__gte=1, count__lte=SHARDS_MAX), name="shard_layout_count_in_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.count} shards"


class Housekeeping(models.Model):
    """How far housekeeping has come in time: one row (columns: `monitors.housetime.HouseTime`)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    reached = models.DateTimeField()
    looked_at = models.DateTimeField()
    apart_for = models.DurationField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="housekeeping_is_one_row"),
        ]

    def __str__(self) -> str:
        return f"{self.reached:%Y-%m-%d %H:%M}"


class MonitorEnvironment(models.Model):
    """The hot row: the live state of one job in one environment (columns: `monitors.state.EnvironmentState`).

    A row is one of:
    1. new (`active`): created by its first message; it has expected times as soon as that message is applied.
    2. healthy (`ok`): no open incident.
    3. failing (`error`): exactly one open incident (D6: both always change in one transaction).
    4. `pending_deletion`: ignored by everything until it is removed.
    Expected times are empty exactly when the clock has nothing to expect: nothing heard yet, or the monitor is off.

    Lock rows in id order, always: that is the rule that keeps ingest and clock free of deadlocks.
    """

    # The unique constraint below serves look-ups by monitor.
    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, related_name="monitor_environments", db_index=False)
    # Every tick updates these rows, and with them every index: one that only deleting an environment would use costs
    # more than the scan that it would save.
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
            # What has several pointers has one that waits, and its columns sum them up (D32).
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
            # The clock: what is due in a shard at a tick, and the earliest deadline of a shard.
            models.Index(
                fields=["shard", "next_checkin_latest"],
                condition=Q(next_checkin_latest__isnull=False),
                name="monenv_due",
            ),
            # What cannot be judged, and is told to people (D37): a handful, or none.
            models.Index(fields=["monitor"], condition=Q(unjudged_until__isnull=False), name="monenv_unjudged"),
        ]

    def __str__(self) -> str:
        return f"{self.monitor} / {self.environment}"
