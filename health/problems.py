"""Whether Watchclock can do its job: from facts to findings that a person can act on (pure).

    rows, Valkey, broker, this process's spool -> Facts -> find_problems -> Findings -> /readyz, the banner of the admin

A finding is *bad* if people may be told too late, falsely or not at all, or if check-ins are refused. Otherwise it is
something that somebody should look at. Which facts are missing, since what would tell them is away, is a finding too.
"""

from datetime import timedelta

from health.facts import Facts, Finding, Intake, Part, Rows
from monitors.housetime import BELIEVED_AFTER

LEDGER_SILENT_MAX = timedelta(seconds=150)
"""A tick is written about a second after its minute. Two that do not come are no hiccup."""
LAG_MAX = timedelta(seconds=150)
"""How old the newest finished tick may be: up to a minute and a second at rest, and a minute more for a large one."""
FINISH_MAX = timedelta(seconds=120)
"""How long the shards may take for a tick before somebody should know: a million misses take less."""
NODE_SILENT_MAX = timedelta(seconds=30)
"""An ingest node says every second that it is there."""
HEARD_MAX = timedelta(seconds=60)
"""Beat and workers say every ten or twenty seconds that they are there."""
OUTBOX_WAIT_MAX = timedelta(minutes=5)
"""The outbox is looked at every twenty seconds; a mail server that is restarted is back by then."""
SPOOL_FREE_BYTES_MIN = 256 << 20
"""Room on the disk of the spool: PostgreSQL's absence of an hour on a busy installation."""


def find_problems(facts: Facts) -> list[Finding]:
    """Return what is wrong, the bad things first."""
    findings = [*_find_outages(facts), *_find_intake_problems(facts.intake)]
    if facts.rows is not None and not facts.missing_migrations:
        findings += _find_clock_problems(facts, facts.rows)
        findings += _find_silence(facts, facts.rows)
        findings += _find_node_problems(facts, facts.rows)
        findings += _find_outbox_problems(facts, facts.rows)
        findings += _find_unjudged(facts.rows)
        findings += _find_wrong_clock(facts, facts.rows)
    if facts.why_nobody:
        findings.append(_nobody_is_told(facts))
    return sorted(findings, key=lambda finding: not finding.is_bad)


def is_on_time(facts: Facts) -> bool:
    """Tell whether the whole may be called healthy to the outside: the clock is at now, and nothing bad is found."""
    rows = facts.rows
    if rows is None or rows.newest_finished_at is None or facts.now - rows.newest_finished_at > LAG_MAX:
        return False
    return not any(finding.is_bad for finding in find_problems(facts))


def _find_outages(facts: Facts) -> list[Finding]:
    findings = []
    if facts.postgres is not None:
        findings.append(
            Finding(
                Part.POSTGRES,
                True,
                f"PostgreSQL cannot be used ({facts.postgres.error}). Check-ins are kept in the spool; nothing is "
                "judged and nobody is told until it is back.",
                facts.postgres.since,
                "Bring PostgreSQL back; what was kept is stored by itself.",
            )
        )
    if facts.missing_migrations:
        findings.append(
            Finding(
                Part.MIGRATIONS,
                True,
                f"The database lacks {len(facts.missing_migrations)} migrations of this version, first "
                f"{facts.missing_migrations[0]}.",
                None,
                "Run manage.py bootstrap.",
            )
        )
    if facts.valkey is not None:
        findings.append(
            Finding(
                Part.VALKEY,
                True,
                f"Valkey cannot be used ({facts.valkey.error}): through it beat wakes the workers, and without them "
                "nothing is judged.",
                facts.valkey.since,
                "Bring it back, or give it memory (maxmemory); empty if need be, since nothing that must be kept is in "
                "it.",
            )
        )
    if facts.broker is not None:
        findings.append(
            Finding(
                Part.BROKER,
                True,
                f"The broker does not answer ({facts.broker.error}): beat cannot wake the workers.",
                facts.broker.since,
                "Bring it back, empty if need be: the clock makes up for every minute.",
            )
        )
    return findings


