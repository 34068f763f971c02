"""Pages of routes: which incidents go to which channels, and what happens until somebody acknowledges them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, label
from dashboard.admin.editing import EditForm
from dashboard.admin.permissions import GrantedPermissions
from dashboard.admin.recording import RecordedAdmin
from dashboard.admin.unfold import AutocompleteSelectFilter
from incidents.models import Channel, Route, Unsubscription
from incidents.notifications import configuring, pursuit
from incidents.notifications.conditions import format_conditions, parse_lines
from incidents.notifications.previews import find_idle_routes
from incidents.notifications.routing import ConditionError
from lib.wallclock import utcnow


class RouteForm(EditForm):
    """A route; its conditions and the steps of its escalation are lines of text."""

    fixed = ("project",)
    in_words = ("conditions", "escalation")

    conditions = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="One condition a line, all must hold: “tag is db”, “monitor like nightly-*”, "
        "“environment is production, staging”, “kind is missed, timeout”, “severity is critical”. "
        "Empty: it catches everything.",
    )
    reminder_hours = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=pursuit.REMINDER_HOURS_MAX,
        help_text="Hours until people are reminded of an incident that nobody has acknowledged; then at longer "
        "intervals. Empty: as the setting REMINDER_HOURS says. 0: never.",
    )
    escalation = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="Who is told while nobody has acknowledged an incident. One step a line: “30 minutes: pager, leads”, "
        "counted from the opening or the step before.",
    )
    loops = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=pursuit.LOOPS_MAX,
        initial=0,
        help_text=f"How often all steps are done again after the last one, at most {pursuit.LOOPS_MAX} times.",
    )

    class Meta:
        model = Route
        fields = [
            "project",
            "name",
            "position",
            "channels",
            "continues",
            "is_fallback",
            "reminder_hours",
            "loops",
            "is_enabled",
        ]
        help_texts = {
            "position": "Routes are tried from the lowest number on. The first that catches an incident ends it.",
            "continues": "Later routes are tried too.",
            "is_fallback": "It catches no incident: its channels are told when another channel fails.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        route = kwargs.get("instance")
        texts = {
            "conditions": format_conditions(getattr(route, "matchers", None) or []),
            "escalation": _steps_text(route) if route is not None and route.pk else "",
        }
        kwargs["initial"] = texts | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)

    def clean_conditions(self) -> str:
        """Refuse what is no condition, with what is allowed."""
        text: str = self.cleaned_data["conditions"]
        try:
            parse_lines(text)
        except ConditionError as error:
            raise forms.ValidationError(str(error)) from None
        return text

    def clean_loops(self) -> int:
        """Take an empty field as none."""
        return self.cleaned_data["loops"] or 0

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps as they are stored. Raises StepError."""
        project = self.cleaned_data.get("project") or (self.instance.project if self.instance.pk else None)
        channels = Channel.objects.filter(project=project, removed_at__isnull=True).values_list("name", "pk")
        return pursuit.read_step_lines(self.cleaned_data["escalation"], dict(channels) if project else {})

    def clean(self) -> dict[str, Any]:
        """Accept channels of the same project only."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        project = cleaned.get("project") or (self.instance.project if self.instance.pk else None)
        foreign = [
            str(channel)
            for channel in cleaned.get("channels") or ()
            if channel.project_id != getattr(project, "pk", None)
        ]
        if "escalation" in self.changed_data and "escalation" in cleaned:
            try:
                self.steps()
            except pursuit.StepError as error:
                self.add_error("escalation", str(error))
        if foreign:
            self.add_error("channels", f"These belong to another project: {', '.join(foreign)}.")
        if not self.instance.pk and Route.objects.filter(project=project).count() >= configuring.ROUTES_MAX:
            self.add_error(None, f"The project has {configuring.ROUTES_MAX} routes; no more are allowed.")
        return cleaned


def _steps_text(route: Route) -> str:
    names = Channel.objects.filter(project=route.project_id, removed_at__isnull=True).values_list("pk", "name")
    return pursuit.write_step_lines(route.steps, dict(names)) if route.steps else ""


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

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add to the routes of one page why they catch nothing, if so."""
        changelist = super().get_changelist_instance(request)
        shown = list(changelist.result_list)
        idle = find_idle_routes({route.project_id for route in shown})
        for route in shown:
            route.idle_because = idle.get(route.pk, "")
        changelist.result_list = shown
        return changelist

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the route with its conditions."""
        with transaction.atomic():
            if "conditions" in form.cleaned_data:
                obj.matchers = parse_lines(form.cleaned_data["conditions"])
            if "escalation" in form.changed_data:
                obj.steps = form.steps()
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
