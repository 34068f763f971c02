"""Views of the wall that people keep by name, each change with its entry in the audit log (shell).

Whether a person may change those of a project is for the caller to check: `Action.SHARE_VIEWS`.
"""

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts.membership import projects_of
from accounts.roles import Action
from audit.entries import Actor, Entry
from audit.recording import record
from dashboard.exceptions import DashboardError
from dashboard.models import SavedView
from monitors.models import Project

VIEWS_MAX = 50
"""Views of a person, and of a project."""


class SavedViewError(DashboardError):
    """Why a view cannot be kept, as a sentence."""


def visible_views(user: User | AnonymousUser) -> QuerySet[SavedView]:
    """Return the views that a person may open, by name: the own ones, and those of the projects. One statement."""
    wanted = Q(user_id=user.pk) | Q(project__in=projects_of(user, Action.SEE))
    return SavedView.objects.filter(wanted).select_related("project").order_by("name", "id")


@transaction.atomic
def save_view(view: SavedView, *, by: Actor) -> None:
    """Store a new view. Raises SavedViewError if the name is taken, or there are too many.

    The row of the person or of the project is locked: views of one are added one after the other.
    """
    if view.project_id is not None:
        list(Project.objects.select_for_update(no_key=True).filter(pk=view.project_id).values_list("pk"))
        siblings = SavedView.objects.filter(project_id=view.project_id)
    else:
        assert view.user_id is not None, "it is of a person or a project"
        list(User.objects.select_for_update(no_key=True).filter(pk=view.user_id).values_list("pk"))
        siblings = SavedView.objects.filter(user_id=view.user_id)
    if siblings.count() >= VIEWS_MAX:
        raise SavedViewError(_("There are %(count)d views; no more are allowed. Delete one.") % {"count": VIEWS_MAX})
    view.created_at = by.at
    try:
        with transaction.atomic():
            view.save(force_insert=True)
    except IntegrityError as error:
        raise SavedViewError(_("There is a view %(name)r already.") % {"name": view.name}) from error
    record([_entry(view, "created")], by=by)


@transaction.atomic
def delete_view(view: SavedView, *, by: Actor) -> None:
    """Delete a view."""
    record([_entry(view, "deleted")], by=by)
    view.delete()


def _entry(view: SavedView, action: str) -> Entry:
    pair = (None, view.query) if action == "created" else (view.query, None)
    return Entry("saved view", view.pk, view.name, action, view.project_id, {"query": pair})
