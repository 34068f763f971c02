"""All tables of what is watched, as the migrations up to 0018 had made them."""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import monitors.models
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    replaces = [
        ("monitors", "0001_initial"),
        ("monitors", "0002_leave_room_for_hot_updates"),
        ("monitors", "0003_one_index_by_monitor"),
        ("monitors", "0004_judge_nothing_before_its_tick"),
        ("monitors", "0005_know_when_the_newest_ok_came"),
        ("monitors", "0006_refuse_half_empty_values"),
        ("monitors", "0007_check_each_reference_once"),
        ("monitors", "0008_shard_layout"),
        ("monitors", "0009_keep_the_shards_there_are"),
        ("monitors", "0010_set_aside_what_cannot_be_judged"),
        ("monitors", "0011_know_unused_configurations"),
        ("monitors", "0012_know_since_when_it_is_disabled"),
        ("monitors", "0013_count_in_the_order_of_time"),
        ("monitors", "0014_lock_configurations"),
        ("monitors", "0015_keep_the_time_of_housekeeping"),
        ("monitors", "0016_find_by_the_pair_alone"),
        ("monitors", "0017_keep_the_rules_before_an_edit"),
        ("monitors", "0018_keep_when_a_monitor_was_disabled"),
    ]

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ConfigSnapshot",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sha256", models.CharField(max_length=64, unique=True)),
                ("config", models.JSONField()),
                ("unused_since", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Project",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200)),
                ("slug", models.SlugField(unique=True)),
                (
                    "is_config_locked",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="For monitors that do not say otherwise. New monitors are made by check-ins all the same.",
                        verbose_name="monitors refuse configuration from check-ins",
                    ),
                ),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Housekeeping",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("reached", models.DateTimeField()),
                ("looked_at", models.DateTimeField()),
                ("apart_for", models.DurationField()),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="housekeeping_is_one_row")],
            },
        ),
        migrations.CreateModel(
            name="Monitor",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.CharField(max_length=50)),
                ("name", models.CharField(max_length=128)),
                ("guid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("active", "active"),
                            ("disabled", "disabled"),
                            ("pending_deletion", "pending deletion"),
                        ],
                        default="active",
                        max_length=20,
                    ),
                ),
                (
                    "schedule_type",
                    models.CharField(choices=[("crontab", "crontab"), ("interval", "interval")], max_length=10),
                ),
                ("crontab", models.CharField(blank=True, max_length=255, null=True)),
                ("interval", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "interval_unit",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("minute", "minute"),
                            ("hour", "hour"),
                            ("day", "day"),
                            ("week", "week"),
                            ("month", "month"),
                            ("year", "year"),
                        ],
                        max_length=10,
                        null=True,
                    ),
                ),
                ("timezone", models.CharField(default="UTC", max_length=64)),
                (
                    "checkin_margin",
                    models.PositiveIntegerField(
                        default=1, help_text="Minutes of grace after an expected time before it is a miss (1 to 40320)."
                    ),
                ),
                (
                    "max_runtime",
                    models.PositiveIntegerField(
                        default=30, help_text="Minutes that a check-in may stay in progress (1 to 10080)."
                    ),
                ),
                (
                    "failure_threshold",
                    models.PositiveSmallIntegerField(
                        default=1, help_text="Consecutive failures that open an incident (1 to 720)."
                    ),
                ),
                (
                    "recovery_threshold",
                    models.PositiveSmallIntegerField(
                        default=1, help_text="Consecutive ok check-ins that resolve it (1 to 720)."
                    ),
                ),
                (
                    "disabled_at",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Since when it judges nothing; empty while it is active.",
                        null=True,
                    ),
                ),
                (
                    "was_disabled_at",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Since when it was disabled the last time, if ever (D23).",
                        null=True,
                    ),
                ),
                (
                    "was_enabled_at",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Until when it was disabled the last time, if ever (D23).",
                        null=True,
                    ),
                ),
                (
                    "rules_since",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Since when the rules hold, if they were ever edited (D32).",
                        null=True,
                    ),
                ),
                ("is_muted", models.BooleanField(default=False)),
                (
                    "is_upserting",
                    models.BooleanField(
                        default=False,
                        help_text="The newest new check-in carried the configuration, so edits here may be overwritten.",
                    ),
                ),
                (
                    "is_config_locked",
                    models.BooleanField(
                        blank=True,
                        help_text="Empty: as the project says.",
                        null=True,
                        verbose_name="refuses configuration from check-ins",
                    ),
                ),
                (
                    "refused_changes",
                    models.JSONField(
                        blank=True,
                        editable=False,
                        help_text="What was refused and told since the lock was set (D40).",
                        null=True,
                    ),
                ),
                ("owner", models.CharField(blank=True, help_text="user:<name> or team:<name>", max_length=200)),
                (
                    "tags",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=50), blank=True, default=list, size=None
                    ),
                ),
                ("created_at", models.DateTimeField()),
                (
                    "config",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="monitors.configsnapshot"
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="monitors",
                        to="monitors.project",
                    ),
                ),
            ],
            options={
                "ordering": ["slug"],
            },
        ),
        migrations.CreateModel(
            name="ConfigChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("changed_at", models.DateTimeField()),
                ("made_by", models.CharField(max_length=120)),
                ("difference", models.JSONField()),
                (
                    "monitor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="config_changes",
                        to="monitors.monitor",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="IngestKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("public_key", models.CharField(default=monitors.models.new_public_key, max_length=32, unique=True)),
                ("label", models.CharField(blank=True, max_length=100)),
                ("is_active", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField()),
                (
                    "project",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="ingest_keys", to="monitors.project"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Environment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64)),
                (
                    "project",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="environments",
                        to="monitors.project",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ShardLayout",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("count", models.PositiveSmallIntegerField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="shard_layout_is_one_row"),
                    models.CheckConstraint(
                        condition=models.Q(("count__gte", 1), ("count__lte", 1024)), name="shard_layout_count_in_range"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="FormerRules",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("until", models.DateTimeField()),
                (
                    "config",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="monitors.configsnapshot"
                    ),
                ),
                (
                    "monitor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="former_rules",
                        to="monitors.monitor",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("monitor", "until"), name="former_rules_unique_until")],
            },
        ),
        migrations.CreateModel(
            name="MonitorEnvironment",
            # Columns of 8 bytes, then 4, 2, 1 and of any length, so that PostgreSQL fills no gaps between them, as in
            # the table of check-ins: every check-in reads and writes such a row. Nothing may depend on this order.
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "monitor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="monitor_environments",
                        to="monitors.monitor",
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="monitor_environments",
                        to="monitors.environment",
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("last_checkin", models.DateTimeField(blank=True, null=True)),
                ("last_ok_at", models.DateTimeField(blank=True, null=True)),
                ("last_ok_received_at", models.DateTimeField(blank=True, null=True)),
                ("pending_slot", models.DateTimeField(blank=True, null=True)),
                ("next_checkin", models.DateTimeField(blank=True, null=True)),
                ("next_checkin_latest", models.DateTimeField(blank=True, null=True)),
                ("anchor_at", models.DateTimeField(blank=True, null=True)),
                ("unjudged_until", models.DateTimeField(blank=True, null=True)),
                ("failure_streak_started_at", models.DateTimeField(blank=True, null=True)),
                ("limit_minute", models.DateTimeField(blank=True, null=True)),
                ("first_timeout_at", models.DateTimeField(blank=True, null=True)),
                ("failure_streak", models.PositiveIntegerField(default=0)),
                ("ok_streak", models.PositiveIntegerField(default=0)),
                ("limit_count", models.PositiveIntegerField(default=0)),
                ("shard", models.PositiveSmallIntegerField()),
                ("anchor_day", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("is_muted", models.BooleanField(default=False)),
                ("has_deferred", models.BooleanField(db_default=False, default=False)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("active", "active"),
                            ("ok", "ok"),
                            ("error", "error"),
                            ("pending_deletion", "pending deletion"),
                        ],
                        default="active",
                        max_length=20,
                    ),
                ),
                ("served_ahead", models.JSONField(blank=True, null=True)),
                ("spans", models.JSONField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_checkin_latest__isnull", False)),
                        fields=["shard", "next_checkin_latest"],
                        name="monenv_due",
                    ),
                    models.Index(
                        condition=models.Q(("unjudged_until__isnull", False)),
                        fields=["monitor"],
                        name="monenv_unjudged",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("monitor", "environment"), name="monitor_environment_unique"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["active", "ok", "error", "pending_deletion"])),
                        name="monitor_environment_status_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("next_checkin__isnull", True),
                                ("next_checkin_latest__isnull", True),
                                ("pending_slot__isnull", True),
                            ),
                            models.Q(
                                ("next_checkin__gte", models.F("pending_slot")),
                                ("next_checkin__isnull", False),
                                ("next_checkin_latest__gt", models.F("pending_slot")),
                                ("next_checkin_latest__isnull", False),
                                ("pending_slot__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="monitor_environment_expected_times_together",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("anchor_at__isnull", True), ("anchor_day__isnull", True)),
                            models.Q(
                                ("anchor_at__isnull", False),
                                ("anchor_day__gte", 1),
                                ("anchor_day__isnull", False),
                                ("anchor_day__lte", 31),
                            ),
                            _connector="OR",
                        ),
                        name="monitor_environment_anchor_complete",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("served_ahead__isnull", True), ("pending_slot__isnull", False), _connector="OR"
                        ),
                        name="monitor_environment_served_ahead_of_a_slot",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("spans__isnull", True),
                            models.Q(
                                ("anchor_at__isnull", True),
                                ("pending_slot__isnull", False),
                                ("served_ahead__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="monitor_environment_spans_summed_up",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("failure_streak", 0), ("failure_streak_started_at__isnull", True)),
                            models.Q(
                                ("failure_streak__gt", 0),
                                ("failure_streak_started_at__isnull", False),
                                ("ok_streak", 0),
                            ),
                            _connector="OR",
                        ),
                        name="monitor_environment_one_streak_at_a_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status", "pending_deletion"), _negated=True),
                            ("next_checkin_latest__isnull", True),
                            _connector="OR",
                        ),
                        name="monitor_environment_being_deleted_expects_nothing",
                    ),
                ],
            },
        ),
        # Room in the pages, so that most updates stay on their page (HOT) and touch no index.
        migrations.RunSQL(
            "ALTER TABLE monitors_monitorenvironment SET (fillfactor = 70)",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.UniqueConstraint(fields=("project", "slug"), name="monitor_slug_unique_in_project"),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(("slug", ""), _negated=True), name="monitor_slug_not_empty"
            ),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("was_disabled_at__isnull", True), ("was_enabled_at__isnull", True)),
                    models.Q(("was_disabled_at__isnull", False), ("was_enabled_at__isnull", False)),
                    _connector="OR",
                ),
                name="monitor_was_disabled_from_and_to",
            ),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("crontab__isnull", False),
                        ("interval__isnull", True),
                        ("interval_unit__isnull", True),
                        ("schedule_type", "crontab"),
                    ),
                    models.Q(
                        ("crontab__isnull", True),
                        ("interval__gt", 0),
                        ("interval__isnull", False),
                        ("interval_unit__in", ["minute", "hour", "day", "week", "month", "year"]),
                        ("interval_unit__isnull", False),
                        ("schedule_type", "interval"),
                    ),
                    _connector="OR",
                ),
                name="monitor_crontab_xor_interval",
            ),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(("checkin_margin__gte", 1), ("checkin_margin__lte", 40320)),
                name="monitor_margin_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_runtime__gte", 1), ("max_runtime__lte", 10080)),
                name="monitor_max_runtime_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("failure_threshold__gte", 1),
                    ("failure_threshold__lte", 720),
                    ("recovery_threshold__gte", 1),
                    ("recovery_threshold__lte", 720),
                ),
                name="monitor_thresholds_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="monitor",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["active", "disabled", "pending_deletion"])),
                name="monitor_status_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="ingestkey",
            constraint=models.CheckConstraint(
                condition=models.Q(("public_key__regex", "^[0-9a-f]{32}$")),
                name="ingest_key_is_32_lower_case_hex_digits",
            ),
        ),
        migrations.AddConstraint(
            model_name="environment",
            constraint=models.UniqueConstraint(fields=("project", "name"), name="environment_name_unique_in_project"),
        ),
        migrations.AddConstraint(
            model_name="environment",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", ""), _negated=True), name="environment_name_not_empty"
            ),
        ),
    ]
