"""Keep endings that cannot be counted yet, and have environments know their earliest deadline.

The constraint is not checked against what is there, which passed a stricter one: that would read every day under a lock.
"""

import django.db.models.deletion
from django.db import migrations, models

TABLE = "checkins_checkin"
NAME = "checkin_counted_only_as_a_failure"
BEFORE = ["error", "missed", "timeout"]
AFTER = [*BEFORE, "ok"]


def allow(statuses):
    words = ", ".join(f"'{status}'" for status in statuses)
    return (
        f"ALTER TABLE {TABLE} DROP CONSTRAINT {NAME},"
        f" ADD CONSTRAINT {NAME} CHECK (failed_at IS NULL OR status IN ({words})) NOT VALID"
    )


def constraint(statuses):
    return models.CheckConstraint(
        condition=models.Q(('failed_at__isnull', True), ('status__in', statuses), _connector='OR'), name=NAME
    )


class Migration(migrations.Migration):

    dependencies = [
        ('checkins', '0015_say_why_it_is_unknown'),
        ('monitors', '0013_count_in_the_order_of_time'),
    ]

    operations = [
        migrations.CreateModel(
            name='DeferredEnding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('guid', models.UUIDField()),
                ('verdict', models.CharField(choices=[('ok', 'ok'), ('failed', 'failed')], max_length=10)),
                ('started_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('expected_time', models.DateTimeField(blank=True, null=True)),
                ('trace_id', models.UUIDField(blank=True, null=True)),
                ('exit_status', models.BigIntegerField(blank=True, null=True)),
                ('log_tail', models.TextField(blank=True, null=True)),
                ('checkin', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='checkins.checkin')),
                ('config', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='monitors.configsnapshot')),
                ('monitor_environment', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='deferred_endings', to='monitors.monitorenvironment')),
            ],
            options={
                'indexes': [models.Index(fields=['monitor_environment', 'received_at', 'id'], name='deferred_ending_in_order')],
                'constraints': [models.CheckConstraint(condition=models.Q(('verdict__in', ['ok', 'failed'])), name='deferred_ending_verdict_is_known')],
            },
        ),
        # For rows that are inserted as plain SQL, as benchmarks do.
        migrations.AlterField(
            model_name='checkin',
            name='folded_count',
            field=models.IntegerField(db_default=0, default=0, help_text='Errors of the same minute, far above the limit, that counted and have no row (D39).'),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    allow(AFTER),
                    f"UPDATE {TABLE} SET failed_at = NULL WHERE failed_at IS NOT NULL AND status = 'ok'; "  # noqa: S608
                    + allow(BEFORE),
                ),
            ],
            state_operations=[
                migrations.RemoveConstraint(model_name='checkin', name=NAME),
                migrations.AddConstraint(model_name='checkin', constraint=constraint(AFTER)),
            ],
        ),
        migrations.RunSQL(
            f"""
            UPDATE monitors_monitorenvironment AS me SET first_timeout_at = running.first
              FROM (SELECT monitor_environment_id, min(timeout_at) AS first FROM {TABLE}
                     WHERE status = 'in_progress' GROUP BY monitor_environment_id) AS running
             WHERE me.id = running.monitor_environment_id
            """,  # noqa: S608
            migrations.RunSQL.noop,
        ),
    ]
