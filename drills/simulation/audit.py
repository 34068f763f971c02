"""The rows after a simulation, and what about them is not as the account says."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from drills.oracle.place import Place
from drills.oracle.rules import MINUTE, Every, Rules
from drills.simulation.account import (
    Account,
    account_in_order_of_commits,
    account_in_order_of_time,
    passed_unannounced,
    stored,
)
from drills.simulation.rules import crontab
from drills.simulation.world import World

UNHEARD_MAX = timedelta(seconds=10)


@dataclass
class Rows:
    """What the tables hold in the end."""

    environments: dict[str, tuple[Any, ...]]
    checkins: dict[str, list[tuple[Any, ...]]]
    incidents: dict[str, list[tuple[Any, ...]]]
    clock: dict[str, Any]
    storm_keys: set[Any]
    """Of the messages that tell several incidents at once."""


ENVIRONMENTS_SQL = """
    SELECT m.slug || '/' || e.name, me.status, me.failure_streak, me.ok_streak, me.next_checkin_latest,
           (SELECT count(*) FROM incidents_issue i WHERE i.monitor_environment_id = me.id),
           (SELECT coalesce(sum(i.occurrence_count), 0) FROM incidents_issue i WHERE i.monitor_environment_id = me.id)
      FROM monitors_monitorenvironment me
      JOIN monitors_monitor m ON m.id = me.monitor_id JOIN monitors_environment e ON e.id = me.environment_id
     WHERE m.project_id = 1
"""
CHECKINS_SQL = """
    SELECT m.slug || '/' || e.name, c.status, c.guid, c.date_added, c.timeout_at, c.finished_status,
           s.config ->> 'crontab', (s.config ->> 'checkin_margin')::int, (s.config ->> 'max_runtime')::int,
           (s.config ->> 'failure_threshold')::int, (s.config ->> 'recovery_threshold')::int,
           c.limit_broken, c.expected_time
      FROM checkins_checkin c JOIN monitors_configsnapshot s ON s.id = c.config_id
      JOIN monitors_monitorenvironment me ON me.id = c.monitor_environment_id
      JOIN monitors_monitor m ON m.id = me.monitor_id JOIN monitors_environment e ON e.id = me.environment_id
     WHERE m.project_id = 1
     ORDER BY c.date_added, c.guid
"""
INCIDENTS_SQL = """
    SELECT m.slug || '/' || e.name, i.resolved_at IS NULL,
           i.occurrence_count,
           array(SELECT n.transition || CASE WHEN n.sent_at IS NULL THEN ' (not sent)' ELSE '' END
                   FROM incidents_notification n WHERE n.incident_id = i.id ORDER BY n.transition),
           array(SELECT m.idempotency_key FROM incidents_message m WHERE m.incident_id = i.id AND m.status = 'sent')
      FROM incidents_incident i JOIN monitors_monitorenvironment me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor m ON m.id = me.monitor_id JOIN monitors_environment e ON e.id = me.environment_id
     ORDER BY i.id
"""
CLOCK_SQL = """
    SELECT (SELECT min(at) FROM clocktasks_tick), (SELECT max(at) FROM clocktasks_tick),
           (SELECT count(*) FROM clocktasks_tick), (SELECT count(*) FROM clocktasks_tick WHERE finished_at IS NULL),
           (SELECT min(position) FROM clocktasks_shardclock), (SELECT max(position) FROM clocktasks_shardclock),
           (SELECT coalesce(sum(missed_count + timeout_count), 0) FROM clocktasks_tick),
           (SELECT count(*) FROM checkins_checkin WHERE status IN ('missed', 'timeout')),
           (SELECT array_agg(at) FROM clocktasks_tick WHERE NOT is_listened),
           (SELECT count(*) FROM checkins_processingerror
             WHERE kind NOT IN ('CHECKIN_FINISHED', 'MONITOR_DISABLED') AND project_id = 1),
           (SELECT count(*) FROM checkins_waitingcheckin WHERE project_id = 1)
"""


HOURS_SQL = """
    WITH counted AS (
         SELECT date_trunc('hour', c.date_added) AS hour, c.monitor_environment_id, c.status, c.limit_broken,
                CASE c.status WHEN 'ok' THEN c.duration_ms END AS duration_ms
           FROM checkins_checkin c WHERE c.status <> 'in_progress'),
    hours AS (
         SELECT hour, monitor_environment_id, count(*) FILTER (WHERE status = 'ok') AS ok,
                count(*) FILTER (WHERE status = 'error') AS error, count(*) FILTER (WHERE status = 'missed') AS missed,
                count(*) FILTER (WHERE status = 'timeout') AS timeout,
                count(*) FILTER (WHERE status = 'unknown') AS unknown, count(limit_broken) AS off_limits,
                count(duration_ms) AS durations, coalesce(sum(duration_ms), 0) AS duration_sum_ms,
                max(duration_ms) AS duration_max_ms
           FROM counted GROUP BY 1, 2)
    SELECT hour, hours::text, kept::text
      FROM hours FULL JOIN checkins_runhour AS kept USING (hour, monitor_environment_id)
     WHERE (hours.ok, hours.error, hours.missed, hours.timeout, hours.unknown, hours.off_limits, hours.durations,
            hours.duration_sum_ms, hours.duration_max_ms)
           IS DISTINCT FROM
           (kept.ok, kept.error, kept.missed, kept.timeout, kept.unknown, kept.off_limits, kept.durations,
            kept.duration_sum_ms, kept.duration_max_ms)
       AND NOT (hours IS NULL AND kept.ok + kept.error + kept.missed + kept.timeout + kept.unknown = 0)
