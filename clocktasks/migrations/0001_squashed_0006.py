"""All tables of the clock, as the migrations up to 0006 had made them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    replaces = [
        ("clocktasks", "0001_initial"),
        ("clocktasks", "0002_refuse_fractions_of_a_minute"),
        ("clocktasks", "0003_held_tick"),
        ("clocktasks", "0004_decisions_and_unknown"),
        ("clocktasks", "0005_tell_of_what_goes_on"),
        ("clocktasks", "0006_tick_for_many_minutes"),
    ]

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="AppliedTick",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("shard", models.PositiveSmallIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("missed", "missed"), ("timeout", "timeout"), ("unknown", "unknown")], max_length=10
                    ),
                ),
                ("tick", models.DateTimeField()),
                ("marked_count", models.PositiveIntegerField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("tick", "shard", "kind"), name="applied_tick_exactly_once"),
                    models.CheckConstraint(
                        condition=models.Q(("marked_count__gte", 1)), name="applied_tick_marked_something"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ClockIncident",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "cause",
                    models.CharField(
                        choices=[("deaf", "nobody listened"), ("volume", "far fewer check-ins than usual")],
                        max_length=10,
                    ),
                ),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("summarised_at", models.DateTimeField(blank=True, null=True)),
                ("unknown_count", models.PositiveIntegerField(blank=True, null=True)),
                ("environment_count", models.PositiveIntegerField(blank=True, null=True)),
                ("told_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        models.Value(1),
                        condition=models.Q(("ended_at__isnull", True)),
                        name="clock_incident_one_at_a_time",
                    ),
                    models.UniqueConstraint(fields=("started_at",), name="clock_incident_once_per_minute"),
                    models.CheckConstraint(
                        condition=models.Q(("cause__in", ["deaf", "volume"])), name="clock_incident_cause_is_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ended_at__isnull", True), ("ended_at__gt", models.F("started_at")), _connector="OR"
                        ),
                        name="clock_incident_ends_after_its_start",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("environment_count__isnull", True),
                                ("summarised_at__isnull", True),
                                ("unknown_count__isnull", True),
                            ),
                            models.Q(
                                ("ended_at__isnull", False),
                                ("environment_count__isnull", False),
                                ("summarised_at__isnull", False),
                                ("unknown_count__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="clock_incident_summarised_after_its_end",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="HeldTick",
            fields=[
                ("at", models.DateTimeField(primary_key=True, serialize=False)),
                ("noticed_at", models.DateTimeField()),
                ("reason", models.TextField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("noticed_at__gte", models.F("at"))), name="held_tick_noticed_after_it"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ShardClock",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("shard", models.PositiveSmallIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("missed", "missed"), ("timeout", "timeout"), ("unknown", "unknown")], max_length=10
                    ),
                ),
                ("position", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("shard", "kind"), name="shard_clock_one_per_shard_and_kind"),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["missed", "timeout", "unknown"])),
                        name="shard_clock_kind_is_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Tick",
            fields=[
                ("at", models.DateTimeField(primary_key=True, serialize=False)),
                ("covers_from", models.DateTimeField(blank=True, null=True)),
                ("dispatched_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("is_listened", models.BooleanField(default=True)),
                ("volume", models.PositiveIntegerField(blank=True, null=True)),
                ("deviation_percent", models.FloatField(blank=True, null=True)),
                (
                    "volume_class",
                    models.CharField(
                        choices=[("normal", "normal"), ("abnormal", "abnormal"), ("incident", "incident")],
                        default="normal",
                        max_length=10,
                    ),
                ),
                (
                    "decision",
                    models.CharField(
                        choices=[
                            ("normal", "normal"),
                            ("abnormal", "abnormal"),
                            ("recovering", "recovering"),
                            ("incident", "incident"),
                        ],
                        default="normal",
                        max_length=10,
                    ),
                ),
                ("missed_count", models.PositiveIntegerField(default=0)),
                ("timeout_count", models.PositiveIntegerField(default=0)),
                ("unknown_count", models.PositiveIntegerField(default=0)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("finished_at__isnull", True)), fields=["at"], name="tick_unfinished"
                    ),
                    models.Index(
                        condition=models.Q(("decided_at__isnull", True)), fields=["at"], name="tick_undecided"
                    ),
                    models.Index(
                        condition=models.Q(("is_listened", False), ("decision", "incident"), _connector="OR"),
                        fields=["at"],
                        name="tick_deaf",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "at",
                                models.Func(
                                    models.Value("minute"),
                                    "at",
                                    models.Value("UTC"),
                                    function="date_trunc",
                                    output_field=models.DateTimeField(),
                                ),
                            )
                        ),
                        name="tick_is_a_whole_minute",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("covers_from__isnull", True), ("covers_from__lt", models.F("at")), _connector="OR"
                        ),
                        name="tick_covers_a_minute_at_least",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("decided_at__isnull", False), ("decision__in", ["normal", "incident"])),
                            models.Q(
                                ("decided_at__isnull", True),
                                ("decision__in", ["abnormal", "recovering"]),
                                ("finished_at__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="tick_decided_exactly_when_final",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_class__in", ["normal", "abnormal", "incident"])),
                        name="tick_volume_class_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("is_listened", True),
                            models.Q(("deviation_percent__isnull", True), ("volume__isnull", True)),
                            _connector="OR",
                        ),
                        name="tick_deaf_has_no_volume",
                    ),
                ],
            },
        ),
    ]
