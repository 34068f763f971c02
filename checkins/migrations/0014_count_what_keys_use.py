"""Count what each ingest key has created and stored in an hour or a day (D38)."""

from django.db import migrations, models


KINDS = [
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
