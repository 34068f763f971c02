"""All tables of what went wrong, as the migrations up to 0008 had made them."""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    replaces = [
        ("incidents", "0001_initial"),
        ("incidents", "0002_check_each_reference_once"),
        ("incidents", "0003_count_occurrences"),
        ("incidents", "0004_find_later_occurrences"),
        ("incidents", "0005_tell_each_recipient"),
        ("incidents", "0006_address_what_was_told"),
        ("incidents", "0007_notification_sent_after_it_was_addressed"),
        ("incidents", "0008_order_occurrences_by_run"),
    ]

    dependencies = [
        ("checkins", "0001_squashed_0018"),
        ("monitors", "0001_squashed_0018"),
    ]

    operations = [
        migrations.CreateModel(
            name="Issue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fingerprint", models.CharField(max_length=64)),
                ("title", models.CharField(max_length=200)),
                (
                    "status",
                    models.CharField(
                        choices=[("unresolved", "unresolved"), ("resolved", "resolved"), ("archived", "archived")],
                        default="unresolved",
                        max_length=10,
                    ),
                ),
                ("first_seen_at", models.DateTimeField()),
                ("last_seen_at", models.DateTimeField()),
                ("occurrence_count", models.PositiveIntegerField(default=0)),
                ("regression_count", models.PositiveIntegerField(default=0)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                (
                    "resolved_by",
                    models.CharField(
                        blank=True, choices=[("recovery", "recovery"), ("hand", "by hand")], max_length=10, null=True
                    ),
                ),
                (
                    "monitor_environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="issues",
                        to="monitors.monitorenvironment",
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="issues",
                        to="monitors.project",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("guid", models.UUIDField(default=uuid.uuid4, unique=True)),
                ("started_at", models.DateTimeField()),
                ("opened_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("occurrence_count", models.PositiveIntegerField(default=0)),
                (
                    "monitor_environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="incidents",
                        to="monitors.monitorenvironment",
                    ),
                ),
                (
                    "resolving_checkin",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="checkins.checkin",
                    ),
                ),
                (
                    "starting_checkin",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="checkins.checkin",
                    ),
                ),
                (
                    "issue",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="incidents",
                        to="incidents.issue",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("opened", "opened"),
                            ("resolved", "resolved"),
                            ("passed", "opened and resolved"),
                            ("clock", "from the clock"),
                        ],
                        max_length=10,
                    ),
                ),
                ("recipient", models.CharField(max_length=320)),
                ("idempotency_key", models.UUIDField(unique=True)),
                ("subject", models.TextField(blank=True)),
                ("body", models.TextField(blank=True)),
                ("created_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("claimed_until", models.DateTimeField(blank=True, null=True)),
                ("attempt_count", models.PositiveIntegerField(default=0)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting"),
                            ("sent", "sent"),
                            ("failed", "failed"),
                            ("folded", "folded into a newer one"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.TextField(blank=True)),
                (
                    "incident",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="incidents.incident",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "transition",
                    models.CharField(choices=[("opened", "opened"), ("resolved", "resolved")], max_length=10),
                ),
                ("channel", models.CharField(choices=[("email", "e-mail")], max_length=10)),
                ("created_at", models.DateTimeField()),
                ("nobody_since", models.DateTimeField(blank=True, null=True)),
                ("addressed_at", models.DateTimeField(blank=True, null=True)),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                (
                    "incident",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notifications",
                        to="incidents.incident",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Occurrence",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("title", models.CharField(max_length=200)),
                ("subtitle", models.TextField()),
                ("failure_reason", models.TextField()),
                ("environment", models.CharField(max_length=64)),
                ("detected_at", models.DateTimeField()),
                ("occurred_at", models.DateTimeField()),
                ("last_ok_at", models.DateTimeField(blank=True, null=True)),
                (
                    "run_checkin_guids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), size=None),
                ),
                ("trace_id", models.UUIDField(blank=True, null=True)),
                ("explanation", models.JSONField()),
                (
                    "checkin",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="checkins.checkin",
                    ),
                ),
                (
                    "incident",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="occurrences",
                        to="incidents.incident",
                    ),
                ),
                (
                    "issue",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="occurrences",
                        to="incidents.issue",
                    ),
                ),
            ],
            options={
                "ordering": ["occurred_at", "id"],
            },
        ),
        migrations.AddIndex(
            model_name="issue",
            index=models.Index(fields=["status", "-last_seen_at"], name="issue_newest"),
        ),
        migrations.AddConstraint(
            model_name="issue",
            constraint=models.UniqueConstraint(
                fields=("project", "fingerprint"), name="issue_fingerprint_unique_in_project"
            ),
        ),
        migrations.AddConstraint(
            model_name="issue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("resolved_at__isnull", False), ("resolved_by__isnull", False), ("status", "resolved")),
                    models.Q(
                        ("status__in", ["unresolved", "archived"]),
                        ("resolved_at__isnull", True),
                        ("resolved_by__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="issue_resolved_exactly_when_dated",
            ),
        ),
        migrations.AddIndex(
            model_name="incident",
            index=models.Index(fields=["-opened_at"], name="incident_newest"),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.UniqueConstraint(
                condition=models.Q(("resolved_at__isnull", True)),
                fields=("monitor_environment",),
                name="incident_one_open_per_monitor_environment",
            ),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("resolved_at__isnull", True), ("resolving_checkin__isnull", True)),
                    models.Q(("resolved_at__isnull", False), ("resolving_checkin__isnull", False)),
                    _connector="OR",
                ),
                name="incident_resolved_exactly_by_a_checkin",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(condition=models.Q(("status", "waiting")), fields=["due_at", "id"], name="message_due"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("status", "waiting")), fields=["created_at"], name="message_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("status", "waiting"), _negated=True),
                fields=["finished_at"],
                name="message_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                fields=("incident", "recipient", "kind"), name="message_once_per_incident_recipient_and_kind"
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("finished_at__isnull", True), ("status", "waiting")),
                    models.Q(
                        ("claimed_until__isnull", True),
                        ("finished_at__isnull", False),
                        ("status__in", ["sent", "failed", "folded"]),
                    ),
                    _connector="OR",
                ),
                name="message_finished_exactly_when_dated",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("incident__isnull", True), ("kind", "clock")),
                    models.Q(("incident__isnull", False), ("kind__in", ["opened", "resolved", "passed"])),
                    _connector="OR",
                ),
                name="message_is_about_an_incident_or_from_the_clock",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("addressed_at__isnull", True)), fields=["id"], name="notification_unaddressed"
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.UniqueConstraint(
                fields=("incident", "transition", "channel"), name="notification_once_per_transition_and_channel"
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.CheckConstraint(
                condition=models.Q(("sent_at__isnull", True), ("addressed_at__isnull", False), _connector="OR"),
                name="notification_sent_after_it_was_addressed",
            ),
        ),
        migrations.AddIndex(
            model_name="occurrence",
            index=models.Index(condition=models.Q(("number__gt", 10)), fields=["detected_at"], name="occurrence_later"),
        ),
        migrations.AddConstraint(
            model_name="occurrence",
            constraint=models.UniqueConstraint(
                fields=("incident", "checkin"), name="occurrence_once_per_failed_checkin"
            ),
        ),
        migrations.AddConstraint(
            model_name="occurrence",
            constraint=models.UniqueConstraint(fields=("incident", "number"), name="occurrence_numbered_once"),
        ),
    ]
