"""Whether Watchclock can do its job: from facts to findings that a person can act on (pure).

    rows, Valkey, broker, this process's spool -> Facts -> find_all -> find_problems -> /readyz, metrics, the banner
                                                                    -> clock.lag     -> the clock's page and command

All of them show the same findings. What is missing from the facts, since the engine that holds it is away, is a finding
too.
"""

from collections.abc import Iterator
from datetime import timedelta

from health.clock.reasons import LATE_MAX, blocking_nodes, find_node, find_reasons, is_ledger_late, runs
from health.facts import Facts, Finding, Intake, Part, Rows, Severity
from monitors.housetime import BELIEVED_AFTER

OUTBOX_WAIT_MAX = timedelta(minutes=5)
"""The outbox is polled every twenty seconds; a mail server that is restarted is back by then."""
SPOOL_FREE_BYTES_MIN = 256 << 20
"""Room on the disk of the spool: PostgreSQL's absence of an hour on a busy installation."""
PROCESSES = {
    "beat": (Part.BEAT, "No beat runs: nothing starts the next minute.", "Start beat."),
    "worker": (Part.WORKER, "No worker runs: nothing is judged.", "Start worker."),
    "delivery": (
        Part.DELIVERY,
        "No worker reads the queue delivery: no mail is sent.",
        "Start a worker with --queues delivery. What waits is sent then.",
    ),
}


def find_problems(facts: Facts) -> list[Finding]:
    """Return what is wrong, the bad things first."""
    reasons, besides = find_all(facts)
    found = [finding for finding in (*reasons, *besides) if finding.severity is not Severity.NORMAL]
    return sorted(found, key=lambda finding: not finding.is_bad)


def find_all(facts: Facts) -> tuple[list[Finding], list[Finding]]:
    """Return what holds the clock up, what blocks first first, and what else is wrong."""
    reasons, besides = [*_find_outages(facts)], [*_find_intake_problems(facts.intake)]
    rows = facts.rows
    if rows is not None and not facts.missing_migrations:
        reasons += [*_find_silence(facts, rows, "beat", "worker"), *find_reasons(facts, rows)]
        besides += _find_clock_incident(rows)
        besides += _find_silence(facts, rows, "delivery")
        besides += _find_other_nodes(facts, rows)
        besides += _find_outbox_problems(facts, rows)
        besides += _find_unjudged(rows)
        besides += _find_failing_channels(rows)
        besides += _find_untold_failures(rows)
        besides += _find_wrong_clock(facts, rows)
    return reasons, [*besides, *_find_no_recipient(facts)]


def is_on_time(facts: Facts) -> bool:
    """Return whether a heartbeat may be sent: a minute was finished a moment ago, and nothing bad is found."""
    rows = facts.rows
    if rows is None or rows.newest_finished_at is None or facts.now - rows.newest_finished_at > LATE_MAX:
        return False
    return not any(finding.is_bad for finding in find_problems(facts))


def _find_outages(facts: Facts) -> Iterator[Finding]:
    if facts.postgres is not None:
        yield Finding(
            Part.POSTGRES,
            Severity.BAD,
            f"PostgreSQL cannot be used ({facts.postgres.error}). Check-ins are stored in the spool; nothing is "
            "judged and nobody is notified until it is back.",
            "Bring PostgreSQL back; the spool is emptied into it without your help.",
            since=facts.postgres.since,
        )
    if facts.missing_migrations:
        yield Finding(
            Part.MIGRATIONS,
            Severity.BAD,
            f"The database lacks {len(facts.missing_migrations)} migrations of this version, first "
            f"{facts.missing_migrations[0]}.",
            "Run manage.py bootstrap.",
        )
    if facts.valkey is not None:
        yield Finding(
            Part.VALKEY,
            Severity.BAD,
            f"Valkey cannot be used ({facts.valkey.error}): through it beat wakes the workers, and without them "
            "nothing is judged.",
            "Bring it back, or give it memory (maxmemory). It may be empty: nothing in it has to be preserved.",
            since=facts.valkey.since,
        )
    if facts.broker is not None:
        yield Finding(
            Part.BROKER,
            Severity.BAD,
            f"The broker does not answer ({facts.broker.error}): beat cannot wake the workers.",
            "Bring it back, empty if need be: the clock makes up for every minute.",
            since=facts.broker.since,
        )


