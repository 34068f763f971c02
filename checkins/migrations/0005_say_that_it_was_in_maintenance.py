"""Slots and errors may be in maintenance. Only what people read changes: no table does."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkins', '0004_know_what_runs'),
    ]

    operations = [
        migrations.AlterField(
            model_name='checkin',
            name='unknown_because',
            field=models.CharField(blank=True, choices=[('disabled', 'its monitor was disabled'), ('deleted', 'its environment was being deleted'), ('maintained', 'it was in maintenance')], max_length=10, null=True),
        ),
    ]