"""


def audit_hours() -> list[str]:
    """Return sentences about hours of runs that are not what a count of the check-ins says."""
    with connection.cursor() as cursor:
        cursor.execute(HOURS_SQL)
        return [
            f"D44: the hour {hour:%H:%M} has {kept}, and its check-ins are {counted}"
            for hour, counted, kept in cursor.fetchall()
        ]


def read_rows() -> Rows:
    """Read everything once."""
    with connection.cursor() as cursor:
        cursor.execute(ENVIRONMENTS_SQL)
        environments = {row[0]: row[1:] for row in cursor.fetchall()}
        checkins = defaultdict(list)
        cursor.execute(CHECKINS_SQL)
        for row in cursor.fetchall():
            checkins[row[0]].append(row[1:])
        incidents = defaultdict(list)
        cursor.execute(INCIDENTS_SQL)
        for row in cursor.fetchall():
            incidents[row[0]].append(row[1:])
        cursor.execute(CLOCK_SQL)
        names = ("first", "last", "ticks", "open", "behind", "ahead", "counted", "marked", "deaf", "errors", "waiting")
        clock = dict(zip(names, cursor.fetchone(), strict=True))
        cursor.execute("SELECT idempotency_key FROM incidents_message WHERE incident_id IS NULL AND status = 'sent'")
        storm_keys = {key for (key,) in cursor.fetchall()}
    return Rows(environments, checkins, incidents, clock, storm_keys)


def audit(world: World) -> list[str]:
    """Return sentences about what is not as it must be."""
    rows = read_rows()
    clock = rows.clock
    findings = _audit_clock(clock)
    if clock["last"] is None:
        return findings
    until = clock["last"]
    deaf = frozenset(clock["deaf"] or ())
    findings += _audit_listening(world, deaf, clock)
    in_commits = account_in_order_of_commits(world, deaf)
    in_time = account_in_order_of_time(world, deaf, until, in_commits)
    findings += _audit_acknowledged(world, rows, in_commits)
    passed = passed_unannounced(world)
    for job in world.jobs:
        name = str(job)
        if not in_commits.places[job].is_heard and name not in rows.environments:
            continue
        if name not in rows.environments:
            findings.append(f"P1: {name} was heard of and has no row")
            continue
        if in_commits.is_comparable(job):
            in_time_place = None if job in passed else in_time.places[job]
            findings += _audit_place(name, in_time_place, in_commits.places[job], rows)
    findings += _audit_mails(world, rows)
    findings += audit_hours()
    return findings


def _audit_clock(clock: dict[str, Any]) -> list[str]:
    findings = []
    if clock["last"] is None:
        return ["P4: the ledger is empty"]
    if clock["ticks"] != (clock["last"] - clock["first"]) // MINUTE + 1:
        findings.append(f"P4: {clock['ticks']} ticks from {clock['first']:%H:%M} to {clock['last']:%H:%M}")
    if clock["open"]:
        findings.append(f"P3: {clock['open']} ticks are not finished")
    if not clock["behind"] == clock["ahead"] == clock["last"]:
        stand = f"{clock['behind']:%H:%M} to {clock['ahead']:%H:%M}"
        findings.append(f"P4: clocks stand at {stand}, and not at {clock['last']:%H:%M}")
    if clock["counted"] != clock["marked"]:
        findings.append(f"P4: the ledger counts {clock['counted']} misses and timeouts, stored are {clock['marked']}")
    if clock["errors"] or clock["waiting"]:
        findings.append(f"{clock['errors']} processing errors, {clock['waiting']} check-ins that wait")
    return findings


def _audit_listening(world: World, deaf: frozenset[datetime], clock: dict[str, Any]) -> list[str]:
    """No minute counts as listened to in which nobody was there for longer than a restart takes."""
    findings = []
    minute = clock["first"] - MINUTE
    while minute < clock["last"]:
        second = timedelta(seconds=1)
        unheard = sum(not world.was_up(minute + number * second) for number in range(60)) * second
        if unheard > UNHEARD_MAX and minute + MINUTE not in deaf:
            findings.append(f"D2: {minute:%H:%M} counts as listened to, and nobody was there for {unheard}")
        minute += MINUTE
    return findings


def _audit_acknowledged(world: World, rows: Rows, in_commits: Account) -> list[str]:
    found = {row[1].hex for place in rows.checkins.values() for row in place}
    taken = [copy for copy in world.acknowledged if in_commits.fates.get(id(copy)) != "refused"]
    lost = {copy.word.run.hex for copy in taken} - found
    findings = [f"P1: run {run[:4]} was acknowledged and is not stored" for run in sorted(lost)]
    kept = Counter(id(copy) for copy in stored(world))
    findings += [f"P1: {copy.word.status} of {copy.word.run.hex[:4]} at {copy.at:%H:%M:%S} was acknowledged, and "
                 f"committed {kept[id(copy)]} times" for copy in world.acknowledged if kept[id(copy)] != 1]  # fmt: skip
    return findings


def _audit_place(name: str, in_time: Place | None, in_commits: Place, rows: Rows) -> list[str]:
    """Compare an environment's rows with both accounts, or with that of the commits if the other one is not known."""
    # What a word does to a run whose deadline passed unheard depends on which the clock or the word was faster.
    if in_time is not None and in_time.given_up_unheard | in_commits.given_up_unheard:
        in_time = None
    findings = []
    checkins = rows.checkins.get(name, [])
    judged = sorted((row[-1], row[0], *row[5:-2]) for row in checkins if row[1].hex not in in_commits.runs)
    findings += _compare(f"P4: slots of {name} in the order of commits", _slots(in_commits), judged)
    told = [(row[0], row[1].hex, *row[2:-2]) for row in checkins if row[1].hex in in_commits.runs]
    limits = sorted((row[1].hex, row[-2]) for row in checkins if row[-2] is not None)
    findings += _compare(f"D44: limits that runs of {name} broke", _limits(in_commits), limits)
    if in_time is not None:
        findings += _compare(f"P2, P3: slots of {name}", _slots(in_time), judged)
        if not in_commits.is_edited_late:  # What was stored before keeps the rules that it was stored by.
            findings += _compare(f"P2, P3: runs of {name}", _runs(in_time), told)
    findings += _compare(f"P4: runs of {name}", _runs(in_commits), told)
    status, failures, oks, latest, issues, issue_occurrences = rows.environments[name]
    findings += _compare(
        f"P5: status and streaks of {name}",
        _status(in_commits),
        (status, failures, oks),
    )
    if in_time is not None and in_commits.is_in_order:
        findings += _compare(
            f"P9: status, streaks, incidents and occurrences of {name}",
            (*_status(in_time), len(in_time.verdicts.stories), in_time.verdicts.occurrences, _limits(in_time)),
            (status, failures, oks, len(rows.incidents.get(name, [])), int(issue_occurrences), limits),
        )
    incidents = rows.incidents.get(name, [])
    stories, shown = len(in_commits.verdicts.stories), in_commits.verdicts.occurrences
    occurrences = sum(row[1] for row in incidents)
    findings += _compare(
        f"P5: incidents, open ones, occurrences, issues of {name}",
        (stories, int(in_commits.verdicts.is_failing), shown, min(stories, 1)),
        (len(incidents), sum(row[0] for row in incidents), occurrences, issues),
    )
    findings += _compare(f"P5: occurrences of the issue of {name}", shown, int(issue_occurrences))
    for is_open, _, notifications, _ in incidents:
        findings += _compare(
            f"P5: notifications of {name}", ["opened"] if is_open else ["opened", "resolved"], notifications
        )
    if latest is not None and latest <= rows.clock["last"]:
        findings.append(f"P3: {name} waits for {latest:%H:%M}, which is over")
    return findings


