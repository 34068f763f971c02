"""Pages of occurrences, with the explanation of each."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.utils.safestring import SafeString

from checkins.models import CheckIn
from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, code, facts, instant, label, link, link_to, table
from dashboard.admin.unfold import AutocompleteSelectFilter
from dashboard.losses import SILENT, losses_around, losses_text
from dashboard.runs import exit_status_of, log_lines
from dashboard.vocabulary import setting
from incidents.models import Occurrence
from incidents.notifications.letters import why

LOSS_REPORTS, OCCURRENCES = "checkins.clientlossreport", "incidents.occurrence"


OCCURRENCES_SHOWN = 50


EXPLANATION_TITLES = {
    "kind": "What happened",
    "reason": "Why it counts",
    "schedule": "Schedule",
    "crontab": "Crontab",
    "interval": "Interval",
    "interval_unit": "Interval unit",
    "timezone": "Time zone",
    "expected_at": "Expected (UTC)",
    "expected_at_local": "Expected (local)",
    "margin_minutes": "Margin in minutes",
    "max_runtime_minutes": "Maximum runtime in minutes",
    "deadline_at": "Deadline",
    "tick": "Tick that found it",
    "clock_decision": "Decision of the clock",
    "started_at": "Started",
    "received_at": "Message received",
    "failure_threshold": "Failures that open an incident",
    "recovery_threshold": "Oks that resolve it",
    "failure_streak": "Failures in a row",
    "failure_streak_started_at": "Failing since",
    "last_ok_at": "Last ok run started",
    "last_ok_duration_ms": "Last ok run took (ms)",
    "exit_status": "Exit status",
    "log_tail": "End of its log",
}
"""The labels for keys of `incidents.explanation.explain`; other keys are shown as they are."""


def checkins_by_id(ids: Iterable[int | None]) -> dict[int, Any]:
    """Return the check-ins that still exist, by id. One statement."""
    checkins = CheckIn.objects
    found: dict[int, Any] = checkins.in_bulk({checkin_id for checkin_id in ids if checkin_id is not None})
    return found


def checkin_link(checkin_id: int | None, found: dict[int, Any], timezone: str) -> SafeString | str:
    """Return a link to a check-in with its status and start, or a note that it was removed."""
    if checkin_id is None:
        return NOTHING
    if checkin_id not in found:
        return "removed (older than the retention)"
    checkin = found[checkin_id]
    return table(
        (),
        [
            (
                label(checkin.get_status_display()),
                instant(checkin.date_added, timezone),
                link(checkin, str(checkin.guid)),
            )
        ],
    )


def readable(value: object, timezone: str) -> object:
    """Return a value of an explanation for people: instants in the monitor's zone, words without underscores."""
    if isinstance(value, str) and len(value) >= 20 and value[4] == "-" and "T" in value:
        try:
            return instant(datetime.fromisoformat(value), timezone)
        except ValueError:
            return value
    return value.replace("_", " ") if isinstance(value, str) else value


def explanation_table(occurrence: Occurrence) -> SafeString:
    """Return the explanation of an occurrence (P8) as a table of names and values."""
    explanation: dict[str, Any] = dict(occurrence.explanation)
    zone = str(explanation.get("timezone") or "UTC")
    values: dict[str, object] = {}
    # PostgreSQL orders the keys of a jsonb by their length; here they are in the order of events.
    for key in dict.fromkeys((*EXPLANATION_TITLES, *explanation)):
        value = explanation.get(key)
        if value is None or key == "expected_at_local":  # Local is how every instant is shown.
            continue
        if key == "expected_at" and _is_still_to_come(explanation):
            continue
        plain = key in ("schedule", "crontab", "timezone", "log_tail")
        title = "Expected" if key == "expected_at" else EXPLANATION_TITLES.get(key, key)
        values[title] = setting(value) if plain else readable(value, zone)
    return facts(values)


def _is_still_to_come(explanation: dict[str, Any]) -> bool:
    """Return whether the slot in an explanation was in the future when the failure was found: it was not due then."""
    found = explanation.get("tick") or explanation.get("received_at")
    expected = explanation.get("expected_at")
    return bool(found and expected) and datetime.fromisoformat(str(expected)) > datetime.fromisoformat(str(found))


def losses_of(occurrences: Iterable[Occurrence], project_id: int) -> list[Any]:
    """Return the loss reports of clients around misses and timeouts among the occurrences (D19)."""
    silent = [occurrence for occurrence in occurrences if occurrence.explanation.get("kind") in SILENT]
    return losses_around(project_id, [(occurrence.occurred_at, occurrence.detected_at) for occurrence in silent])


def newest(occurrences: QuerySet[Occurrence]) -> list[Occurrence]:
    """Return the occurrences that a page shows, newest first."""
    return list(occurrences.order_by("-id")[:OCCURRENCES_SHOWN])


