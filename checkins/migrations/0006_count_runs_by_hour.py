"""Runs are counted by environment and hour, by triggers of the check-ins; durations are kept, and limits of them.

Creates tables and adds columns, which changes no row. What was before is counted by the next migration. The triggers
that know what runs now do so once for each statement, not for each row, which pays for more than half of the counting.
"""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

# `run` has the rows after a statement with n = 1 and those before it with n = -1: what it did not change comes to
# nothing. They are never joined: the clock forbids all joins but the one that compares each row with each. The
# environments of the rows are locked, so no two transactions write the same hour.
COUNT = """
        INSERT INTO checkins_runhour AS kept
               (hour, monitor_environment_id, ok, error, missed, timeout, unknown, off_limits, durations,
                duration_sum_ms, duration_max_ms)
        SELECT date_bin('1 hour', date_added, '2000-01-01 00:00:00+00') AS hour, monitor_environment_id,
               sum(n * (status = 'ok')::integer) AS ok,
               sum(n * (status = 'error')::integer) AS error,
               sum(n * (status = 'missed')::integer) AS missed,
               sum(n * (status = 'timeout')::integer) AS timeout,
               sum(n * (status = 'unknown')::integer) AS unknown,
               sum(n * (limit_broken IS NOT NULL)::integer) AS off_limits,
               sum(n * (status = 'ok' AND duration_ms IS NOT NULL)::integer) AS durations,
               coalesce(sum(n * duration_ms) FILTER (WHERE status = 'ok'), 0) AS duration_sum_ms,
               max(duration_ms) FILTER (WHERE status = 'ok') AS duration_max_ms
          FROM ({run}) AS run
         GROUP BY 1, 2 {condition}
            ON CONFLICT (hour, monitor_environment_id) DO UPDATE
           SET ok = kept.ok + excluded.ok,
               error = kept.error + excluded.error,
               missed = kept.missed + excluded.missed,
               timeout = kept.timeout + excluded.timeout,
               unknown = kept.unknown + excluded.unknown,
               off_limits = kept.off_limits + excluded.off_limits,
               durations = kept.durations + excluded.durations,
               duration_sum_ms = kept.duration_sum_ms + excluded.duration_sum_ms,
               duration_max_ms = greatest(kept.duration_max_ms, excluded.duration_max_ms);
"""
RUN = """
                SELECT {n} AS n, date_added, monitor_environment_id, status, limit_broken, duration_ms
                  FROM {rows} WHERE status <> 'in_progress'"""
CHANGED = """HAVING (sum(n * (status = 'ok')::integer), sum(n * (status = 'error')::integer),
                 sum(n * (status = 'missed')::integer), sum(n * (status = 'timeout')::integer),
                 sum(n * (status = 'unknown')::integer), sum(n * (limit_broken IS NOT NULL)::integer),
                 sum(n * (status = 'ok' AND duration_ms IS NOT NULL)::integer)) <> (0, 0, 0, 0, 0, 0, 0)"""
