"""Views of the wall that a person or a project keeps: name the current one, open, delete."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.membership import projects_of
from accounts.roles import Action
from dashboard.ids import row_id
from dashboard.models import SavedView
from dashboard.pages.access import form, rights_everywhere, visible_projects
from dashboard.pages.buttons import actor_of
from dashboard.pages.savedviews.form import SavedViewForm
from dashboard.pages.wall.filters import read_filters
from dashboard.pages.wall.rows import find_rows
from dashboard.saved_views import SavedViewError, delete_view, save_view, visible_views
from dashboard.texts import said
from lib.wallclock import utcnow

PROJECTS_SHOWN = 200


@form
def saved_views(request: HttpRequest) -> HttpResponse:
    """List the views of a person and of the projects, with a form that keeps the filters of this address by a name."""
    if request.POST.get("do") == "delete":
        _delete(request)
        return redirect("saved-views")
    now = utcnow()
    filters = read_filters(request.GET.dict())
    sharing = projects_of(request.user, Action.SHARE_VIEWS).order_by("name").values_list("id", "name")
    typed = SavedViewForm(request.POST or None, projects=list(sharing[:PROJECTS_SHOWN]))
    if request.method == "POST" and typed.is_valid():
        view = typed.view(request.user.pk, filters.query())
        try:
            save_view(view, by=actor_of(request, at=now))
        except SavedViewError as error:
            typed.add_error("name", said(error))
        else:
            messages.success(request, _("The view %(view)s was saved.") % {"view": view})
            return redirect(f"{reverse('wall')}?{view.query}")
    rights = rights_everywhere(request)
    shown = [
        (view, view.project_id is None or Action.SHARE_VIEWS in rights(view.project_id))
        for view in visible_views(request.user)
    ]
    rows = find_rows(visible_projects(request.user), filters, now=now, person=request.user)
    context = {"now": now, "form": typed, "filters": filters, "query": filters.query(), "views": shown}
    context["count"] = rows.count()
    return render(request, "pages/saved_views.html", context, status=422 if request.method == "POST" else 200)


def _delete(request: HttpRequest) -> None:
    view = visible_views(request.user).filter(pk=row_id(request.POST.get("view", ""))).first()
    if view is None:
        raise Http404(_("There is no such view."))
    _demand(request, view)
    delete_view(view, by=actor_of(request, at=utcnow()))
    messages.success(request, _("The view %(view)s was deleted.") % {"view": view})


def _demand(request: HttpRequest, view: SavedView) -> None:
    if view.project_id is not None:
        rights_everywhere(request)(view.project_id).demand(Action.SHARE_VIEWS)