def occurrences_table(shown: Collection[Occurrence]) -> SafeString:
    """Return occurrences with the core of their explanations, one a row."""
    found = checkins_by_id(occurrence.checkin_id for occurrence in shown)
    rows = []
    for occurrence in shown:
        explanation = occurrence.explanation
        zone = str(explanation.get("timezone") or "UTC")
        checkin = found.get(occurrence.checkin_id)
        threshold = explanation.get("failure_threshold")
        rows.append(
            (
                link(occurrence, sentence_of(occurrence)),
                instant(occurrence.detected_at, zone),
                "removed" if checkin is None else link(checkin, label(checkin.get_status_display())),
                NOTHING
                if _is_still_to_come(explanation)
                else readable(explanation.get("expected_at"), zone) or NOTHING,
                readable(explanation.get("deadline_at"), zone) or NOTHING,
                f"{explanation.get('failure_streak', '?')} (opens at {threshold})",
                readable(explanation.get("reason", ""), zone),
            )
        )
    headers = ("Failure", "Detected", "Check-in", "Expected", "Deadline", "In a row", "Why it counts")
    return table(headers, rows, title=f"Occurrences, newest first (at most {OCCURRENCES_SHOWN})")


def sentence_of(occurrence: Occurrence) -> str:
    """Return why it failed, in the sentence that messages show."""
    return why(occurrence.explanation) or occurrence.subtitle


def newest_failure(checkin_id: int, explanation: Mapping[str, Any], timezone: str) -> SafeString | str:
    """Return the exit status and the end of the log of a failed run; empty if it left neither. Two statements.

    If the check-in or its log was removed, the explanation of the occurrence is used.
    """
    shown: dict[str, object] = {"Exit status": explanation.get("exit_status")}
    lines = str(explanation.get("log_tail") or "").splitlines()
    checkin = checkins_by_id([checkin_id]).get(checkin_id)
    if checkin is not None:
        shown = {"Run": link(checkin, instant(checkin.date_added, timezone)), "Exit status": exit_status_of(checkin)}
        lines = log_lines(checkin) or lines
    if not lines and shown["Exit status"] is None:
        return ""
    if lines:
        shown["End of its log"] = code("\n".join(lines))
    return facts(shown)


@admin.register(Occurrence)
class OccurrenceAdmin(InspectionAdmin):
    """Failed check-ins of incidents, each with its explanation."""

    list_display = ("sentence", "title", "environment", "detected", "occurred")
    sortable_by = ()
    list_filter = (("issue", AutocompleteSelectFilter),)
    search_fields = ("title",)
    search_help_text = "Part of the title"
    ordering = ("-id",)
    fieldsets = (
        (
            "Occurrence",
            {
                "fields": (
                    "title",
                    "sentence",
                    "failure_reason",
                    "environment",
                    "issue_link",
                    "incident_link",
                    "checkin_of",
                )
            },
        ),
        ("Why", {"fields": ("explanation_facts", "lost_around")}),
        ("Evidence", {"fields": ("detected", "occurred", "last_ok", "run", "trace_id")}),
    )
    readonly_fields = (
        "sentence",
        "issue_link",
        "incident_link",
        "checkin_of",
        "explanation_facts",
        "lost_around",
        "detected",
        "occurred",
        "last_ok",
        "run",
    )

    @admin.display(description="What failed")
    def sentence(self, occurrence: Occurrence) -> str:
        """Show the sentence about it."""
        return sentence_of(occurrence)

    @admin.display(description="Detected")
    def detected(self, occurrence: Occurrence) -> SafeString:
        """Show when the failure was found, in the zone that the monitor had then."""
        return instant(occurrence.detected_at, _zone(occurrence), is_narrow=True)

    @admin.display(description="Run started, or slot")
    def occurred(self, occurrence: Occurrence) -> SafeString:
        """Show the start of the failed run, or the slot that was missed."""
        return instant(occurrence.occurred_at, _zone(occurrence), is_narrow=True)

    @admin.display(description="Last successful check-in")
    def last_ok(self, occurrence: Occurrence) -> SafeString:
        """Show the start of the newest ok run before the failure."""
        return instant(occurrence.last_ok_at, _zone(occurrence), is_narrow=True)

    @admin.display(description="Issue")
    def issue_link(self, occurrence: Occurrence) -> SafeString:
        """Link to the issue."""
        return link_to("incidents.issue", occurrence.issue_id, occurrence.title)

    @admin.display(description="Incident")
    def incident_link(self, occurrence: Occurrence) -> SafeString:
        """Link to the incident."""
        return link_to("incidents.incident", occurrence.incident_id, f"Incident {occurrence.incident_id}")

    @admin.display(description="Check-in")
    def checkin_of(self, occurrence: Occurrence) -> SafeString | str:
        """Link to the failed check-in."""
        return checkin_link(occurrence.checkin_id, checkins_by_id([occurrence.checkin_id]), _zone(occurrence))

    @admin.display(description="Explanation")
    def explanation_facts(self, occurrence: Occurrence) -> SafeString:
        """Show all facts that led to it, as they were then (P8)."""
        return explanation_table(occurrence)

    @admin.display(description="Lost on the way")
    def lost_around(self, occurrence: Occurrence) -> SafeString:
        """Show the loss reports of clients around a miss or a timeout (D19)."""
        losses = losses_of([occurrence], occurrence.issue.project_id)
        return losses_text(losses, timezone=_zone(occurrence)) or NOTHING

    @admin.display(description="Failing run")
    def run(self, occurrence: Occurrence) -> str:
        """Show the ids of the check-ins of the run."""
        return ", ".join(str(guid) for guid in occurrence.run_checkin_guids)


def _zone(occurrence: Occurrence) -> str:
    return str(occurrence.explanation.get("timezone") or "UTC")
