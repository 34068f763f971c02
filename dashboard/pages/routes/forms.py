"""The form of a route on its page: that of the admin, in a project that is given."""

from typing import Any

from django import forms
from django.db import transaction
from django.db.models import Max

from audit.entries import Actor
from audit.recording import record
from dashboard.recording import form_entry
from dashboard.route_form import RouteForm
from incidents.models import Channel, Route


class RoutePageForm(RouteForm):
    """A route of one project, which `instance` has. A new one comes last; buttons move it."""

    fixed = ()
    field_order = (
        "name", "conditions", "channels", "tells_owner", "continues", "reminder_hours", "escalation", "loops",
        "is_fallback", "is_enabled",
    )  # fmt: skip

    class Meta(RouteForm.Meta):
        fields = [name for name in RouteForm.Meta.fields if name not in ("project", "position")]
        widgets = {"channels": forms.CheckboxSelectMultiple}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["channels"]
        assert isinstance(field, forms.ModelMultipleChoiceField)
        own = Channel.objects.filter(project_id=self.instance.project_id, removed_at__isnull=True)
        field.queryset = own.order_by("name")

    def _get_validation_exclusions(self) -> set[str]:
        # The name is unique in the project, and there is one fallback in it.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]  # not in its stubs
        return excluded - {"project"}


@transaction.atomic
def store_route(form: RoutePageForm, *, by: Actor) -> None:
    """Store the route of a valid form, and record what changed."""
    route = form.instance
    is_new = route.pk is None
    form.fill()
    route.changed_at = by.at
    if is_new:
        last = Route.objects.filter(project_id=route.project_id).aggregate(Max("position"))["position__max"] or 0
        route.position = last + 1
        form.save()
    else:
        columns = {field.name for field in route._meta.concrete_fields}
        route.save(update_fields={*(columns & form.written()), "matchers", "steps", "changed_at"})
        form._save_m2m()  # type: ignore[attr-defined]  # not in its stubs
    record([form_entry(form, is_new=is_new)], by=by)
