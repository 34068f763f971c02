"""The form of a route, for its page and for the admin; its conditions and the steps of its escalation are lines."""

from collections.abc import Collection
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from dashboard.editing import EditForm
from dashboard.texts import said
from incidents.models import Channel, Route
from incidents.notifications import configuring, pursuit
from incidents.notifications.conditions import format_conditions, parse_lines
from incidents.notifications.routing import ConditionError
from monitors.models import Project


class RouteForm(EditForm):
    """A route."""

    fixed: Collection[str] = ("project",)
    in_words = ("conditions", "escalation")

    conditions = forms.CharField(
        label=_("Conditions"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_(
            "One condition a line, all must hold: “tag is db”, “monitor like nightly-*”, "
            "“environment is production, staging”, “kind is missed, timeout”, “severity is critical”. "
            "Empty: it catches everything."
        ),
    )
    reminder_hours = forms.IntegerField(
        label=_("Reminder hours"),
        required=False,
        min_value=0,
        max_value=pursuit.REMINDER_HOURS_MAX,
        help_text=_(
            "Hours until people are reminded of an incident that nobody has acknowledged; then at longer "
            "intervals. Empty: as the setting REMINDER_HOURS says. 0: never."
        ),
    )
    escalation = forms.CharField(
        label=_("Escalation"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_(
            "Who is notified while nobody has acknowledged an incident. One step a line: “30 minutes: pager, leads”, "
            "counted from the opening or the step before."
        ),
    )
    loops = forms.IntegerField(
        label=_("Loops"),
        required=False,
        min_value=0,
        max_value=pursuit.LOOPS_MAX,
        initial=0,
        help_text=format_lazy(
            _("How often all steps are done again after the last one, at most {most} times."), most=pursuit.LOOPS_MAX
        ),
    )

    class Meta:
        model = Route
        fields = [
            "project",
            "name",
            "position",
            "channels",
            "tells_owner",
            "continues",
            "is_fallback",
            "reminder_hours",
            "loops",
            "is_enabled",
        ]
        labels = {
            "name": _("Name"),
            "channels": _("Channels"),
            "tells_owner": _("The owner and the assignee too"),
            "continues": _("Continues"),
            "is_fallback": _("Fallback"),
            "is_enabled": _("Enabled"),
        }
        help_texts = {
            "position": _("Routes are tried from the lowest number on. The first that catches an incident ends it."),
            "tells_owner": _(
                "Also the member who owns the monitor (user:name, or user: and an address), and the one to whom its "
                "issue is assigned, by mail, if their preferences allow it."
            ),
            "continues": _("Later routes are tried too."),
            "is_fallback": _("It catches no incident: its channels are notified when another channel fails."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        route = kwargs.get("instance")
        texts = {
            "conditions": format_conditions(getattr(route, "matchers", None) or []),
            "escalation": steps_text(route) if route is not None and route.pk else "",
        }
        kwargs["initial"] = texts | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)

    def clean_conditions(self) -> str:
        """Refuse what is no condition, with what is allowed."""
        text: str = self.cleaned_data["conditions"]
        try:
            parse_lines(text)
        except ConditionError as error:
            raise forms.ValidationError(said(error)) from None
        return text

    def clean_loops(self) -> int:
        """Take an empty field as none."""
        return self.cleaned_data["loops"] or 0

    def project(self) -> Project | None:
        """Return the project of the route; None while none was chosen."""
        return self.cleaned_data.get("project") or (self.instance.project if self.instance.project_id else None)

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps as they are stored. Raises StepError."""
        project = self.project()
        channels = Channel.objects.filter(project=project, removed_at__isnull=True).values_list("name", "pk")
        return pursuit.read_step_lines(self.cleaned_data["escalation"], dict(channels) if project else {})

    def clean(self) -> dict[str, Any]:
        """Accept channels of the same project only."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        project = self.project()
        foreign = [
            str(channel)
            for channel in cleaned.get("channels") or ()
            if channel.project_id != getattr(project, "pk", None)
        ]
        if "escalation" in self.changed_data and "escalation" in cleaned:
            try:
                self.steps()
            except pursuit.StepError as error:
                self.add_error("escalation", said(error))
        if foreign:
            text = gettext("These belong to another project: %(names)s.")
            self.add_error("channels", text % {"names": ", ".join(foreign)})
        if not self.instance.pk and Route.objects.filter(project=project).count() >= configuring.ROUTES_MAX:
            text = gettext("The project has %(count)d routes; no more are allowed.")
            self.add_error(None, text % {"count": configuring.ROUTES_MAX})
        return cleaned

    def fill(self) -> None:
        """Put the lines that were changed into the row, which is not stored here."""
        if "conditions" in self.cleaned_data:
            self.instance.matchers = parse_lines(self.cleaned_data["conditions"])
        if "escalation" in self.changed_data:
            self.instance.steps = self.steps()


def steps_text(route: Route) -> str:
    """Return the steps of a route's escalation as lines."""
    names = Channel.objects.filter(project=route.project_id, removed_at__isnull=True).values_list("pk", "name")
    return pursuit.write_step_lines(route.steps, dict(names)) if route.steps else ""
