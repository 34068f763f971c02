"""Find the occurrences that retention removes without looking at those that stay (D42)."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("incidents", "0003_count_occurrences")]

    operations = [
        migrations.AddIndex(
            "occurrence",
            models.Index(fields=["detected_at"], condition=models.Q(number__gt=10), name="occurrence_later"),
        ),
    ]