def _runs(place: Place) -> list[tuple[object, ...]]:
    runs = sorted(place.runs.values(), key=lambda run: (run.start, str(run.id)))
    return [(run.status, run.id, run.start, run.deadline, run.finished, *_columns(run.rules)) for run in runs]


def _limits(place: Place) -> list[tuple[object, ...]]:
    return sorted((str(run.id), run.limit) for run in place.runs.values() if run.limit is not None)


def _slots(place: Place) -> list[tuple[object, ...]]:
    return [(slot, status, *_columns(rules)) for slot, (status, rules) in sorted(place.judged.items())]


def _columns(rules: Rules) -> tuple[object, ...]:
    assert isinstance(rules.slots, Every), "all schedules are of this kind"
    return (crontab(rules.slots.minutes), *rules[1:])


def _status(place: Place) -> tuple[str, int, int]:
    verdicts = place.verdicts
    return verdicts.status, len(verdicts.failures), verdicts.oks


def _audit_mails(world: World, rows: Rows) -> list[str]:
    keys = {key for incidents in rows.incidents.values() for row in incidents for key in row[3]} | rows.storm_keys
    return [f"P5: mail {key} is about nothing" for key in set(world.mails) - keys] + [
        f"P5: notification {key} was never sent" for key in keys - set(world.mails)
    ]


def _compare(what: str, expected: object, actual: object) -> list[str]:
    return [] if expected == actual else [f"{what}: expected {_plain(expected)}, found {_plain(actual)}"]


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_plain(part) for part in value)}]"
    return str(value)[:12]
