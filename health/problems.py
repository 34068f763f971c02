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
from lib.texts import Text
from monitors.housetime import BELIEVED_AFTER

OUTBOX_WAIT_MAX = timedelta(minutes=5)
"""The outbox is polled every twenty seconds; a mail server that is restarted is back by then."""
SPOOL_FREE_BYTES_MIN = 256 << 20
"""Room on the disk of the spool: PostgreSQL's absence of an hour on a busy installation."""
PROCESSES = {
    "beat": (Part.BEAT, Text("No beat runs: nothing starts the next minute."), Text("Start beat.")),
    "worker": (Part.WORKER, Text("No worker runs: nothing is judged."), Text("Start worker.")),
    "delivery": (
        Part.DELIVERY,
        Text("No worker reads the queue delivery: no mail is sent."),
        Text("Start a worker with --queues delivery. What waits is sent then."),
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
        besides += _find_unreported_failures(rows)
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
            Text(
                "PostgreSQL cannot be used (%(error)s). Check-ins are stored in the spool; nothing is judged and "
                "nobody is notified until it is back.",
                error=facts.postgres.error,
            ),
            Text("Bring PostgreSQL back; the spool is emptied into it without your help."),
            since=facts.postgres.since,
        )
    if facts.missing_migrations:
        yield Finding(
            Part.MIGRATIONS,
            Severity.BAD,
            Text(
                "The database lacks %(count)s migrations of this version, first %(first)s.",
                count=len(facts.missing_migrations),
                first=str(facts.missing_migrations[0]),
            ),
            Text("Run manage.py bootstrap."),
        )
    if facts.valkey is not None:
        yield Finding(
            Part.VALKEY,
            Severity.BAD,
            Text(
                "Valkey cannot be used (%(error)s): through it beat wakes the workers, and without them nothing is "
                "judged.",
                error=facts.valkey.error,
            ),
            Text("Bring it back, or give it memory (maxmemory). It may be empty: nothing in it has to be preserved."),
            since=facts.valkey.since,
        )
    if facts.broker is not None:
        yield Finding(
            Part.BROKER,
            Severity.BAD,
            Text("The broker does not answer (%(error)s): beat cannot wake the workers.", error=facts.broker.error),
            Text("Bring it back, empty if need be: the clock makes up for every minute."),
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
            if waiting:
                what = Text("%(what)s %(count)s messages wait.", what=what, count=waiting)
            if kind != "delivery":
                todo = Text("%(todo)s Every minute is made up for, in order.", todo=todo)
            yield Finding(part, Severity.BAD, what, todo, since=facts.last_seen.get(kind))


def _find_intake_problems(intake: Intake | None) -> Iterator[Finding]:
    if intake is None:
        return
    if intake.is_silent:
        yield Finding(
            Part.INGEST,
            Severity.BAD,
            Text("The process that stores the check-ins of this web process does not answer."),
            Text("Restart this web process, and save its log."),
        )
    if intake.is_refusing:
        yield Finding(
            Part.SPOOL,
            Severity.BAD,
            Text(
                "Check-ins are refused: PostgreSQL does not store them, and the spool (%(bytes)s of %(most)s bytes) "
                "cannot either.",
                bytes=intake.spool_bytes,
                most=intake.spool_bytes_max,
            ),
            Text("Bring PostgreSQL back, or give the spool room: SPOOL_BYTES_MAX, and the disk of SPOOL_DIRECTORY."),
        )
    elif not intake.is_direct:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            Text(
                "Check-ins go to the spool of this web process, where %(count)s wait.", count=intake.spooled_count or 0
            ),
            Text("They are stored without your help as soon as PostgreSQL accepts them."),
        )
    if intake.free_bytes is None:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            Text("The directory of the spool cannot be written to: check-ins will be refused when PostgreSQL is away."),
            Text("Check SPOOL_DIRECTORY."),
        )
    elif intake.free_bytes < SPOOL_FREE_BYTES_MIN:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            Text("The disk of the spool has only %(size)s MiB left.", size=intake.free_bytes >> 20),
            Text("Make room on the disk of SPOOL_DIRECTORY."),
        )
    files, lost = intake.damage
    if files:
        yield Finding(
            Part.SPOOL,
            Severity.NOTE,
            Text.plural(
                "A spool was damaged, %(count)s time: %(lost)s acknowledged requests could not be read and are not "
                "stored. All others are.",
                "A spool was damaged, %(count)s times: %(lost)s acknowledged requests could not be read and are not "
                "stored. All others are.",
                files,
                lost=lost,
            ),
            Text(
                "Check the disk of SPOOL_DIRECTORY, and the runs around that time: what looks missed may have been "
                "lost. Then delete or move away *.spool-damaged*."
            ),
        )


