"""Incidents that are open for weeks."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('incidents', '0019_fold_reminders'),
    ]

    operations = [
        migrations.CreateModel(
            name='LongBroken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('told_at', models.DateTimeField()),
                ('muted_at', models.DateTimeField(blank=True, null=True)),
                ('incident', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='long_broken', to='incidents.incident')),
            ],
        ),
    ]
