"""Pages of ingest nodes."""

from django.contrib import admin
from django.utils.safestring import SafeString

from checkins.models import IngestNode
from dashboard.admin.base import InspectionAdmin, duration
from dashboard.admin.cells import instant
from dashboard.clock.page import node_label
from lib.wallclock import utcnow


@admin.register(IngestNode)
class IngestNodeAdmin(InspectionAdmin):
    """The processes that receive check-ins, and whether the clock waits for them."""

    list_display = (
        "name",
        "state_label",
        "watermark_text",
        "lag",
        "spooled_count",
        "seen",
        "started",
    )
    sortable_by = ("watermark_text", "spooled_count", "seen", "started")
    ordering = ("-seen_at", "id")
    fields = (
        "id",
        "name",
        "state_label",
        "watermark_text",
        "lag",
        "spooled_count",
        "seen",
        "started",
        "silent",
        "dropped",
        "left",
        "batch",
        "spool_position",
    )
    readonly_fields = fields

    @admin.display(description="Process")
    def name(self, node: IngestNode) -> str:
        """Show host and process id."""
        return str(node)

    @admin.display(description="State")
    def state_label(self, node: IngestNode) -> SafeString:
        """Show whether the clock waits for it."""
        return node_label(node.facts(), now=utcnow())

    @admin.display(description="Stored up to", ordering="watermark")
    def watermark_text(self, node: IngestNode) -> SafeString:
        """Show the watermark."""
        return instant(node.watermark)

    @admin.display(description="Behind by")
    def lag(self, node: IngestNode) -> str:
        """Show how far the watermark is behind the newest report of the node."""
        return duration(node.seen_at - node.watermark)

    @admin.display(description="Last seen", ordering="seen_at")
    def seen(self, node: IngestNode) -> SafeString:
        """Show when it last reported."""
        return instant(node.seen_at, now=utcnow())

    @admin.display(description="Started", ordering="started_at")
    def started(self, node: IngestNode) -> SafeString:
        """Show when the process adopted the node."""
        return instant(node.started_at)

    @admin.display(description="Counted silence")
    def silent(self, node: IngestNode) -> str:
        """Show how much of its silence the clock has counted; too much drops the node."""
        if node.silent_since is None or node.silence_seen_at is None:
            return duration(None)
        return duration(node.silence_seen_at - node.silent_since)

    @admin.display(description="Dropped")
    def dropped(self, node: IngestNode) -> SafeString:
        """Show when the clock stopped waiting for it."""
        return instant(node.dropped_at)

    @admin.display(description="Left")
    def left(self, node: IngestNode) -> SafeString:
        """Show when it stopped."""
        return instant(node.left_at)
