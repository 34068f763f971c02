"""The last runs of environments, as check-ins are stored (statements only).

This is a floor below the check-ins. Whether a job flaps, or has been failing for weeks, is asked about many
environments at once, beside rows of incidents, so these statements read the table.
"""

_IS_FAILED = r"(c.status IN ('error', 'missed', 'timeout') OR coalesce(c.limit_broken LIKE '%%\_counted', false))"
"""A run that ended ok is a failure if it broke a limit which counts (D44)."""
HISTORIES_SQL = f"""
    SELECT wanted.id, runs.failed, runs.began,
           (SELECT count(*) FROM incidents_incident AS i
             WHERE i.monitor_environment_id = wanted.id AND i.opened_at > %(yesterday)s)
      FROM unnest(%(ids)s::bigint[]) AS wanted (id)
     CROSS JOIN LATERAL (
           SELECT array_agg(is_failed ORDER BY date_added, id) AS failed,
                  array_agg(date_added ORDER BY date_added, id) AS began
             FROM (SELECT c.id, {_IS_FAILED} AS is_failed, c.date_added FROM checkins_checkin AS c
                    WHERE c.monitor_environment_id = wanted.id AND c.date_added > %(since)s
                      AND c.status IN ('ok', 'error', 'missed', 'timeout')
                    ORDER BY c.date_added DESC, c.id DESC
                    LIMIT %(runs)s) AS newest) AS runs
"""  # noqa: S608 - a constant
"""The newest finished runs of environments, oldest first, and how many incidents each had lately.

Indexes: checkin_history, and that of the incidents of an environment.
"""
ALL_FAILED_SQL = f"""
    (SELECT count(*) FILTER (WHERE newest.is_failed)
       FROM (SELECT {_IS_FAILED} AS is_failed FROM checkins_checkin AS c WHERE c.monitor_environment_id = me.id
              ORDER BY c.date_added DESC, c.id DESC LIMIT %(checkins)s) AS newest) = %(checkins)s
"""  # noqa: S608 - a constant
"""Whether so many of the newest check-ins of the environment `me` all failed. Index: checkin_history."""
