"""The clock in the admin: which minutes were applied and when, and the position of each shard. All read-only."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from clocktasks.models import AppliedTick, ClockIncident, HeldTick, ShardClock, Tick
from dashboard.admin.base import InspectionAdmin, duration
from dashboard.admin.cells import NOTHING, instant, label
from dashboard.admin.unfold import ChoicesDropdownFilter, DropdownFilter
from dashboard.clock.page import notified_label, percent, tick_label
from lib.wallclock import utcnow


class FinishedFilter(DropdownFilter):
    """Ticks that some shard has not applied yet. Index: tick_unfinished."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Offer the unfinished ones."""
        return [("unfinished", "unfinished")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tick]) -> QuerySet[Tick]:
        """Filter by the finishing instant."""
        return queryset.filter(finished_at__isnull=True) if self.value() == "unfinished" else queryset


class ListeningFilter(DropdownFilter):
    """Ticks that judge no job, or not yet. Indexes: tick_deaf, tick_undecided."""

    title = "reception"
    parameter_name = "heard"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Offer the unusual cases."""
        return [("deaf", "no listener"), ("incident", "far too few check-ins"), ("undecided", "not decided yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tick]) -> QuerySet[Tick]:
        """Filter by coverage and by the decision about the volume."""
        match self.value():
            case "deaf":
                return queryset.filter(is_listened=False)
            case "incident":
                return queryset.filter(decision="incident")
            case "undecided":
                return queryset.filter(decided_at__isnull=True)
        return queryset


@admin.register(Tick)
class TickAdmin(InspectionAdmin):
    """The ledger of minutes."""

    list_display = (
        "minute",
        "state_label",
        "lag",
        "listened",
        "volume",
        "deviation",
        "decision",
        "missed_count",
        "timeout_count",
        "unknown_count",
    )
    list_filter = (FinishedFilter, ListeningFilter)
    sortable_by = ("minute",)
    ordering = ("-at",)
    fields = (
        "minute",
        "state_label",
        "dispatched",
        "decided",
        "finished",
        "lag",
        "listened",
        "volume",
        "deviation",
        "volume_class",
        "decision",
        "missed_count",
        "timeout_count",
        "unknown_count",
    )
    readonly_fields = fields

    @admin.display(description="Minute", ordering="at")
    def minute(self, tick: Tick) -> SafeString:
        """Show the minute."""
        return instant(tick.at)

    @admin.display(description="State")
    def state_label(self, tick: Tick) -> SafeString:
        """Show whether every shard has applied it, or why it judges no job."""
        return tick_label(tick)

    @admin.display(description="Dispatched")
    def dispatched(self, tick: Tick) -> SafeString:
        """Show when it was written."""
        return instant(tick.dispatched_at)

    @admin.display(description="Decided")
    def decided(self, tick: Tick) -> SafeString:
        """Show when the volume of check-ins was decided upon."""
        return instant(tick.decided_at)

    @admin.display(description="Listened to", boolean=True, ordering="is_listened")
    def listened(self, tick: Tick) -> bool:
        """Show whether an ingest node listened in the minute before it."""
        return tick.is_listened

    @admin.display(description="Deviation")
    def deviation(self, tick: Tick) -> str:
        """Show how far the volume is from what was expected."""
        return percent(tick.deviation_percent)

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
    """Minutes that waited for ingest nodes, and why."""

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
        """Show how late the minute was when its wait was noticed."""
        return duration(held.noticed_at - held.at)


@admin.register(ShardClock)
class ShardClockAdmin(InspectionAdmin):
    """The position of each shard."""

    list_display = ("shard", "kind", "position_text")
    list_filter = (("kind", ChoicesDropdownFilter),)
    ordering = ("shard", "kind")
    fields = ("shard", "kind", "position_text")
    readonly_fields = ("position_text",)

    @admin.display(description="Applied up to", ordering="position")
    def position_text(self, clock: ShardClock) -> SafeString:
        """Show the newest applied tick, and how long ago that was."""
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


class OpenFilter(DropdownFilter):
    """Clock incidents by whether they are over."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Offer both."""
        return [("open", "ongoing"), ("over", "over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ClockIncident]) -> QuerySet[ClockIncident]:
        """Filter by the end."""
        if self.value() not in ("open", "over"):
            return queryset
        return queryset.filter(ended_at__isnull=self.value() == "open")


@admin.register(ClockIncident)
class ClockIncidentAdmin(InspectionAdmin):
    """Times without a listener or with far too few check-ins: what became unknown, and whether people were notified."""

    list_display = (
        "cause",
        "started",
        "ended",
        "lasted",
        "unknown_count",
        "environment_count",
        "notified",
    )
    list_filter = (OpenFilter, ("cause", ChoicesDropdownFilter))
    sortable_by = ("started", "unknown_count", "environment_count")
    ordering = ("-started_at",)
    fields = (*list_display[:4], "summarised", *list_display[4:])
    readonly_fields = fields

    @admin.display(description="From", ordering="started_at")
    def started(self, incident: ClockIncident) -> SafeString:
        """Show the beginning of its first minute."""
        return instant(incident.started_at)

    @admin.display(description="To")
    def ended(self, incident: ClockIncident) -> SafeString:
        """Show the end of its last minute."""
        return label("ongoing", "bad") if incident.ended_at is None else instant(incident.ended_at)

    @admin.display(description="Lasted")
    def lasted(self, incident: ClockIncident) -> str:
        """Show how long it lasted, until now if it is ongoing."""
        return duration((incident.ended_at or utcnow()) - incident.started_at)

    @admin.display(description="Summarised")
    def summarised(self, incident: ClockIncident) -> SafeString:
        """Show when its unknown check-ins were counted."""
        return instant(incident.summarised_at)

    @admin.display(description="Notified")
    def notified(self, incident: ClockIncident) -> SafeString:
        """Show when people were notified, or why not."""
        return notified_label(incident)
