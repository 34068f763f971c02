"""Pages of ingest nodes."""

from datetime import timedelta

from django.contrib import admin
from django.utils.safestring import SafeString

from checkins.models import IngestNode
from dashboard.admin.base import InspectionAdmin, duration
from dashboard.admin.cells import instant, label
from lib.wallclock import utcnow

SILENCE_SHOWN_MIN = timedelta(seconds=5)
"""Between two signs of life every node is silent for a moment."""


@admin.register(IngestNode)
class IngestNodeAdmin(InspectionAdmin):
    """The processes that take check-ins, and for which of them the clock waits."""

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
        if node.left_at is not None:
            return label("left", "quiet", title="It stored everything and went away.")
        if node.dropped_at is not None:
            return label("dropped", "bad", title="It was silent for too long: the clock does not wait for it.")
        if (silence := _silence(node)) is not None and silence >= SILENCE_SHOWN_MIN:
            return label("silent", "doubtful", title=f"Not heard of for {duration(silence)}; the clock waits for it.")
        return label("live", "good", title="The clock applies no minute that it has not passed.")

    @admin.display(description="Stored up to", ordering="watermark")
    def watermark_text(self, node: IngestNode) -> SafeString:
        """Show the watermark."""
        return instant(node.watermark)

    @admin.display(description="Behind by")
    def lag(self, node: IngestNode) -> str:
        """Show how far the watermark is behind what the node saw last."""
        return duration(node.seen_at - node.watermark)

    @admin.display(description="Last heard of", ordering="seen_at")
    def seen(self, node: IngestNode) -> SafeString:
        """Show when it was last heard of."""
        return instant(node.seen_at, now=utcnow())

    @admin.display(description="Started", ordering="started_at")
    def started(self, node: IngestNode) -> SafeString:
        """Show when the process took the node over."""
        return instant(node.started_at)

    @admin.display(description="Silent for")
    def silent(self, node: IngestNode) -> str:
        """Show how long the clock has seen it silent."""
        return duration(_silence(node))

    @admin.display(description="Dropped")
    def dropped(self, node: IngestNode) -> SafeString:
        """Show when the clock gave it up."""
        return instant(node.dropped_at)

    @admin.display(description="Left")
    def left(self, node: IngestNode) -> SafeString:
        """Show when it went away."""
        return instant(node.left_at)


def _silence(node: IngestNode) -> timedelta | None:
    if node.silent_since is None or node.silence_seen_at is None:
        return None
    return node.silence_seen_at - node.silent_since
