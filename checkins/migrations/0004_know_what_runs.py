"""Runs in progress have a table of their own, which triggers of the check-ins keep; their indexes in every day go.

So the end of a run changes no column that an index names: PostgreSQL writes it beside its start, and into no index
(a HOT update). Reads the runs in progress, by their index, and no others.
"""

import django.db.models.deletion
from django.db import migrations, models

from checkins.partitions import KNOW_RUNNING_SQL

TRIGGERS = """
    CREATE FUNCTION checkins_know_running() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM checkins_runningcheckin WHERE checkin_id = OLD.id;
        END IF;
        IF TG_OP <> 'DELETE' AND NEW.status = 'in_progress' THEN
            INSERT INTO checkins_runningcheckin (checkin_id, date_added, monitor_environment_id, shard, timeout_at)
            VALUES (NEW.id, NEW.date_added, NEW.monitor_environment_id, NEW.shard, NEW.timeout_at);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER checkin_begins AFTER INSERT ON checkins_checkin
        FOR EACH ROW WHEN (NEW.status = 'in_progress') EXECUTE FUNCTION checkins_know_running();
    CREATE TRIGGER checkin_changes AFTER UPDATE ON checkins_checkin
        FOR EACH ROW WHEN ((OLD.status = 'in_progress' OR NEW.status = 'in_progress')
                           AND (OLD.status, OLD.timeout_at, OLD.shard, OLD.date_added)
                               IS DISTINCT FROM (NEW.status, NEW.timeout_at, NEW.shard, NEW.date_added))
        EXECUTE FUNCTION checkins_know_running();
    CREATE TRIGGER checkin_goes AFTER DELETE ON checkins_checkin
        FOR EACH ROW WHEN (OLD.status = 'in_progress') EXECUTE FUNCTION checkins_know_running();
"""
NO_TRIGGERS = """
    DROP TRIGGER checkin_begins ON checkins_checkin;
    DROP TRIGGER checkin_changes ON checkins_checkin;
    DROP TRIGGER checkin_goes ON checkins_checkin;
    DROP FUNCTION checkins_know_running();
"""


class Migration(migrations.Migration):
    dependencies = [("checkins", "0003_find_changes_by_time")]

    operations = [
        # All at once, before anything else: a lock that grows step by step deadlocks with those who check in meanwhile.
        migrations.RunSQL("LOCK TABLE checkins_checkin IN ACCESS EXCLUSIVE MODE", migrations.RunSQL.noop),
        migrations.CreateModel(
            name="RunningCheckIn",
            fields=[
                (
                    "checkin",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="checkins.checkin",
                    ),
                ),
                ("date_added", models.DateTimeField()),
                ("shard", models.SmallIntegerField()),
                ("timeout_at", models.DateTimeField()),
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
            options={"verbose_name": "check-in in progress", "verbose_name_plural": "check-ins in progress"},
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
        migrations.RunSQL(KNOW_RUNNING_SQL.format(name="checkins_checkin"), migrations.RunSQL.noop),
        migrations.RemoveIndex("checkin", "checkin_deadline"),
        migrations.RemoveIndex("checkin", "checkin_running"),
        migrations.RemoveIndex("checkin", "checkin_unknown"),
        migrations.AddIndex("runningcheckin", models.Index(fields=["shard", "timeout_at"], name="checkin_deadline")),
        migrations.AddIndex(
            "runningcheckin",
            models.Index(fields=["monitor_environment", "-date_added"], name="checkin_running"),
        ),
    ]
