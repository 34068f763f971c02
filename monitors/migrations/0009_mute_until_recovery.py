"""Environments that are muted until they recover."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0008_limit_runs_that_end_ok'),
    ]

    operations = [
        migrations.AddField(
            model_name='monitorenvironment',
            name='is_muted_until_ok',
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
