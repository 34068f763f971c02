"""Environments that are muted until they recover."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0008_limit_runs_that_end_ok'),
    ]

    operations = [
        migrations.AddField(
            model_name='monitorenvironment',
            name='muted_until',
            field=models.CharField(
                blank=True, choices=[('recovery', 'recovery')], max_length=10, null=True
            ),
        ),
    ]
