"""Pages of routes: which incidents go to which channels, and what happens until somebody acknowledges them."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, label
from dashboard.admin.forecasts import warn_of_uncaught
from dashboard.admin.permissions import GrantedPermissions
from dashboard.admin.recording import RecordedAdmin
from dashboard.admin.unfold import AutocompleteSelectFilter
from dashboard.route_form import RouteForm
from incidents.models import Channel, Route, Unsubscription
from incidents.notifications.conditions import format_conditions
from incidents.notifications.previews import examine_routes
from lib.wallclock import utcnow


@admin.register(Route)
class RouteAdmin(RecordedAdmin, GrantedPermissions, InspectionAdmin):
    """Routes of projects, in their order."""

    form = RouteForm
    list_display = ("position", "name", "project", "conditions_text", "channels_text", "use_label", "is_enabled")
    list_display_links = ("name",)
    list_filter = (("project", AutocompleteSelectFilter),)
    search_fields = ("name",)
    list_select_related = ("project",)
    autocomplete_fields = ("project", "channels")
    ordering = ("project__name", "position", "id")
    fields = (
        "project",
        "name",
        "position",
        "conditions",
        "channels",
        "tells_owner",
        "continues",
        "is_fallback",
        "reminder_hours",
        "escalation",
        "loops",
        "is_enabled",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        """Routes with their channels, and who unsubscribed from these."""
        rows: QuerySet[Route] = super().get_queryset(request)
        return rows.prefetch_related("channels__unsubscriptions")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("incidents.delete_route")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Warn of monitors that nobody would be notified of."""
        warn_of_uncaught(request)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add to the routes of one page why they catch nothing, if so."""
        changelist = super().get_changelist_instance(request)
        shown = list(changelist.result_list)
        idle = examine_routes({route.project_id for route in shown}).idle
        for route in shown:
            route.idle_because = idle.get(route.pk, "")
        changelist.result_list = shown
        return changelist

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the route with its conditions."""
        with transaction.atomic():
            form.fill()
            obj.changed_at = utcnow()
            if not change:
                obj.save()
                return
            self.save_changes(obj, form)
            obj.save(update_fields=["matchers", "steps", "changed_at"])

    @admin.display(description="Conditions")
    def conditions_text(self, route: Route) -> str:
        """Show its conditions on one line."""
        if route.is_fallback:
            return "fallback: when another channel fails"
        return format_conditions(route.matchers).replace("\n", "; ") or "everything"

    @admin.display(description="Channels")
    def channels_text(self, route: Route) -> str | SafeString:
        """Show the names of its channels."""
        return ", ".join(sorted(map(_with_refusals, route.channels.all()))) or label("nobody", "doubtful") or NOTHING

    @admin.display(description="Catches")
    def use_label(self, route: Any) -> SafeString | str:
        """Show a route that catches nothing, with the reason."""
        if not route.is_enabled or route.is_fallback:
            return NOTHING
        because = getattr(route, "idle_because", "")
        return label("nothing", "doubtful", title=f"{because[:1].upper()}{because[1:]}.") if because else "some"


def _with_refusals(channel: Channel) -> str:
    count = sum(one.topic == Unsubscription.Topic.ALERTS for one in channel.unsubscriptions.all())
    return f"{channel} ({count} unsubscribed)" if count else str(channel)
