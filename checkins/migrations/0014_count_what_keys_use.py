"""Count what each ingest key has created and stored in an hour or a day (D38)."""

from django.db import migrations, models


KINDS = [
    ("CHECKIN_ENVIRONMENT_MISMATCH", "CHECKIN_ENVIRONMENT_MISMATCH"),
    ("CHECKIN_FINISHED", "CHECKIN_FINISHED"),
    ("CHECKIN_GUID_PROJECT_MISMATCH", "CHECKIN_GUID_PROJECT_MISMATCH"),
    ("CHECKIN_INVALID_DURATION", "CHECKIN_INVALID_DURATION"),
    ("CHECKIN_INVALID_GUID", "CHECKIN_INVALID_GUID"),
    ("CHECKIN_VALIDATION_FAILED", "CHECKIN_VALIDATION_FAILED"),
    ("MONITOR_DISABLED", "MONITOR_DISABLED"),
    ("MONITOR_DISABLED_NO_QUOTA", "MONITOR_DISABLED_NO_QUOTA"),
    ("MONITOR_INVALID_CONFIG", "MONITOR_INVALID_CONFIG"),
    ("MONITOR_INVALID_ENVIRONMENT", "MONITOR_INVALID_ENVIRONMENT"),
    ("MONITOR_LIMIT_EXCEEDED", "MONITOR_LIMIT_EXCEEDED"),
    ("MONITOR_NOT_FOUND", "MONITOR_NOT_FOUND"),
    ("MONITOR_OVER_QUOTA", "MONITOR_OVER_QUOTA"),
    ("MONITOR_ENVIRONMENT_LIMIT_EXCEEDED", "MONITOR_ENVIRONMENT_LIMIT_EXCEEDED"),
    ("MONITOR_ENVIRONMENT_RATELIMITED", "MONITOR_ENVIRONMENT_RATELIMITED"),
    ("ORGANIZATION_KILLSWITCH_ENABLED", "ORGANIZATION_KILLSWITCH_ENABLED"),
    ("MONITOR_INVALID_OWNER", "MONITOR_INVALID_OWNER"),
    ("KEY_BUDGET_EXCEEDED", "KEY_BUDGET_EXCEEDED"),
]


class Migration(migrations.Migration):
    dependencies = [("checkins", "0013_keep_any_exit_status")]

    operations = [
        migrations.CreateModel(
            name="KeyUse",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("project_id", models.BigIntegerField()),
                ("key_id", models.BigIntegerField()),
                ("budget", models.CharField(max_length=20)),
                ("since", models.DateTimeField()),
                ("stripe", models.PositiveSmallIntegerField()),
                ("used", models.BigIntegerField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("project_id", "key_id", "budget", "since", "stripe"), name="key_use_once_a_period"
                    ),
                    models.CheckConstraint(condition=models.Q(used__gte=0), name="key_use_counts_from_zero"),
                ],
            },
        ),
        migrations.AlterField(
            "processingerror", "kind", models.CharField(choices=KINDS, max_length=50)
        ),
    ]
