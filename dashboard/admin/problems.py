"""Pages of processing errors, waiting check-ins, and loss reports of clients."""

import base64
import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkins.messages import PROBLEM_MEANINGS, CheckInMessage, ProblemKind
from checkins.models import ClientLossReport, ProcessingError, WaitingCheckIn
from checkins.processing.retry import retry_failed
from checkins.protocols.request import IngestRequest
from dashboard.admin.base import InspectionAdmin, without_addresses
from dashboard.admin.cells import NOTHING, code, facts, instant, label, link
from dashboard.admin.unfold import AutocompleteSelectFilter, ChoicesDropdownFilter
from dashboard.runs import readable
from lib.wallclock import utcnow


@admin.register(ProcessingError)
class ProcessingErrorAdmin(InspectionAdmin):
    """Messages and parts of messages from clients that could not be used."""

    list_display = (
        "last_received",
        "kind_label",
        "project",
        "monitor_or_slug",
        "environment",
        "field",
        "message",
        "count",
    )
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("monitor", AutocompleteSelectFilter),
        ("source", ChoicesDropdownFilter),
    )
    date_hierarchy = "last_received_at"
    search_fields = ("slug", "message")
    search_help_text = "Part of the slug or of the message"
    ordering = ("-last_received_at",)
    list_select_related = ("project", "monitor")
    fieldsets = (
        ("What", {"fields": ("kind_label", "meaning", "message", "field", "value")}),
        ("Whose", {"fields": ("project", "monitor_or_slug", "environment", "source")}),
        ("When", {"fields": ("first_received_at", "last_received_at", "count")}),
        ("What was sent first", {"fields": ("pretty_payload",)}),
    )
    readonly_fields = ("kind_label", "meaning", "monitor_or_slug", "pretty_payload")

    @admin.display(description="Last received (UTC)", ordering="last_received_at")
    def last_received(self, error: ProcessingError) -> str:
        """Show when the newest of them was received."""
        return f"{error.last_received_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="Kind", ordering="kind")
    def kind_label(self, error: ProcessingError) -> SafeString:
        """Show the kind."""
        return label(error.kind.replace("_", " ").lower(), "doubtful", title=error.kind)

    @admin.display(description="Meaning")
    def meaning(self, error: ProcessingError) -> str:
        """Explain the kind in a sentence. The database keeps kinds that other versions knew."""
        if error.kind not in set(ProblemKind):
            return "This version does not record such errors."
        return PROBLEM_MEANINGS[ProblemKind(error.kind)]

    @admin.display(description="Monitor", ordering="slug")
    def monitor_or_slug(self, error: ProcessingError) -> SafeString | str:
        """Link to the monitor if it is known, else show the slug that was sent."""
        return error.slug or NOTHING if error.monitor is None else link(error.monitor)

    @admin.display(description="Payload")
    def pretty_payload(self, error: ProcessingError) -> SafeString:
        """Show the payload as indented JSON."""
        return code(json.dumps(error.payload, indent=2, ensure_ascii=False, sort_keys=True))


