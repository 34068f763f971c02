"""Maintenance windows."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitors", "0003_know_projects_with_windows")]

    operations = [
        # In the order in which batches lock: locks that are taken as the foreign keys come deadlock with them.
        migrations.RunSQL(
            "LOCK TABLE monitors_monitor, monitors_environment, monitors_project IN SHARE ROW EXCLUSIVE MODE",
            migrations.RunSQL.noop,
        ),
        migrations.CreateModel(
            name='MaintenanceWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('tag', models.CharField(blank=True, max_length=50)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField(blank=True, null=True)),
                ('crontab', models.CharField(blank=True, max_length=255)),
                ('timezone', models.CharField(default='UTC', max_length=64)),
                ('minutes', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('until', models.TimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name='maintenancewindow',
            name='environment',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='monitors.environment'),
        ),
        migrations.AddField(
            model_name='maintenancewindow',
            name='monitor',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='maintenance_windows', to='monitors.monitor'),
        ),
        migrations.AddField(
            model_name='maintenancewindow',
            name='project',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='maintenance_windows', to='monitors.project'),
        ),
        migrations.AddIndex(
            model_name='maintenancewindow',
            index=models.Index(condition=models.Q(('monitor__isnull', True)), fields=['project', 'tag'], name='maintenance_window_of_many'),
        ),
        migrations.AddConstraint(
            model_name='maintenancewindow',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='maintenance_window_name_not_empty'),
        ),
        migrations.AddConstraint(
            model_name='maintenancewindow',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at__isnull', True), ('ends_at__gt', models.F('starts_at')), _connector='OR'), name='maintenance_window_ends_after_its_start'),
        ),
        migrations.AddConstraint(
            model_name='maintenancewindow',
            constraint=models.CheckConstraint(condition=models.Q(('starts_at', models.Func('starts_at', output_field=models.DateTimeField(), template="date_trunc('minute', %(expressions)s, 'UTC')")), models.Q(('ends_at__isnull', True), ('ends_at', models.Func('ends_at', output_field=models.DateTimeField(), template="date_trunc('minute', %(expressions)s, 'UTC')")), _connector='OR')), name='maintenance_window_of_whole_minutes'),
        ),
        migrations.AddConstraint(
            model_name='maintenancewindow',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('crontab', ''), ('ends_at__isnull', False), ('minutes__isnull', True), ('until__isnull', True)), models.Q(models.Q(('crontab', ''), _negated=True), ('minutes__isnull', True), ('until__isnull', False)), models.Q(models.Q(('crontab', ''), _negated=True), ('minutes__gte', 1), ('minutes__isnull', False), ('minutes__lte', 10080), ('until__isnull', True)), _connector='OR'), name='maintenance_window_once_or_by_a_rule'),
        ),
        migrations.AddConstraint(
            model_name='maintenancewindow',
            constraint=models.CheckConstraint(condition=models.Q(('monitor__isnull', True), ('tag', ''), _connector='OR'), name='maintenance_window_of_a_monitor_or_a_tag'),
        ),
    ]
