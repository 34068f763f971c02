"""Environments that flap."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('incidents', '0015_storms'),
        ('monitors', '0006_let_monitors_depend_on_others'),
    ]

    operations = [
        # In the order in which batches lock: locks that are taken as the foreign keys come deadlock with them.
        migrations.RunSQL(
            "LOCK TABLE monitors_monitorenvironment, incidents_incident IN SHARE ROW EXCLUSIVE MODE",
            migrations.RunSQL.noop,
        ),
        migrations.CreateModel(
            name='Flapping',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('change_count', models.PositiveSmallIntegerField()),
                ('run_count', models.PositiveSmallIntegerField()),
                ('opening_count', models.PositiveIntegerField()),
                ('incident', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='flapping', to='incidents.incident')),
                ('monitor_environment', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='monitors.monitorenvironment')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('monitor_environment',), name='flapping_once_at_a_time')],
            },
        ),
    ]
