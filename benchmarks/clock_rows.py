"""The rows with which `bench_clock` begins, and the counts that it expects after a tick (SQL)."""

# No two slots of a schedule are closer than five minutes: what a tick marks is not due again at the next few.
MINUTES = ("5", "*/5", "5,35", "0-59/5", "5-55/10", "5,20,35,50", "5-59/15", "5,45")
WEEKDAYS = ("*", "1", "1-5")
ZONES = (
    *("UTC", "Europe/Vienna", "Europe/London", "Europe/Istanbul", "Africa/Lagos", "Asia/Tokyo"),
    *("Asia/Dubai", "America/New_York", "America/Chicago", "America/Sao_Paulo", "Australia/Sydney", "Pacific/Auckland"),
)
INTERVALS = ((5, "minute"), (10, "minute"), (15, "minute"), (30, "minute"), (1, "hour"), (1, "day"))

# A few hundred schedules, shared by all monitors in turn. Each monitor has one environment, which was ok an hour or two
# ago. The parts that are due are mixed among the others: misses expected a check-in a minute before their tick with a
# margin of one minute, timeouts have a run whose deadline is their tick. The others wait for something later.
SEED = {
    "schedules": """
        CREATE TEMPORARY TABLE schedule AS
        SELECT row_number() OVER () - 1 AS number, * FROM (
            SELECT 'crontab' AS schedule_type, minute || ' * * * ' || weekday AS crontab,
                   NULL::integer AS interval, NULL AS interval_unit, zone
              FROM unnest(%(minutes)s::text[]) AS minute, unnest(%(weekdays)s::text[]) AS weekday,
                   unnest(%(zones)s::text[]) AS zone
             UNION ALL
            SELECT 'interval', NULL, interval, unit, zone
              FROM unnest(%(intervals)s::integer[], %(units)s::text[]) AS kind (interval, unit),
                   unnest((%(zones)s::text[])[1:2]) AS zone
            ) AS every""",
    "listening": """
        INSERT INTO checkins_listeningspan (node_id, since, until)
        VALUES (gen_random_uuid(), %(created_at)s, %(later)s)""",
    "parts": """
        CREATE TEMPORARY TABLE part AS
        SELECT id, kind, tick
          FROM (SELECT id, row_number() OVER (ORDER BY md5(id::text)) AS rank
                  FROM generate_series(1, %(environments)s) AS id) AS mixed
          JOIN (SELECT kind, tick, due, sum(due) OVER (ORDER BY tick) AS last
                  FROM unnest(%(kinds)s::text[], %(ticks)s::timestamptz[], %(dues)s::bigint[])
                       AS step (kind, tick, due)) AS step
            ON rank > last - due AND rank <= last""",
    "projects": """
        INSERT INTO monitors_project (id, name, slug, created_at)
        SELECT id, 'Project ' || id, 'project-' || id, %(created_at)s FROM generate_series(1, 20) AS id""",
    "names": """
        INSERT INTO monitors_environment (id, project_id, name) SELECT id, id, 'production' FROM monitors_project""",
    "snapshots": """
        INSERT INTO monitors_configsnapshot (id, sha256, config)
        SELECT number + 1, encode(sha256(number::text::bytea), 'hex'), to_jsonb(schedule) FROM schedule""",
    "monitors": """
        INSERT INTO monitors_monitor (id, project_id, slug, name, guid, status, schedule_type, crontab, interval,
               interval_unit, timezone, checkin_margin, max_runtime, failure_threshold, recovery_threshold, is_muted,
               is_upserting, owner, tags, config_id, created_at)
        SELECT id, 1 + id %% 20, 'job-' || id, 'Nightly job ' || id, gen_random_uuid(), 'active', schedule_type,
               crontab, interval, interval_unit, zone, 1, 30, 1, 1, FALSE, TRUE, '', '{}', number + 1, %(created_at)s
          FROM generate_series(1, %(environments)s) AS id
          JOIN schedule ON number = id %% (SELECT count(*) FROM schedule)""",
    "environments": """
        INSERT INTO monitors_monitorenvironment (id, monitor_id, environment_id, status, is_muted, shard, last_checkin,
               last_ok_at, pending_slot, next_checkin, next_checkin_latest, anchor_at, anchor_day,
               failure_streak, ok_streak, limit_minute, limit_count, created_at)
        SELECT id, id, project_id, 'ok', FALSE, id %% %(shards)s, heard_at, heard_at,
               slot, slot, slot + %(margin)s,
               CASE schedule_type WHEN 'interval' THEN slot - interval '1 hour' END,
               CASE schedule_type WHEN 'interval' THEN 5 END,
               0, 3, heard_at, 1, %(created_at)s
          FROM (SELECT monitor.*, %(heard_at)s - random() * interval '50 minutes' AS heard_at,
                       CASE part.kind WHEN 'missed' THEN part.tick - %(margin)s
                       ELSE %(later)s + id %% 240 * interval '1 minute' END AS slot
                  FROM monitors_monitor AS monitor LEFT JOIN part USING (id)) AS monitor""",
    "check-ins": """
        INSERT INTO checkins_checkin (guid, project_id, monitor_environment_id, shard, status, date_added,
               date_updated, expected_time, duration_ms, source, config_id)
        SELECT gen_random_uuid(), m.project_id, me.id, me.shard, 'ok', me.last_ok_at, me.last_ok_at,
               me.last_ok_at, 1500, 'sentry_envelope', m.config_id
          FROM monitors_monitorenvironment AS me JOIN monitors_monitor AS m ON m.id = me.monitor_id""",
    "runs": """
        INSERT INTO checkins_checkin (guid, project_id, monitor_environment_id, shard, status, date_added,
               date_updated, date_in_progress, expected_time, timeout_at, source, config_id)
        SELECT gen_random_uuid(), m.project_id, me.id, me.shard, 'in_progress', start, start, start, start,
               tick, 'sentry_envelope', m.config_id
          FROM (SELECT *, tick - interval '30 minutes' AS start FROM part WHERE kind = 'timeout') AS part
          JOIN monitors_monitorenvironment AS me USING (id) JOIN monitors_monitor AS m ON m.id = me.monitor_id""",
}