def _find_clock_incident(rows: Rows) -> Iterator[Finding]:
    if rows.clock_incident is None:
        return
    cause, started_at = rows.clock_incident
    yield Finding(
        Part.CLOCK,
        Severity.BAD,
        Text(
            "Watchclock may be deaf (%(cause)s): what falls due becomes unknown, and nobody is notified of misses.",
            cause=cause,
        ),
        Text("See that check-ins reach Watchclock. If they do, that many jobs have really stopped: check them."),
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
            Text.plural(
                "%(count)s notification not sent yet%(reason)s.",
                "%(count)s notifications not sent yet%(reason)s.",
                rows.unsent_count,
                reason=reason,
            ),
            Text(
                "Check EMAIL_URL and the mail server, and see that workers read the queues delivery and housekeeping."
            ),
            since=rows.oldest_unsent_at,
        )
    if rows.given_up_count:
        yield Finding(
            Part.OUTBOX,
            Severity.NOTE,
            Text.plural(
                "%(count)s mail given up in the last 24 hours.",
                "%(count)s mails given up in the last 24 hours.",
                rows.given_up_count,
            ),
            Text("Admin, Messages: read what the mail server answered to each."),
        )
    failed = rows.waiting.get("failed", 0)
    if failed:
        yield Finding(
            Part.INGEST,
            Severity.NOTE,
            Text("%(count)s check-ins met an unexpected error and wait for a person.", count=failed),
            Text("Admin, Waiting check-ins: read the error, then choose Process again."),
        )


def _find_unjudged(rows: Rows) -> Iterator[Finding]:
    """Return which monitors cannot be judged: each stands alone, and the clock goes on without it (D37)."""
    if not rows.unjudged:
        return
    name, reason = rows.unjudged[0]
    left = len(rows.unjudged) - 1
    others = Text(" So are %(count)s more.", count=left) if left else ""
    yield Finding(
        Part.CLOCK,
        Severity.NOTE,
        Text("Monitor %(name)s is not judged: %(reason)s%(others)s", name=name, reason=reason, others=others),
        Text("Admin, Monitors: open the one in red and choose a schedule and time zone that can be read."),
        of_project=True,
    )


def _find_wrong_clock(facts: Facts, rows: Rows) -> Iterator[Finding]:
    """Return that housekeeping does not believe the clock, which has jumped."""
    apart = timedelta() if rows.house is None else rows.house.apart(facts.now)
    if rows.house is None or not apart:
        return
    left = max(BELIEVED_AFTER - rows.house.apart_for, timedelta())
    known: dict[str, object] = {"now": f"{facts.now:%Y-%m-%d %H:%M}", "days": abs(apart).days}
    known["left"] = round(left.total_seconds() / 3600)
    yield Finding(
        Part.CLOCK,
        Severity.NOTE,
        Text(
            "The clock of this machine is at %(now)s UTC, %(days)s days after the time that housekeeping had come to. "
            "It removes nothing by this clock until that has gone on for %(left)s hours more without a jump.",
            **known,
        )
        if apart > timedelta()
        else Text(
            "The clock of this machine is at %(now)s UTC, %(days)s days before the time that housekeeping had come to. "
            "It removes nothing by this clock until that has gone on for %(left)s hours more without a jump.",
            **known,
        ),
        Text("If the clock is wrong, set it right: nothing is lost. If Watchclock was off for so long, all is well."),
    )


def _find_failing_channels(rows: Rows) -> Iterator[Finding]:
    """Return which channels are left alone since they fail. The others get their messages."""
    if not rows.failing_channels:
        return
    name, error = rows.failing_channels[0]
    left = len(rows.failing_channels) - 1
    others = Text(" So do %(count)s more.", count=left) if left else ""
    yield Finding(
        Part.OUTBOX,
        Severity.NOTE,
        Text("Channel %(name)s fails: %(error)s%(others)s", name=name, error=error, others=others),
        Text(
            "Channels and routes of its project, or Channels in the admin: correct its settings, which also tries it "
            "again at once, and send a test."
        ),
        of_project=True,
    )


def _find_unreported_failures(rows: Rows) -> Iterator[Finding]:
    """Return that channels fail, and nobody could be notified of it over another one."""
    if not rows.unreported_failures:
        return
    left = len(rows.unreported_failures) - 1
    others = Text(" And %(count)s more.", count=left) if left else ""
    yield Finding(
        Part.OUTBOX,
        Severity.BAD,
        Text(
            "Nobody could be notified that alerts do not get through: %(first)s.%(others)s",
            first=rows.unreported_failures[0],
            others=others,
        ),
        Text(
            "Channels and routes of the project: add a fallback route with a channel that works, or give its owners "
            "e-mail addresses. Or set ALERT_EMAIL_TO and EMAIL_URL."
        ),
        of_project=True,
    )


def _find_no_recipient(facts: Facts) -> Iterator[Finding]:
    """Return that nobody is notified of incidents, or of those of some monitors. That may be a choice: no outage."""
    missed = 0 if facts.rows is None else facts.rows.unnotified_count
    has_routes = facts.rows is not None and facts.rows.has_routes
    sentences: list[str] = []
    if not has_routes:
        sentences.append(facts.why_nobody)
    elif facts.uncaught.count:
        sentences.append(facts.uncaught.sentence())
    if missed and (has_routes or facts.why_nobody):
        sentences.append(
            Text.plural(
                "%(count)s notification reached nobody: no route with a channel that works caught them.",
                "%(count)s notifications reached nobody: no route with a channel that works caught them.",
                missed,
            )
            if has_routes
            else Text.plural(
                "%(count)s notification reached nobody.", "%(count)s notifications reached nobody.", missed
            )
        )
    if not any(sentences):
        return
    yield Finding(
        Part.OUTBOX,
        Severity.NOTE,
        sentences[0] if len(sentences) == 1 else Text("%(one)s %(two)s", one=sentences[0], two=sentences[1]),
        Text(
            "Channels and routes of a project: add a route that catches everything. Or set ALERT_EMAIL_TO and "
            "EMAIL_URL, restart, and try them with manage.py send_test_alert. "
            "Incidents that are open then are notified."
        ),
    )