COUNT_NEW = COUNT.format(run=RUN.format(n=1, rows="new_rows"), condition="")
COUNT_CHANGED = COUNT.format(
    run=RUN.format(n=1, rows="new_rows") + " UNION ALL " + RUN.format(n=-1, rows="old_rows"), condition=CHANGED
)
TRIGGERS = f"""
    ALTER TABLE checkins_runhour SET (fillfactor = 60);

    CREATE FUNCTION checkins_are_new() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checkins_runningcheckin (checkin_id, date_added, monitor_environment_id, shard, timeout_at)
        SELECT id, date_added, monitor_environment_id, shard, timeout_at
          FROM new_rows WHERE status = 'in_progress';
        {COUNT_NEW}
        RETURN NULL;
    END $$;
    CREATE FUNCTION checkins_are_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM checkins_runningcheckin WHERE checkin_id IN (
               SELECT id FROM old_rows WHERE status = 'in_progress'
               EXCEPT
               SELECT id FROM new_rows WHERE status = 'in_progress');
        INSERT INTO checkins_runningcheckin (checkin_id, date_added, monitor_environment_id, shard, timeout_at)
        SELECT id, date_added, monitor_environment_id, shard, timeout_at
          FROM new_rows WHERE status = 'in_progress'
        EXCEPT
        SELECT id, date_added, monitor_environment_id, shard, timeout_at
          FROM old_rows WHERE status = 'in_progress'
            ON CONFLICT (checkin_id) DO UPDATE
           SET date_added = excluded.date_added, shard = excluded.shard, timeout_at = excluded.timeout_at;
        {COUNT_CHANGED}
        RETURN NULL;
    END $$;

    DROP TRIGGER checkin_begins ON checkins_checkin;
    DROP TRIGGER checkin_changes ON checkins_checkin;
    CREATE TRIGGER checkins_are_new AFTER INSERT ON checkins_checkin REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION checkins_are_new();
    CREATE TRIGGER checkins_are_changed AFTER UPDATE ON checkins_checkin
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION checkins_are_changed();
"""  # noqa: S608 - constants
NO_TRIGGERS = """
    DROP TRIGGER checkins_are_new ON checkins_checkin;
    DROP TRIGGER checkins_are_changed ON checkins_checkin;
    DROP FUNCTION checkins_are_new();
    DROP FUNCTION checkins_are_changed();
    CREATE TRIGGER checkin_begins AFTER INSERT ON checkins_checkin
        FOR EACH ROW WHEN (NEW.status = 'in_progress') EXECUTE FUNCTION checkins_know_running();
    CREATE TRIGGER checkin_changes AFTER UPDATE ON checkins_checkin
        FOR EACH ROW WHEN ((OLD.status = 'in_progress' OR NEW.status = 'in_progress')
                           AND (OLD.status, OLD.timeout_at, OLD.shard, OLD.date_added)
                               IS DISTINCT FROM (NEW.status, NEW.timeout_at, NEW.shard, NEW.date_added))
        EXECUTE FUNCTION checkins_know_running();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("checkins", "0005_say_that_it_was_in_maintenance"),
        ("monitors", "0004_plan_maintenance"),
    ]

    operations = [
        # All at once, before anything else: a lock that grows step by step deadlocks with those who check in meanwhile.
        migrations.RunSQL("LOCK TABLE checkins_checkin IN ACCESS EXCLUSIVE MODE", migrations.RunSQL.noop),
        migrations.AddField(
            model_name="checkin",
            name="limit_broken",
            field=models.CharField(
                blank=True,
                choices=[
                    ("slow", "too slow"),
                    ("fast", "too fast"),
                    ("overlap", "overlapping"),
                    ("slow_counted", "too slow, a failure"),
                    ("fast_counted", "too fast, a failure"),
                    ("overlap_counted", "overlapping, a failure"),
                ],
                help_text="The limit of its monitor that it broke although it ended ok, and whether that counts (D44).",
                max_length=20,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="deferredending",
            name="duration_ms",
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="deferredending",
            name="is_begun",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.CreateModel(
            name="RunHour",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "hour", "monitor_environment", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("hour", models.DateTimeField()),
                ("ok", models.IntegerField(db_default=0, default=0)),
                ("error", models.IntegerField(db_default=0, default=0)),
                ("missed", models.IntegerField(db_default=0, default=0)),
                ("timeout", models.IntegerField(db_default=0, default=0)),
                ("unknown", models.IntegerField(db_default=0, default=0)),
                ("off_limits", models.IntegerField(db_default=0, default=0)),
                ("durations", models.IntegerField(db_default=0, default=0)),
                ("duration_sum_ms", models.BigIntegerField(db_default=0, default=0)),
                ("duration_max_ms", models.IntegerField(blank=True, null=True)),
                (
                    "monitor_environment",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="monitors.monitorenvironment",
                    ),
                ),
            ],
            options={"verbose_name": "hour of runs", "verbose_name_plural": "hours of runs"},
        ),
        migrations.CreateModel(
            name="RecentRuns",
            fields=[
                (
                    "monitor_environment",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="recent_runs",
                        serialize=False,
                        to="monitors.monitorenvironment",
                    ),
                ),
                (
                    "durations_ms",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), default=list, size=None
                    ),
                ),
                (
                    "delays_ms",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), default=list, size=None
                    ),
                ),
            ],
            options={"verbose_name": "recent runs", "verbose_name_plural": "recent runs"},
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
    ]
