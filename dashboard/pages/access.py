"""Who may open a page or press a button (shell): the one place that pages ask.

A project that a person is no member of does not exist for that person: 404, as for a name that nobody has. Who may see
a project and not do what was asked for gets 403, with a sentence.
"""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.membership import is_administrator, projects_of, rights_of, roles_by_project
from accounts.models import Membership
from accounts.roles import Action, Role, rights
from dashboard.vocabulary import word
from incidents.models import Incident, Issue
from monitors.models import Monitor, Project

View = Callable[..., HttpResponseBase]
PROJECTS_MAX = 1_000


def page(view: View) -> View:
    """A page for people with an account; all others are sent to the login. It is stored by no cache."""
    return never_cache(login_required(require_http_methods(["GET", "HEAD"])(view)))


def form(view: View) -> View:
    """A page with a form, or the address of a button, for people with an account."""
    return never_cache(login_required(require_http_methods(["GET", "HEAD", "POST"])(view)))


def button(view: View) -> View:
    """The address that a button posts to, for people with an account."""
    return never_cache(login_required(require_http_methods(["POST"])(view)))


def visible_projects(user: User | AnonymousUser) -> QuerySet[Project]:
    """Return the projects that a person may see. No statement: a part of the caller's."""
    return projects_of(user, Action.SEE)


def find_project(request: HttpRequest, slug: str) -> Project:
    """Return a project that the person may see. Raises Http404."""
    if "\x00" in slug:
        raise Http404
    return get_object_or_404(visible_projects(request.user), slug=slug)


def find_monitor(request: HttpRequest, project: str, slug: str) -> Monitor:
    """Return a monitor of a project that the person may see, with its project. Raises Http404."""
    if "\x00" in project + slug:  # No text of the database has one.
        raise Http404
    monitors = Monitor.objects.not_deleted().filter(project__in=visible_projects(request.user))
    return get_object_or_404(monitors.select_related("project"), project__slug=project, slug=slug)


def find_incident(request: HttpRequest, pk: int) -> Incident:
    """Return an incident of a project that the person may see, with its monitor and issue. Raises Http404.

    Those of what is deleted are gone, though their rows are removed later. So are issues.
    """
    related = ("monitor_environment__monitor__project", "monitor_environment__environment", "issue__assignee__user")
    projects = visible_projects(request.user)
    incidents = Incident.objects.filter(monitor_environment__monitor__project__in=projects)
    incidents = incidents.exclude(monitor_environment__status="pending_deletion")
    return get_object_or_404(incidents.select_related(*related), pk=pk)


def find_issue(request: HttpRequest, pk: int) -> Issue:
    """Return an issue of a project that the person may see, with its monitor. Raises Http404."""
    related = ("monitor_environment__monitor__project", "monitor_environment__environment", "assignee__user")
    issues = Issue.objects.filter(project__in=visible_projects(request.user))
    issues = issues.exclude(monitor_environment__status="pending_deletion")
    return get_object_or_404(issues.select_related(*related), pk=pk)


class Rights:
    """What a person may do in one project, for views and templates: `rights.mute` in a template is true or false."""

    def __init__(self, granted: frozenset[Action]) -> None:
        self._granted = granted

    def __getitem__(self, name: str) -> bool:
        """Return whether an action, by its name in small letters, is granted. Raises KeyError for an unknown one."""
        return Action[name.upper()] in self._granted

    def __contains__(self, action: Action) -> bool:
        return action in self._granted

    def demand(self, action: Action) -> None:
        """Raise PermissionDenied, with a sentence, unless the action is granted."""
        if action not in self._granted:
            raise PermissionDenied(_("Your role in this project may not %(action)s.") % {"action": word(action.value)})


def rights_in(request: HttpRequest, project_id: int) -> Rights:
    """Return what the person may do in a project. At most one statement."""
    return Rights(rights_of(request.user, project_id))


def rights_everywhere(request: HttpRequest) -> Callable[[int], Rights]:
    """Return what the person may do in each project, by its id. At most one statement."""
    if is_administrator(request.user):
        return lambda _: Rights(frozenset(Action))
    roles = roles_by_project(request.user)
    return lambda project_id: Rights(rights(roles.get(project_id)))


def projects_with_rights(request: HttpRequest) -> Sequence[tuple[str, str, Rights]]:
    """Return slug and name of the projects that the person may see, by name, with the rights there. One statement.

    For administrators, who have all rights in any number of projects, at most `PROJECTS_MAX`.
    """
    if is_administrator(request.user):
        rows = Project.objects.order_by("name").values_list("slug", "name")[:PROJECTS_MAX]
        return [(slug, name, Rights(frozenset(Action))) for slug, name in rows]
    if not request.user.is_active:
        return ()
    own = Membership.objects.filter(user_id=request.user.pk).order_by("project__name")
    return [
        (slug, name, Rights(rights(Role(role))))
        for slug, name, role in own.values_list("project__slug", "project__name", "role")
    ]


def sees_log(monitor: Monitor, rights: Rights) -> bool:
    """Return whether the person may see what the runs of a monitor print."""
    return not monitor.has_private_logs or Action.SEE_PRIVATE_LOGS in rights


def reader_language(request: HttpRequest) -> str:
    """Return the language in which sentences are shown."""
    language: Any = getattr(request, "LANGUAGE_CODE", "en")
    return "de" if str(language).startswith("de") else "en"