def _find_intake_problems(intake: Intake | None) -> list[Finding]:
    if intake is None:
        return []
    findings = []
    if intake.is_silent:
        findings.append(
            Finding(
                Part.INGEST,
                True,
                "The process that stores the check-ins of this web process does not answer.",
                None,
                "Restart this web process, and keep its log.",
            )
        )
    if intake.is_refusing:
        findings.append(
            Finding(
                Part.SPOOL,
                True,
                f"Check-ins are refused: PostgreSQL does not take them, and the spool ({intake.spool_bytes:,} of "
                f"{intake.spool_bytes_max:,} bytes) cannot either.",
                None,
                "Bring PostgreSQL back, or give the spool room: SPOOL_BYTES_MAX, and the disk of SPOOL_DIRECTORY.",
            )
        )
    elif not intake.is_direct:
        findings.append(
            Finding(
                Part.SPOOL,
                False,
                f"Check-ins go to the spool of this web process, where {intake.spooled_count:,} wait.",
                None,
                "They are stored by themselves as soon as PostgreSQL takes them.",
            )
        )
    if intake.free_bytes is None:
        findings.append(
            Finding(
                Part.SPOOL,
                False,
                "The directory of the spool cannot be written to: check-ins will be refused when PostgreSQL is away.",
                None,
                "Look at SPOOL_DIRECTORY.",
            )
        )
    elif intake.free_bytes < SPOOL_FREE_BYTES_MIN:
        findings.append(
            Finding(
                Part.SPOOL,
                False,
                f"The disk of the spool has only {intake.free_bytes >> 20} MiB left.",
                None,
                "Make room on the disk of SPOOL_DIRECTORY.",
            )
        )
    files, lost = intake.damage
    if files:
        findings.append(
            Finding(
                Part.SPOOL,
                False,
                f"A spool was damaged, {files:,} time{'' if files == 1 else 's'}: {lost:,} acknowledged requests could "
                "not be read and are not stored. All others are.",
                None,
                "Check the disk of SPOOL_DIRECTORY, and the runs around that time: what looks missed may have been "
                "lost. Then delete or move away *.spool-damaged*.",
            )
        )
    return findings


def _find_clock_problems(facts: Facts, rows: Rows) -> list[Finding]:
    """Return why the clock is not at now, if it is not."""
    newest, held = rows.newest, rows.held
    findings = []
    if held is not None and (newest is None or held.at > newest.at):
        findings.append(
            Finding(
                Part.CLOCK,
                facts.now - held.at > LEDGER_SILENT_MAX,
                f"The clock waits with {held.at:%H:%M} UTC: {held.reason}.",
                held.at,
                "Bring that web process or its database connection back; after INGEST_NODE_SILENT_SECONDS of silence "
                "it is no longer waited for.",
            )
        )
    elif facts.now - (facts.watched_since if newest is None else newest.dispatched_at) > LEDGER_SILENT_MAX:
        waiting = facts.queues.get("clock", 0)
        both_run = _is_heard(facts, "beat") and _is_heard(facts, "worker")
        findings.append(
            Finding(
                Part.CLOCK,
                True,
                ("No tick was ever written" if newest is None else "The clock stands still")
                + ": nothing is judged, and nobody is told."
                + (f" {waiting} messages wait for a worker." if waiting else ""),
                None if newest is None else newest.dispatched_at,
                "Beat and a worker run: see that a worker reads the queue clock, and read its log."
                if both_run
                else "See that beat runs, and a worker that reads the queue clock.",
            )
        )
    undecided = rows.oldest_undecided
    if undecided is not None:
        findings.append(
            Finding(
                Part.CLOCK,
                False,
                f"The volume of check-ins at {undecided.at:%H:%M} UTC is unusual: the clock waits until it is clear "
                "whether it may be deaf.",
                undecided.dispatched_at,
                "See that check-ins reach Watchclock. It decides by itself.",
            )
        )
    unfinished = rows.oldest_unfinished
    if unfinished is not None and (undecided is None or unfinished.at < undecided.at):
        began_at = unfinished.decided_at or unfinished.dispatched_at
        if facts.now - began_at > FINISH_MAX:
            findings.append(
                Finding(
                    Part.CLOCK,
                    True,
                    f"Tick {unfinished.at:%H:%M} UTC is not finished: {max(rows.shards_behind.values(), default=0)} "
                    "shards are behind.",
                    began_at,
                    "See that workers run and read their log; more workers take more shards.",
                )
            )
    incident = find_clock_incident(rows)
    return findings if incident is None else [*findings, incident]


def find_clock_incident(rows: Rows) -> Finding | None:
    """Return what is to be said of a clock incident that goes on, if one does."""
    if rows.clock_incident is None:
        return None
    cause, started_at = rows.clock_incident
    return Finding(
        Part.CLOCK,
        True,
        f"Watchclock may be deaf ({cause}): what falls due becomes unknown, and nobody is told of misses.",
        started_at,
        "See that check-ins reach Watchclock. If they do, that many jobs have really stopped: look at them.",
    )


def _find_silence(facts: Facts, rows: Rows) -> list[Finding]:
    """Return which kind of process nobody hears any more.

    Valkey may have been emptied, or all may just have been started: who was never heard of is only missed if the clock
    stands still as well.
    """
    stands_still = (
        facts.now - (facts.watched_since if rows.newest is None else rows.newest.dispatched_at) > LEDGER_SILENT_MAX
    )
    consequences = {
        "beat": (Part.BEAT, "No beat runs: nobody says that a minute has passed."),
        "worker": (Part.WORKER, "No worker runs: nothing is judged."),
        "delivery": (Part.DELIVERY, "No worker reads the queue delivery: no mail is sent."),
    }
    findings = []
    for kind, (part, what) in consequences.items():
        heard_at = facts.heard.get(kind)
        is_missed = stands_still if heard_at is None else not _is_heard(facts, kind)
        if kind == "delivery" and heard_at is None:  # The ledger says nothing of it, but others were heard of.
            is_missed = _is_heard(facts, "worker") and facts.now - facts.watched_since > LEDGER_SILENT_MAX
        if is_missed and facts.valkey is None:
            findings.append(
                Finding(
                    part,
                    True,
                    what + (f" {waiting} messages wait." if (waiting := sum(facts.queues.values())) else ""),
                    heard_at,
                    f"Start {kind}. Every minute is made up for, in order."
                    if kind != "delivery"
                    else "Start a worker with --queues delivery. What waits is sent then.",
                )
            )
    return findings