def _find_silence(facts: Facts, rows: Rows, *kinds: str) -> Iterator[Finding]:
    """Return which of these kinds of process do not run. Without Valkey nobody knows.

    A process that was never seen counts as missing only if the clock has stopped too: Valkey may be empty, or
    everything may just have started. The clock does not show whether delivery runs, but workers that are seen do.
    """
    if facts.valkey is not None:
        return
    waiting = sum(facts.queues.values())
    for kind in kinds:
        part, what, todo = PROCESSES[kind]
        if kind in facts.last_seen:
            is_missing = not runs(facts, kind)
        elif kind == "delivery":
            is_missing = runs(facts, "worker") and facts.now - facts.watched_since > LATE_MAX
        else:
            is_missing = is_ledger_late(facts, rows)
        if is_missing:
            what += f" {waiting} messages wait." if waiting else ""
            todo += "" if kind == "delivery" else " Every minute is made up for, in order."
            yield Finding(part, Severity.BAD, what, todo, since=facts.last_seen.get(kind))


def _find_intake_problems(intake: Intake | None) -> Iterator[Finding]:
    if intake is None:
        return
    if intake.is_silent:
        yield Finding(
            Part.INGEST,
            Severity.BAD,
            "The process that stores the check-ins of this web process does not answer.",
            "Restart this web process, and save its log.",
        )
    if intake.is_refusing:
        yield Finding(
            Part.SPOOL,
            Severity.BAD,
            f"Check-ins are refused: PostgreSQL does not store them, and the spool ({intake.spool_bytes:,} of "
            f"{intake.spool_bytes_max:,} bytes) cannot either.",
            "Bring PostgreSQL back, or give the spool room: SPOOL_BYTES_MAX, and the disk of SPOOL_DIRECTORY.",
        )
    elif not intake.is_direct:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            f"Check-ins go to the spool of this web process, where {intake.spooled_count:,} wait.",
            "They are stored without your help as soon as PostgreSQL accepts them.",
        )
    if intake.free_bytes is None:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            "The directory of the spool cannot be written to: check-ins will be refused when PostgreSQL is away.",
            "Check SPOOL_DIRECTORY.",
        )
    elif intake.free_bytes < SPOOL_FREE_BYTES_MIN:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            f"The disk of the spool has only {intake.free_bytes >> 20} MiB left.",
            "Make room on the disk of SPOOL_DIRECTORY.",
        )
    files, lost = intake.damage
    if files:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            f"A spool was damaged, {files:,} time{'' if files == 1 else 's'}: {lost:,} acknowledged requests could "
            "not be read and are not stored. All others are.",
            "Check the disk of SPOOL_DIRECTORY, and the runs around that time: what looks missed may have been "
            "lost. Then delete or move away *.spool-damaged*.",
        )


def _find_clock_incident(rows: Rows) -> Iterator[Finding]:
    if rows.clock_incident is None:
        return
    cause, started_at = rows.clock_incident
    yield Finding(
        Part.CLOCK,
        Severity.BAD,
        f"Watchclock may be deaf ({cause}): what falls due becomes unknown, and nobody is notified of misses.",
        "See that check-ins reach Watchclock. If they do, that many jobs have really stopped: check them.",
        since=started_at,
    )


def _find_other_nodes(facts: Facts, rows: Rows) -> Iterator[Finding]:
    """Return what is wrong with the nodes that the clock does not wait for, or not yet."""
    blocking = blocking_nodes(facts, rows)
    for node in rows.nodes:
        if node not in blocking:
            yield from find_node(node, facts, rows)


def _find_outbox_problems(facts: Facts, rows: Rows) -> Iterator[Finding]:
    if rows.oldest_unsent_at is not None and facts.now - rows.oldest_unsent_at > OUTBOX_WAIT_MAX:
        reason = f": {rows.unsent_error}" if rows.unsent_error else ""
        yield Finding(
            Part.OUTBOX,
            Severity.BAD,
            f"{rows.unsent_count:,} notification{'' if rows.unsent_count == 1 else 's'} not sent yet{reason}.",
            "Check EMAIL_URL and the mail server, and see that workers read the queues delivery and housekeeping.",
            since=rows.oldest_unsent_at,
        )
    if rows.given_up_count:
        yield Finding(
            Part.OUTBOX,
            Severity.NOTE,
            f"{rows.given_up_count:,} mail{'' if rows.given_up_count == 1 else 's'} given up in the last 24 hours.",
            "Admin, Messages: read what the mail server answered to each.",
        )
    failed = rows.waiting.get("failed", 0)
    if failed:
        yield Finding(
            Part.INGEST,
            Severity.NOTE,
            f"{failed:,} check-ins met an unexpected error and wait for a person.",
            "Admin, Waiting check-ins: read the error, then choose Process again.",
        )


