"""The clock's pages, in the admin and for people: an overview of the clock as tables and labels for a template.

Texts are in the language that is active: that of the reader, and English in the admin.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from checkins.node_facts import NodeFacts, NodeStanding, node_standing
from clocktasks.models import ClockIncident
from dashboard.admin.cells import LABEL_CLASSES, NOTHING, instant, label, link
from dashboard.moments import length_in_words as length
from dashboard.texts import said, written
from dashboard.vocabulary import word
from health.clock.overview import Overview
from health.clock.timeline import legend_of, plot_of, rows_of, state_of
from health.facts import Finding, Severity, TickFacts

TICKS_IN_TABLE = 15
COLUMN_MINUTES = 5
SEVERITY_TONES = {Severity.BAD: "bad", Severity.NOTE: "doubtful", Severity.NORMAL: "quiet"}
NODE_TONES = {
    NodeStanding.LIVE: "good",
    NodeStanding.SILENT: "doubtful",
    NodeStanding.DROPPED: "bad",
    NodeStanding.LEFT: "quiet",
}


class Look(NamedTuple):
    """How a page draws: an instant, a label with its tone, the name of a clock incident, and the class of a tone."""

    instant: Callable[..., SafeString]
    label: Callable[..., SafeString]
    link: Callable[[ClockIncident, str], SafeString | str]
    classes: Mapping[str, str]


ADMIN = Look(instant, label, link, LABEL_CLASSES)


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table with a caption; `empty` is shown if it has no rows."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    empty: str


def clock_context(overview: Overview, look: Look = ADMIN, *, sees_projects: bool = True) -> dict[str, Any]:
    """Return the variables of the page's template. `sees_projects`: the reader may see those of every project."""
    now, status = overview.now, overview.status
    reasons, besides = (
        [_finding(finding, look) for finding in findings if sees_projects or not finding.of_project]
        for findings in (status.reasons, status.besides)
    )
    strip = rows_of(overview.ticks, now=now)
    return {
        "now": now,
        "headline": said(status.headline),
        "is_normal": status.is_normal,
        "reasons": reasons,
        "besides": besides,
        "strip": [
            (begin, [(said(cell.title), cell.state.sign, look.classes[cell.state.tone]) for cell in cells])
            for begin, cells in strip
        ],
        "strip_columns": [number * COLUMN_MINUTES for number in range(30 // COLUMN_MINUTES)],
        "strip_column_minutes": COLUMN_MINUTES,
        "legend": [
            (state.sign, look.classes[state.tone], said(state.meaning), count)
            for state, count in legend_of(strip).items()
        ],
        "plot": plot_of(overview.ticks),
        "ticks_table": _ticks_table(overview.ticks[:TICKS_IN_TABLE], look),
        "clocks_text": _clocks_text(overview),
        "clocks_table": _clocks_table(overview, look) if overview.clocks_behind else None,
        "nodes_table": _nodes_table(overview.rows.nodes, look, now=now),
        "left_table": _left_table(overview.left, look, now=now) if overview.left else None,
        "incidents_table": _incidents_table(overview.incidents, look, now=now),
        "waiting_table": _waiting_table(overview),
    }


def notified_label(incident: ClockIncident, look: Look = ADMIN) -> SafeString:
    """Return when people were notified about a clock incident, or why not."""
    if incident.told_at is not None:
        return look.instant(incident.told_at)
    if incident.ended_at is None or incident.summarised_at is None:
        return look.label(_("not yet"), "running", title=_("People are notified when it ends, or after five minutes."))
    if incident.environment_count == 0:
        return look.label(_("nobody"), "quiet", title=_("It made no check-in unknown."))
    return look.label(
        _("not sent"), "doubtful", title=_("ALERT_EMAIL_TO is empty, or the mail server does not accept it yet.")
    )


def tick_label(tick: Any, look: Look = ADMIN) -> SafeString:
    """Return the label of a tick: its progress, or why it judges no job."""
    words = {"FINISHED": "finished", "RUNNING": "running", "WAITING": tick.decision, "INCIDENT": "incident"}
    state = state_of(tick)
    return look.label(word(words.get(state.name, "deaf")), state.tone, title=said(state.meaning))


def percent(deviation: float | None) -> str:
    """Return a deviation as "+3 %"; nothing if there is none."""
    return str(NOTHING) if deviation is None else f"{round(deviation):+d} %"


def _finding(finding: Finding, look: Look) -> dict[str, Any]:
    return {
        "label": look.label(word(finding.severity.value), SEVERITY_TONES[finding.severity]),
        "what": said(finding.what),
        "since": None if finding.since is None else look.instant(finding.since),
        "todo": said(finding.todo),
    }


def _ticks_table(ticks: Sequence[TickFacts], look: Look) -> PageTable:
    return PageTable(
        _("The newest %(count)s ticks of the ledger") % {"count": TICKS_IN_TABLE},
        (
            _("Tick"),
            _("State"),
            _("Written after"),
            _("Decided after"),
            _("Finished after"),
            _("Volume"),
            _("Deviation"),
            _("Missed"),
            _("Timeout"),
            _("Unknown"),
        ),
        [
            (
                look.instant(tick.at),
                tick_label(tick, look),
                length(tick.dispatched_at - tick.at),
                length(None if tick.decided_at is None else tick.decided_at - tick.at),
                length(None if tick.finished_at is None else tick.finished_at - tick.at),
                NOTHING if tick.volume is None else written(tick.volume),
                percent(tick.deviation_percent),
                written(tick.missed_count),
                written(tick.timeout_count),
                written(tick.unknown_count),
            )
            for tick in ticks
        ],
        _("No tick has been written yet."),
    )


def _clocks_text(overview: Overview) -> str:
    behind, limit = overview.clocks_behind, overview.rows.decided_until
    if not overview.rows.clocks or limit is None:
        return _("There are no shard clocks yet: the first tick creates them.")
    shards = {shard for shard, _, _ in overview.rows.clocks}
    kinds = {kind for _, kind, _ in overview.rows.clocks}
    if behind:
        return _(
            "%(count)s of %(total)s clocks are behind %(at)s UTC, the newest tick that may be applied. Shards with "
            "nothing due move with the tick; the others after a worker has applied it."
        ) % {"count": written(len(behind)), "total": written(len(overview.rows.clocks)), "at": f"{limit:%H:%M}"}
    return _("All %(shards)s shards x %(kinds)s kinds of clocks stand at %(at)s UTC.") % {
        "shards": written(len(shards)),
        "kinds": len(kinds),
        "at": f"{limit:%H:%M}",
    }


def _clocks_table(overview: Overview, look: Look) -> PageTable:
    limit = overview.rows.decided_until
    assert limit is not None, "something is behind it"
    return PageTable(
        _("Clocks that are behind"),
        (_("Shard"), _("Kind"), _("Applied up to"), _("Behind by")),
        [
            (str(shard), word(kind), look.instant(position), length(limit - position))
            for shard, kind, position in overview.clocks_behind
        ],
        "",
    )


def _nodes_table(nodes: Sequence[NodeFacts], look: Look, *, now: datetime) -> PageTable:
    return PageTable(
        _("Ingest nodes: processes that receive check-ins"),
        (_("Process"), _("State"), _("Stored up to"), _("Behind now by"), _("In its spool"), _("Last seen")),
        [
            (
                str(node),
                node_label(node, look, now=now),
                look.instant(node.watermark),
                length(max(now - node.watermark, timedelta())),
                written(node.spooled_count),
                look.instant(node.seen_at, now=now),
            )
            for node in nodes
        ],
        _("No process receives check-ins."),
    )


def node_label(node: NodeFacts, look: Look = ADMIN, *, now: datetime) -> SafeString:
    """Return the label of an ingest node: whether the clock waits for it."""
    standing = node_standing(node, now)
    return look.label(said(standing.word), NODE_TONES[standing], title=said(standing.meaning))


def _left_table(left: Sequence[NodeFacts], look: Look, *, now: datetime) -> PageTable:
    return PageTable(
        _("Nodes that left in the last hour, with everything stored"),
        (_("Process"), _("Left")),
        [(str(node), look.instant(node.left_at, now=now)) for node in left],
        "",
    )


def _incidents_table(incidents: Sequence[ClockIncident], look: Look, *, now: datetime) -> PageTable:
    return PageTable(
        _("The latest clock incidents"),
        (_("Cause"), _("From"), _("To"), _("Lasted"), _("Unknown check-ins"), _("Environments"), _("Notified")),
        [
            (
                look.link(incident, said(incident.get_cause_display())),
                look.instant(incident.started_at),
                look.label(_("ongoing"), "bad") if incident.ended_at is None else look.instant(incident.ended_at),
                length((incident.ended_at or now) - incident.started_at),
                NOTHING if incident.unknown_count is None else written(incident.unknown_count),
                NOTHING if incident.environment_count is None else written(incident.environment_count),
                notified_label(incident, look),
            )
            for incident in incidents
        ],
        _("None."),
    )


def _waiting_table(overview: Overview) -> PageTable:
    rows = overview.rows
    queue = _("messages in the queue %(name)s")
    queues = [(queue % {"name": name}, written(count)) for name, count in sorted(overview.queues.items())]
    reasons = {
        "failed": _("check-ins that wait: failed"),
        "monitor_unknown": _("check-ins that wait: monitor unknown"),
    }
    return PageTable(
        _("What waits"),
        (_("What"), _("How many")),
        [
            *queues,
            (_("check-ins in spools"), written(sum(node.spooled_count for node in rows.nodes))),
            *((text, written(rows.waiting[reason])) for reason, text in reasons.items() if reason in rows.waiting),
            (_("messages to people that are not sent"), written(rows.unsent_count)),
        ],
        "",
    )
