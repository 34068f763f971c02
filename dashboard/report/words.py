"""What a weekly report says (pure)."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from dashboard.report.facts import ReportFacts, Runs
from incidents.notifications.channels.mail_text import Content, Table
from incidents.notifications.channels.wording import State, and_more, moment, one_line
from lib.durations import duration

TITLE = "Weekly report"


def headline(facts: ReportFacts) -> str:
    """Return the headline, which is the subject too: project and days."""
    zone = ZoneInfo(facts.timezone)
    first = facts.starts_at.astimezone(zone)
    last = (facts.ends_at - timedelta(seconds=1)).astimezone(zone)
    return f"{TITLE} of {one_line(facts.project)}: {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def write_report(facts: ReportFacts, *, unsubscribe_url: str = "") -> Content:
    """Return the parts of the mail."""
    paragraphs = (_kept(facts), _against_before(facts), _incidents(facts))
    text = tuple(part for part in paragraphs if part)
    return Content(
        state=State.NOTE,
        headline=headline(facts),
        preheader=one_line(" ".join(text), 150),
        paragraphs=text,
        tables=tuple(table for table in _tables(facts) if table.rows),
        links=(("Open monitors", facts.url),) if facts.url else (),
        unsubscribe_url=unsubscribe_url,
        list_name=facts.slug,
    )


def _kept(facts: ReportFacts) -> str:
    runs = facts.runs
    judged = runs.ok + runs.failed
    if not judged:
        return "No run was judged in these seven days."
    parts = [f"{count:,} {word}" for count, word in _kinds(runs) if count]
    why = f": {', '.join(parts)}" if parts else ""
    # Cut, not rounded: it is 100 only if none failed.
    share = f"{1_000 * runs.ok // judged / 10:.1f}" if runs.failed else "100"
    return f"{runs.ok:,} of {judged:,} runs were kept ({share} %); {runs.failed:,} failed{why}."


def _kinds(runs: Runs) -> tuple[tuple[int, str], ...]:
    return (runs.error, "with an error"), (runs.missed, "missed"), (runs.timeout, "timed out")


def _against_before(facts: ReportFacts) -> str:
    before = facts.before
    return f"The week before: {before.ok:,} kept, {before.failed:,} failed." if before.ok + before.failed else ""


def _incidents(facts: ReportFacts) -> str:
    opened = f"{facts.opened:,} incident{'' if facts.opened == 1 else 's'} opened"
    return f"{opened}; {facts.open_now_count:,} {'is' if facts.open_now_count == 1 else 'are'} open now."


def _tables(facts: ReportFacts) -> tuple[Table, ...]:
    zone = facts.timezone
    return (
        Table(
            "Failing now",
            tuple((one.name, f"since {moment(one.since, zone)}") for one in facts.open_now),
            and_more(facts.open_now_count - len(facts.open_now)),
        ),
        Table("Noisiest", tuple((one.name, _noise(one.incidents, one.failed)) for one in facts.noisiest)),
        Table(
            "Slowest",
            tuple((one.name, f"{duration(one.longest)}, {duration(one.mean)} on average") for one in facts.slowest),
        ),
        Table(
            "Silent",
            tuple((one.name, f"last check-in {moment(one.last_at, zone)}") for one in facts.silent),
            and_more(facts.silent_count - len(facts.silent)),
        ),
        Table("Never heard from", tuple((name, "") for name in facts.never.names), and_more(facts.never.more)),
        Table("Channels that failed", tuple((one.name, _broken(one.failed, one.is_open)) for one in facts.channels)),
    )


def _noise(incidents: int, failed: int) -> str:
    return f"{incidents:,} incident{'' if incidents == 1 else 's'}, {failed:,} failed run{'' if failed == 1 else 's'}"


def _broken(failed: int, is_open: bool) -> str:
    told = f"{failed:,} message{'' if failed == 1 else 's'} given up" if failed else "no message given up"
    return f"{told}; it fails now" if is_open else told
