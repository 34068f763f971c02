"""Count the runs from before the triggers, a day and some environments at a time.

Each piece holds the environments whose hours it counts anew, as everybody does who writes their check-ins: so nothing
is counted twice, others wait for milliseconds, and the migration may be stopped and run again.
"""

from django.db import migrations, transaction

ENVIRONMENTS_MAX = 1_000
DAYS = """
    SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
     WHERE inhparent = 'checkins_checkin'::regclass ORDER BY child.relname DESC
"""
LOCK = "SELECT FROM monitors_monitorenvironment WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE"
HOURS = """
    SELECT date_bin('1 hour', date_added, '2000-01-01 00:00:00+00') AS hour, monitor_environment_id,
           count(*) FILTER (WHERE status = 'ok') AS ok, count(*) FILTER (WHERE status = 'error') AS error,
           count(*) FILTER (WHERE status = 'missed') AS missed, count(*) FILTER (WHERE status = 'timeout') AS timeout,
           count(*) FILTER (WHERE status = 'unknown') AS unknown,
           count(*) FILTER (WHERE limit_broken IS NOT NULL) AS off_limits,
           count(duration_ms) FILTER (WHERE status = 'ok') AS durations,
           coalesce(sum(duration_ms) FILTER (WHERE status = 'ok'), 0) AS duration_sum_ms,
           max(duration_ms) FILTER (WHERE status = 'ok') AS duration_max_ms
      FROM {day} AS run WHERE monitor_environment_id = ANY(%(ids)s) AND status <> 'in_progress'
     GROUP BY 1, 2
"""
# A day's table holds whole hours, and the one without a day those of no other: an hour is in one table.
COUNT = (
    """
    INSERT INTO checkins_runhour AS kept
           (hour, monitor_environment_id, ok, error, missed, timeout, unknown, off_limits, durations,
            duration_sum_ms, duration_max_ms)
    """
    + HOURS
    + """
        ON CONFLICT (hour, monitor_environment_id) DO UPDATE
       SET ok = excluded.ok, error = excluded.error, missed = excluded.missed, timeout = excluded.timeout,
           unknown = excluded.unknown, off_limits = excluded.off_limits, durations = excluded.durations,
           duration_sum_ms = excluded.duration_sum_ms, duration_max_ms = excluded.duration_max_ms
    """
)


def count(_apps, schema_editor):
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        cursor.execute(DAYS)
        for (day,) in cursor.fetchall():
            cursor.execute("SELECT to_regclass(%s)", [day])
            if cursor.fetchone() == (None,):
                continue  # Housekeeping has dropped it meanwhile.
            cursor.execute(f"SELECT DISTINCT monitor_environment_id FROM {day} ORDER BY 1")  # noqa: S608
            ids = [id_ for (id_,) in cursor.fetchall()]
            for start in range(0, len(ids), ENVIRONMENTS_MAX):
                piece = {"ids": ids[start : start + ENVIRONMENTS_MAX]}
                with transaction.atomic(connection.alias):
                    cursor.execute(LOCK, piece)
                    cursor.execute(COUNT.format(day=day), piece)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checkins", "0006_count_runs_by_hour")]

    operations = [migrations.RunPython(count, migrations.RunPython.noop)]
