"""The last runs of environments, as check-ins are stored (statements only).

This is a floor below the check-ins. Whether a job flaps, or has been failing for weeks, is asked about many
environments at once, beside rows of incidents, so these statements read the table.
"""

HISTORIES_SQL = """
    SELECT wanted.id, runs.failed, runs.began,
           (SELECT count(*) FROM incidents_incident AS i
             WHERE i.monitor_environment_id = wanted.id AND i.opened_at > %(yesterday)s)
      FROM unnest(%(ids)s::bigint[]) AS wanted (id)
     CROSS JOIN LATERAL (
           SELECT array_agg(status <> 'ok' ORDER BY date_added, id) AS failed,
                  array_agg(date_added ORDER BY date_added, id) AS began
             FROM (SELECT c.id, c.status, c.date_added FROM checkins_checkin AS c
                    WHERE c.monitor_environment_id = wanted.id AND c.date_added > %(since)s
                      AND c.status IN ('ok', 'error', 'missed', 'timeout')
                    ORDER BY c.date_added DESC, c.id DESC
                    LIMIT %(runs)s) AS newest) AS runs
"""
"""The newest settled runs of environments, oldest first, and how many incidents each had lately.

Indexes: checkin_history, and that of the incidents of an environment.
"""
ALL_FAILED_SQL = """
    (SELECT count(*) FILTER (WHERE newest.status IN ('error', 'missed', 'timeout'))
       FROM (SELECT c.status FROM checkins_checkin AS c WHERE c.monitor_environment_id = me.id
              ORDER BY c.date_added DESC, c.id DESC LIMIT %(checkins)s) AS newest) = %(checkins)s
"""
"""Whether so many of the newest check-ins of the environment `me` all failed. Index: checkin_history."""
