"""The settings of a monitor: what it is called, whose it is, when it fails, and its end."""

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts.roles import Action
from checkins.editing import delete_monitors
from dashboard.monitor_form import store_monitor
from dashboard.pages.access import find_monitor, form, rights_in
from dashboard.pages.auditlog.fields import label_of, value_text
from dashboard.pages.buttons import actor_of
from dashboard.pages.settings.form import SettingsForm
from dashboard.texts import said
from lib.wallclock import utcnow
from monitors.dependencies import DependencyError
from monitors.models import ConfigChange, Monitor
from monitors.services import hold_monitors

CHANGES_SHOWN = 10


@form
@transaction.atomic
def edit_monitor(request: HttpRequest, project: str, slug: str) -> HttpResponse:
    """Show the form, or write what the person changed and go back to the monitor."""
    row = find_monitor(request, project, slug)
    rights = rights_in(request, row.project_id)
    rights.demand(Action.EDIT_MONITORS)
    if request.method == "POST":
        hold_monitors([row.pk])
    # As it is now that no other edit can come between; the form puts what was typed into a row of its own.
    row, typed_row = find_monitor(request, project, slug), find_monitor(request, project, slug)
    if request.POST.get("do") == "delete":
        rights.demand(Action.DELETE)
        now = utcnow()
        delete_monitors([row.pk], now=now, by=actor_of(request, at=now))
        messages.success(request, _("%(monitor)s was deleted.") % {"monitor": row.name})
        return redirect("project", row.project.slug)
    typed = SettingsForm(request.POST or None, instance=typed_row)
    if request.method == "POST" and _is_stored(request, typed, row):
        messages.success(request, _("%(monitor)s was changed.") % {"monitor": typed_row.name})
        return redirect("monitor", row.project.slug, typed_row.slug)
    changes = [
        (change, _in_words(change)) for change in row.config_changes.order_by("-changed_at", "-id")[:CHANGES_SHOWN]
    ]
    context = {"now": utcnow(), "monitor": row, "rights": rights, "form": typed, "changes": changes}
    return render(request, "pages/monitor_settings.html", context, status=422 if request.method == "POST" else 200)


def _in_words(change: ConfigChange) -> list[str]:
    """Return what a check-in changed, as "crontab: 0 3 * * * → 0 4 * * *"."""
    return [
        f"{label_of(column)}: {value_text(column, before)} → {value_text(column, after)}"
        for column, (before, after) in change.difference.items()
    ]


def _is_stored(request: HttpRequest, typed: SettingsForm, row: Monitor) -> bool:
    """Store a valid form. Returns whether it was."""
    if not typed.is_valid():
        return False
    now = utcnow()
    try:
        with transaction.atomic():
            store_monitor(typed, now=now, by=actor_of(request, at=now))
    except DependencyError as error:  # Somebody has just closed a circle from the other side.
        typed.add_error("depends_on", said(error))
        return False
    except IntegrityError:
        # Somebody has taken the slug in this moment; anything else is a fault.
        if not Monitor.objects.filter(project=row.project_id, slug=typed.cleaned_data.get("slug")).exists():
            raise
        typed.add_error("slug", _("The project has a monitor with this slug already."))
        return False
    return True
