"""What a weekly report says (pure). The texts of other languages are in `incidents.notifications.words`."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from dashboard.report.facts import ReportFacts, Runs
from incidents.notifications.channels.mail_text import STOP, Content, Table
from incidents.notifications.channels.wording import State, and_more, moment, one_line
from incidents.notifications.words import ENGLISH, length, number, say


def headline(facts: ReportFacts, language: str = ENGLISH) -> str:
    """Return the headline, which is the subject too: project and days."""
    zone = ZoneInfo(facts.timezone)
    first = facts.starts_at.astimezone(zone)
    last = (facts.ends_at - timedelta(seconds=1)).astimezone(zone)
    return say(
        language,
        "Weekly report of {project}: {first} to {last}",
        project=one_line(facts.project),
        first=f"{first:%Y-%m-%d}",
        last=f"{last:%Y-%m-%d}",
    )


def write_report(facts: ReportFacts, *, unsubscribe_url: str = "", language: str = ENGLISH) -> Content:
    """Return the parts of the mail."""
    paragraphs = (_kept(facts, language), _against_before(facts, language), _incidents(facts, language))
    text = tuple(part for part in paragraphs if part)
    return Content(
        state=State.NOTE,
        headline=headline(facts, language),
        preheader=one_line(" ".join(text), 150),
        paragraphs=text,
        tables=tuple(table for table in _tables(facts, language) if table.rows),
        links=((say(language, "Open monitors"), facts.url),) if facts.url else (),
        unsubscribe_url=unsubscribe_url,
        unsubscribe_label=say(language, STOP),
        list_name=facts.slug,
        language=language,
    )


def _kept(facts: ReportFacts, language: str) -> str:
    runs = facts.runs
    judged = runs.ok + runs.failed
    if not judged:
        return say(language, "No run was judged in these seven days.")
    parts = [say(language, text, count=number(language, count)) for count, text in _kinds(runs) if count]
    # Cut, not rounded: it is 100 only if none failed.
    share = f"{1_000 * runs.ok // judged / 10:.1f}" if runs.failed else "100"
    share = share.replace(".", ",") if language == "de" else share
    text = "{ok} of {judged} runs were kept ({share} %); {failed} failed."
    if parts:
        text = "{ok} of {judged} runs were kept ({share} %); {failed} failed: {kinds}."
    values = {"ok": runs.ok, "judged": judged, "failed": runs.failed}
    named = {name: number(language, count) for name, count in values.items()}
    return say(language, text, share=share, kinds=", ".join(parts), **named)


def _kinds(runs: Runs) -> tuple[tuple[int, str], ...]:
    return (runs.error, "{count} with an error"), (runs.missed, "{count} missed"), (runs.timeout, "{count} timed out")


def _against_before(facts: ReportFacts, language: str) -> str:
    before = facts.before
    if not before.ok + before.failed:
        return ""
    text = "The week before: {ok} kept, {failed} failed."
    return say(language, text, ok=number(language, before.ok), failed=number(language, before.failed))


def _incidents(facts: ReportFacts, language: str) -> str:
    opened = _count(language, facts.opened, "{count} incident opened", "{count} incidents opened")
    open_now = _count(language, facts.open_now_count, "{count} is open now", "{count} are open now")
    return f"{opened}; {open_now}."


def _tables(facts: ReportFacts, language: str) -> tuple[Table, ...]:
    zone = facts.timezone
    return (
        Table(
            say(language, "Failing now"),
            tuple(
                (one.name, say(language, "since {moment}", moment=moment(one.since, zone))) for one in facts.open_now
            ),
            and_more(facts.open_now_count - len(facts.open_now), language),
        ),
        Table(
            say(language, "Noisiest"),
            tuple((one.name, _noise(one.incidents, one.failed, language)) for one in facts.noisiest),
        ),
        Table(
            say(language, "Slowest"),
            tuple((one.name, _length(one.longest, one.mean, language)) for one in facts.slowest),
        ),
        Table(
            say(language, "Silent"),
            tuple(
                (one.name, say(language, "last check-in {moment}", moment=moment(one.last_at, zone)))
                for one in facts.silent
            ),
            and_more(facts.silent_count - len(facts.silent), language),
        ),
        Table(
            say(language, "Never reported"),
            tuple((name, "") for name in facts.never.names),
            and_more(facts.never.more, language),
        ),
        Table(
            say(language, "Channels that failed"),
            tuple((one.name, _broken(one.failed, language, is_open=one.is_open)) for one in facts.channels),
        ),
    )


def _length(longest: timedelta, mean: timedelta, language: str) -> str:
    return say(language, "{longest}, {mean} on average", longest=length(language, longest), mean=length(language, mean))


def _noise(incidents: int, failed: int, language: str) -> str:
    first = _count(language, incidents, "{count} incident", "{count} incidents")
    return f"{first}, {_count(language, failed, '{count} failed run', '{count} failed runs')}"


def _broken(failed: int, language: str, *, is_open: bool) -> str:
    text = say(language, "no message given up")
    if failed:
        text = _count(language, failed, "{count} message given up", "{count} messages given up")
    return f"{text}; {say(language, 'it fails now')}" if is_open else text


def _count(language: str, count: int, one: str, many: str) -> str:
    return say(language, one if count == 1 else many, count=number(language, count))