def _is_heard(facts: Facts, kind: str) -> bool:
    heard_at = facts.heard.get(kind)
    return heard_at is not None and facts.now - heard_at <= HEARD_MAX


def _find_node_problems(facts: Facts, rows: Rows) -> list[Finding]:
    findings = []
    for node in rows.nodes:
        if node.dropped_at is not None and node.spooled_count:
            findings.append(
                Finding(
                    Part.INGEST,
                    True,
                    f"Ingest node {node} is gone with {node.spooled_count:,} acknowledged check-ins in its spool, and "
                    "the clock goes on without it.",
                    node.seen_at,
                    "Start a web process with the same SPOOL_DIRECTORY on that host.",
                )
            )
        elif node.dropped_at is None and facts.now - node.seen_at > NODE_SILENT_MAX:
            findings.append(
                Finding(
                    Part.INGEST,
                    True,
                    f"Ingest node {node} is silent, and the clock waits for it.",
                    node.seen_at,
                    "Bring that web process or its database connection back.",
                )
            )
        elif node.dropped_at is None and node.spooled_count:
            findings.append(
                Finding(
                    Part.SPOOL,
                    False,
                    f"{node.spooled_count:,} check-ins wait in the spool of ingest node {node}.",
                    node.watermark,
                    "They are being stored; if they do not become fewer, read the log of that web process.",
                )
            )
    return findings


def _find_unjudged(rows: Rows) -> list[Finding]:
    """Return which monitors cannot be judged: each stands alone, and the clock goes on without it (D37)."""
    if not rows.unjudged:
        return []
    name, reason = rows.unjudged[0]
    others = f" So are {len(rows.unjudged) - 1} more." if len(rows.unjudged) > 1 else ""
    return [
        Finding(
            Part.CLOCK,
            False,
            f"Monitor {name} is not judged: {reason}{others}",
            None,
            "Admin, Monitors: open the one in red and choose a schedule and time zone that can be read.",
        )
    ]


def _find_wrong_clock(facts: Facts, rows: Rows) -> list[Finding]:
    """Return that housekeeping does not believe the clock, which has jumped."""
    apart = timedelta() if rows.house is None else rows.house.apart(facts.now)
    if rows.house is None or not apart:
        return []
    left = max(BELIEVED_AFTER - rows.house.apart_for, timedelta())
    return [
        Finding(
            Part.CLOCK,
            False,
            f"The clock of this machine says {facts.now:%Y-%m-%d %H:%M} UTC, {abs(apart).days:,} days "
            f"{'after' if apart > timedelta() else 'before'} the time that housekeeping had come to. It removes "
            f"nothing by this clock until that has gone on for {left.total_seconds() / 3600:,.0f} hours more without "
            "a jump.",
            None,
            "If the clock is wrong, set it right: nothing is lost. If Watchclock was off for so long, all is well.",
        )
    ]


def _nobody_is_told(facts: Facts) -> Finding:
    """A choice may be behind it, so it is no outage; but nobody should have to find out at three in the morning."""
    untold = 0 if facts.rows is None else facts.rows.untold_count
    return Finding(
        Part.OUTBOX,
        False,
        facts.why_nobody + (f" {untold:,} notification{'' if untold == 1 else 's'} reached nobody." if untold else ""),
        None,
        "Set ALERT_EMAIL_TO and EMAIL_URL, restart, and try them with manage.py send_test_alert. Incidents that are "
        "open then are told.",
    )


def _find_outbox_problems(facts: Facts, rows: Rows) -> list[Finding]:
    findings = []
    if rows.oldest_unsent_at is not None and facts.now - rows.oldest_unsent_at > OUTBOX_WAIT_MAX:
        reason = f": {rows.unsent_error}" if rows.unsent_error else ""
        findings.append(
            Finding(
                Part.OUTBOX,
                True,
                f"{rows.unsent_count:,} notification{'' if rows.unsent_count == 1 else 's'} not sent yet{reason}.",
                rows.oldest_unsent_at,
                "Look at EMAIL_URL and the mail server, and see that a worker reads the queue delivery.",
            )
        )
    if rows.given_up_count:
        findings.append(
            Finding(
                Part.OUTBOX,
                False,
                f"{rows.given_up_count:,} mail{'' if rows.given_up_count == 1 else 's'} given up in the last 24 hours.",
                None,
                "Admin, Messages: read what the mail server said of each.",
            )
        )
    failed = rows.waiting.get("failed", 0)
    if failed:
        findings.append(
            Finding(
                Part.INGEST,
                False,
                f"{failed:,} check-ins met an unexpected error and wait for a person.",
                None,
                "Admin, Waiting check-ins: read the error, then choose Process again.",
            )
        )
    return findings