# Each has to count what was due at the tick, and those below what was due so far.
EXPECTED_ROWS = {
    "check-ins with the status of the tick": """
        SELECT count(*) FROM checkins_checkin AS c JOIN part ON part.id = c.monitor_environment_id
         WHERE c.status = %(kind)s AND c.failed_at = %(tick)s AND part.tick = %(tick)s AND part.kind = %(kind)s
           AND c.date_added = CASE c.status WHEN 'missed' THEN %(tick)s - %(margin)s
                              ELSE %(tick)s - interval '30 minutes' END""",
    "environments with such a check-in": """
        SELECT count(DISTINCT monitor_environment_id) FROM checkins_checkin WHERE failed_at = %(tick)s""",
    "environments in error that expect a later slot": """
        SELECT count(*) FROM monitors_monitorenvironment JOIN part USING (id)
         WHERE status = 'error' AND next_checkin_latest > %(tick)s AND failure_streak = 1 AND ok_streak = 0
           AND failure_streak_started_at = %(tick)s AND part.tick = %(tick)s""",
    "occurrences of that tick": """
        SELECT count(*) FROM incidents_occurrence WHERE (explanation->>'tick')::timestamptz = %(tick)s""",
    "in the ledger": """
        SELECT CASE %(kind)s WHEN 'missed' THEN missed_count ELSE timeout_count END FROM clocktasks_tick
         WHERE at = %(tick)s AND finished_at IS NOT NULL""",
}
EXPECTED_SO_FAR = {
    "check-ins of the clock": "SELECT count(*) FROM checkins_checkin WHERE failed_at IS NOT NULL",
    "environments in error": "SELECT count(*) FROM monitors_monitorenvironment WHERE status = 'error'",
    "open incidents": "SELECT count(*) FROM incidents_incident WHERE resolved_at IS NULL",
    "unresolved issues": "SELECT count(*) FROM incidents_issue WHERE status = 'unresolved' AND occurrence_count = 1",
    "occurrences": "SELECT count(*) FROM incidents_occurrence",
}
