from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """People may be told of a clock incident that goes on, before it can be summarised."""

    dependencies = [
        ("clocktasks", "0004_decisions_and_unknown"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="clockincident",
            name="clock_incident_summarised_after_its_end",
        ),
        migrations.AddConstraint(
            model_name="clockincident",
            constraint=models.CheckConstraint(
                condition=Q(
                    summarised_at__isnull=True,
                    unknown_count__isnull=True,
                    environment_count__isnull=True,
                )
                | Q(
                    ended_at__isnull=False,
                    summarised_at__isnull=False,
                    unknown_count__isnull=False,
                    environment_count__isnull=False,
                ),
                name="clock_incident_summarised_after_its_end",
            ),
        ),
    ]