@admin.register(WaitingCheckIn)
class WaitingCheckInAdmin(InspectionAdmin):
    """Check-ins that were acknowledged and are not applied yet: parked for their monitor (D17), or failed (D14)."""

    list_display = ("received", "reason_label", "slug", "environment", "project", "source", "error_line")
    list_filter = (
        ("reason", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("source", ChoicesDropdownFilter),
    )
    sortable_by = ("received", "slug")
    search_fields = ("slug",)
    search_help_text = "Part of the slug"
    ordering = ("-id",)
    list_select_related = ("project",)
    actions = ("process_again",)
    fieldsets = (
        ("Why it waits", {"fields": ("reason_label", "meaning", "failure")}),
        ("Whose", {"fields": ("project", "slug", "environment", "source", "received")}),
        ("What was sent", {"fields": ("content",)}),
    )
    readonly_fields = ("reason_label", "meaning", "failure", "received", "content")

    @admin.display(description="Received (UTC)", ordering="id")
    def received(self, row: WaitingCheckIn) -> SafeString:
        """Show when it was received."""
        return instant(row.received_at, hides_zone=True)

    @admin.display(description="Reason", ordering="reason")
    def reason_label(self, row: WaitingCheckIn) -> SafeString:
        """Show why it waits."""
        return label(row.get_reason_display(), "bad" if row.reason == "failed" else "doubtful")

    @admin.display(description="Error")
    def error_line(self, row: WaitingCheckIn) -> str:
        """Show the last line of the error."""
        return row.error.strip().rpartition("\n")[2] or NOTHING

    @admin.display(description="Meaning")
    def meaning(self, row: WaitingCheckIn) -> str:
        """Explain what happens to it next."""
        if row.reason == "failed":
            return (
                "It could not be applied because of an unexpected error. It stays until it is processed again, "
                "with its original time of reception."
            )
        return (
            "Its monitor does not exist yet. It is applied when the monitor is created, usually by the run's other "
            "message, and becomes a processing error otherwise."
        )

    @admin.display(description="Error")
    def failure(self, row: WaitingCheckIn) -> SafeString:
        """Show the end of the error's traceback."""
        return code(row.error) if row.error else NOTHING

    @admin.display(description="Message")
    def content(self, row: WaitingCheckIn) -> SafeString:
        """Show the message part by part, without parts that are not set."""
        parts = row.message["fields"]
        # PostgreSQL orders the keys of a jsonb by their length.
        names = [name for name in dict.fromkeys((*CheckInMessage.__struct_fields__, *parts)) if name in parts]
        present = {name: parts[name] for name in names if parts[name] not in (None, "", [], {})}
        shown = facts({name.replace("_", " "): part_text(name, value) for name, value in present.items()})
        # The address and the headers of a whole request contain its key.
        return without_addresses(shown) if row.message["type"] == IngestRequest.__name__ else shown

    @admin.action(description="Process again", permissions=["handle"])
    def process_again(self, request: HttpRequest, queryset: QuerySet[WaitingCheckIn]) -> None:
        """Apply the selected failed check-ins, each by itself, with their original time of reception."""
        chosen = list(queryset.order_by().values_list("pk", "reason"))
        failed = [key for key, reason in chosen if reason == "failed"]
        applied, failed_again = retry_failed(failed, now=utcnow())
        said = [f"Applied {applied}, {failed_again} failed again."]
        if parked := len(chosen) - len(failed):
            said.append(f"{parked} parked for a monitor that does not exist yet; they are applied once it exists.")
        (messages.warning if failed_again or parked else messages.success)(request, " ".join(said))


def part_text(name: str, value: Any) -> SafeString | str:
    """Return one part of a stored message for people: bytes as text, nested values as indented JSON."""
    if name == "log" and isinstance(value, dict):
        return format_html("{} bytes{}", value.get("size_bytes"), part_text("body", value.get("body")))
    if name == "body":
        try:
            return code(readable(base64.b64decode(str(value), validate=True)))
        except ValueError:  # Not base64 (`binascii.Error`), or not even ASCII.
            return code(str(value))
    if isinstance(value, dict | list):
        return code(json.dumps(value, indent=2, ensure_ascii=False))
    return str(value)


@admin.register(ClientLossReport)
class ClientLossReportAdmin(InspectionAdmin):
    """Check-ins that clients report as lost (D19)."""

    list_display = ("received", "quantity", "reason", "project", "reported")
    list_filter = (("project", AutocompleteSelectFilter),)
    sortable_by = ("received",)
    search_fields = ("reason",)
    search_help_text = "Part of the reason"
    ordering = ("-id",)
    list_select_related = ("project",)
    fields = ("project", "quantity", "reason", "received", "reported", "source")
    readonly_fields = ("received", "reported")

    @admin.display(description="Received", ordering="id")
    def received(self, report: ClientLossReport) -> SafeString:
        """Show when the report was received."""
        return instant(report.received_at, now=utcnow())

    @admin.display(description="Reported, by the client's clock")
    def reported(self, report: ClientLossReport) -> SafeString:
        """Show when the client wrote it."""
        return instant(report.reported_at)
