"""The clock in the admin: which minutes were applied, when, and how far each shard has come. Nobody edits time."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from clocktasks.models import AppliedTick, HeldTick, ShardClock, Tick
from monitors.inspection import NOTHING, InspectionAdmin, duration, instant, label
from monitors.theme import ChoicesDropdownFilter, DropdownFilter
from monitors.wallclock import utcnow


class FinishedFilter(DropdownFilter):
    """Ticks that some shard has not applied yet. Index: tick_unfinished."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Offer the ones to worry about."""
        return [("unfinished", "unfinished")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tick]) -> QuerySet[Tick]:
        """Filter by the finishing instant."""
        return queryset.filter(finished_at__isnull=True) if self.value() == "unfinished" else queryset


@admin.register(Tick)
class TickAdmin(InspectionAdmin):
    """The ledger of minutes."""

    list_display = ("minute", "state_label", "dispatched", "lag", "missed_count", "timeout_count")
    list_filter = (FinishedFilter,)
    sortable_by = ("minute",)
    ordering = ("-at",)
    fields = ("minute", "state_label", "dispatched", "finished", "lag", "missed_count", "timeout_count")
    readonly_fields = fields

    @admin.display(description="Minute", ordering="at")
    def minute(self, tick: Tick) -> SafeString:
        """Show the minute."""
        return instant(tick.at)

    @admin.display(description="State")
    def state_label(self, tick: Tick) -> SafeString:
        """Show whether every shard has applied it."""
        return label("finished", "good") if tick.finished_at else label("running", "running")

    @admin.display(description="Dispatched")
    def dispatched(self, tick: Tick) -> SafeString:
        """Show when it was written."""
        return instant(tick.dispatched_at)

    @admin.display(description="Finished")
    def finished(self, tick: Tick) -> SafeString:
        """Show when the last shard had applied it."""
        return instant(tick.finished_at)

    @admin.display(description="Finished after")
    def lag(self, tick: Tick) -> str:
        """Show how long after its minute it was finished."""
        return duration(tick.finished_at - tick.at) if tick.finished_at else str(NOTHING)


@admin.register(HeldTick)
class HeldTickAdmin(InspectionAdmin):
    """The minutes that waited for ingest nodes, and why."""

    list_display = ("minute", "noticed", "reason")
    sortable_by = ("minute",)
    ordering = ("-at",)
    fields = ("minute", "noticed", "reason")
    readonly_fields = fields

    @admin.display(description="Minute", ordering="at")
    def minute(self, held: HeldTick) -> SafeString:
        """Show the minute."""
        return instant(held.at)

    @admin.display(description="Waiting was noticed after")
    def noticed(self, held: HeldTick) -> str:
        """Show how late it was by then."""
        return duration(held.noticed_at - held.at)


@admin.register(ShardClock)
class ShardClockAdmin(InspectionAdmin):
    """How far each shard has come."""

    list_display = ("shard", "kind", "position_text")
    list_filter = (("kind", ChoicesDropdownFilter),)
    ordering = ("shard", "kind")
    fields = ("shard", "kind", "position_text")
    readonly_fields = ("position_text",)

    @admin.display(description="Applied up to", ordering="position")
    def position_text(self, clock: ShardClock) -> SafeString:
        """Show the newest tick that is applied, and how long ago that was."""
        return instant(clock.position, now=utcnow())


@admin.register(AppliedTick)
class AppliedTickAdmin(InspectionAdmin):
    """The ticks that changed something."""

    list_display = ("tick_text", "shard", "kind", "marked_count")
    list_filter = (("kind", ChoicesDropdownFilter),)
    sortable_by = ("tick_text",)
    ordering = ("-tick", "-id")
    fields = ("tick_text", "shard", "kind", "marked_count")
    readonly_fields = ("tick_text",)

    @admin.display(description="Tick", ordering="tick")
    def tick_text(self, applied: AppliedTick) -> SafeString:
        """Show the tick."""
        return instant(applied.tick)
