"""Monitors whose logs viewers do not see."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0009_mute_until_recovery'),
    ]

    operations = [
        migrations.AddField(
            model_name='monitor',
            name='has_private_logs',
            field=models.BooleanField(db_default=False, default=False, help_text='Viewers of the project do not see what its runs print.', verbose_name='logs are private'),
        ),
    ]