def _find_unjudged(rows: Rows) -> Iterator[Finding]:
    """Return which monitors cannot be judged: each stands alone, and the clock goes on without it (D37)."""
    if not rows.unjudged:
        return
    name, reason = rows.unjudged[0]
    others = f" So are {len(rows.unjudged) - 1} more." if len(rows.unjudged) > 1 else ""
    yield Finding(
        Part.CLOCK,
        Severity.NOTE,
        f"Monitor {name} is not judged: {reason}{others}",
        "Admin, Monitors: open the one in red and choose a schedule and time zone that can be read.",
        of_project=True,
    )


def _find_wrong_clock(facts: Facts, rows: Rows) -> Iterator[Finding]:
    """Return that housekeeping does not believe the clock, which has jumped."""
    apart = timedelta() if rows.house is None else rows.house.apart(facts.now)
    if rows.house is None or not apart:
        return
    left = max(BELIEVED_AFTER - rows.house.apart_for, timedelta())
    yield Finding(
        Part.CLOCK,
        Severity.NOTE,
        f"The clock of this machine is at {facts.now:%Y-%m-%d %H:%M} UTC, {abs(apart).days:,} days "
        f"{'after' if apart > timedelta() else 'before'} the time that housekeeping had come to. It removes "
        f"nothing by this clock until that has gone on for {left.total_seconds() / 3600:,.0f} hours more without "
        "a jump.",
        "If the clock is wrong, set it right: nothing is lost. If Watchclock was off for so long, all is well.",
    )


def _find_failing_channels(rows: Rows) -> Iterator[Finding]:
    """Return which channels are left alone since they fail. The others get their messages."""
    if not rows.failing_channels:
        return
    name, error = rows.failing_channels[0]
    others = f" So do {len(rows.failing_channels) - 1} more." if len(rows.failing_channels) > 1 else ""
    yield Finding(
        Part.OUTBOX,
        Severity.NOTE,
        f"Channel {name} fails: {error}{others}",
        "Admin, Channels: correct its settings, which also tries it again at once, and send a test.",
        of_project=True,
    )


def _find_untold_failures(rows: Rows) -> Iterator[Finding]:
    """Return that channels fail, and nobody could be told of it over another one."""
    if not rows.untold_failures:
        return
    others = f" And {len(rows.untold_failures) - 1} more." if len(rows.untold_failures) > 1 else ""
    yield Finding(
        Part.OUTBOX,
        Severity.BAD,
        f"Nobody could be notified that alerts do not get through: {rows.untold_failures[0]}.{others}",
        "Admin, Routes: give the project a fallback route with a channel that works, or its owners e-mail addresses. "
        "Or set ALERT_EMAIL_TO and EMAIL_URL.",
        of_project=True,
    )


def _find_no_recipient(facts: Facts) -> Iterator[Finding]:
    """Return that nobody is notified of incidents, or of those of some monitors. That may be a choice: no outage."""
    missed = 0 if facts.rows is None else facts.rows.unnotified_count
    has_routes = facts.rows is not None and facts.rows.has_routes
    sentences = []
    if not has_routes:
        sentences.append(facts.why_nobody)
    elif facts.uncaught.count:
        sentences.append(facts.uncaught.sentence())
    if missed and (has_routes or facts.why_nobody):
        reached = f"{missed:,} notification{'' if missed == 1 else 's'} reached nobody"
        sentences.append(f"{reached}: no route with a channel that works caught them." if has_routes else f"{reached}.")
    if not any(sentences):
        return
    yield Finding(
        Part.OUTBOX,
        Severity.NOTE,
        " ".join(sentences),
        "Admin, Routes: add a route that catches everything. Or set ALERT_EMAIL_TO and EMAIL_URL, restart, and try "
        "them with manage.py send_test_alert. Incidents that are open then are notified.",
    )
