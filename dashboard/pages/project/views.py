"""Projects, and the settings of one: its members, its keys, its defaults."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts.exceptions import MembershipError
from accounts.models import Membership
from accounts.roles import Action, Role
from accounts.services import add_member, change_role, remove_member
from dashboard.addresses import base_url
from dashboard.ids import row_id
from dashboard.pages.access import Rights, button, find_project, page, rights_in, visible_projects
from dashboard.pages.buttons import actor_of
from dashboard.pages.overlap import OverlapForm
from dashboard.pages.project.facts import count_monitors, find_projects, load_invitations, load_keys, load_members
from dashboard.pages.project.form import ROLES, DefaultsForm, InvitationForm, NewKeyForm, NewMemberForm
from dashboard.pages.project.inviting import invite_or_withdraw
from dashboard.texts import said
from dashboard.vocabulary import word
from lib.wallclock import utcnow
from monitors.addresses import RotationError, create_key, note_keys_shown, replace_key, revoke_key
from monitors.models import IngestKey, Project
from monitors.services import lock_config_of_project
from monitors.snippets import project_lines

PROJECTS_SHOWN = 50


@page
def projects(request: HttpRequest) -> HttpResponse:
    """List the projects of the person, a page at a time."""
    text = request.GET.get("q", "")[:100].replace("\x00", "")
    found = find_projects(visible_projects(request.user), text)
    shown = Paginator(found, PROJECTS_SHOWN).get_page(request.GET.get("page"))
    context = {"now": utcnow(), "text": text, "shown": shown, "projects": count_monitors(list(shown))}
    return render(request, "pages/projects.html", context)


@page
def project(request: HttpRequest, project: str) -> HttpResponse:
    """Show the settings of a project."""
    row = find_project(request, project)
    return _show(request, _Ask(row, rights_in(request, row.pk), utcnow()))


@button
def act_on_project(request: HttpRequest, project: str) -> HttpResponse:
    """Do what a button or a form of the settings asks for."""
    row = find_project(request, project)
    return _act(request, _Ask(row, rights_in(request, row.pk), utcnow()))


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a person asks for: a project, the person's rights there, and when."""

    project: Project
    rights: Rights
    now: datetime


def _show(request: HttpRequest, ask: _Ask, *, status: int = 200, **more: Any) -> HttpResponse:
    sees_keys = Action.MANAGE_KEYS in ask.rights
    context: dict[str, Any] = {
        "now": ask.now,
        "project": ask.project,
        "rights": ask.rights,
        "members": load_members(ask.project),
        "roles": ROLES,
        "keys": load_keys(ask.project, now=ask.now) if sees_keys else [],
        "new_member": NewMemberForm(),
        "invitation": InvitationForm(),
        "invitations": load_invitations(ask.project, now=ask.now) if Action.MANAGE_MEMBERS in ask.rights else [],
        "new_key": NewKeyForm(),
        "overlap": OverlapForm(now=ask.now),
        "defaults": DefaultsForm({"is_config_locked": ask.project.is_config_locked}),
    }
    return render(request, "pages/project.html", context | more, status=status)


def _act(request: HttpRequest, ask: _Ask) -> HttpResponse:
    what = request.POST.get("do", "")
    if what in ("add", "role", "remove"):
        ask.rights.demand(Action.MANAGE_MEMBERS)
        return _change_members(request, ask, what)
    if what in ("invite", "withdraw"):
        ask.rights.demand(Action.MANAGE_MEMBERS)
        wrong = invite_or_withdraw(request, ask.project, what, by=actor_of(request, at=ask.now))
        if wrong is not None:
            return _show(request, ask, status=422, invitation=wrong)
        return redirect("project", ask.project.slug)
    if what in ("new-key", "show-key", "replace-key", "revoke-key"):
        ask.rights.demand(Action.MANAGE_KEYS)
        return _change_keys(request, ask, what)
    if what == "defaults":
        ask.rights.demand(Action.EDIT_MONITORS)
        form = DefaultsForm(request.POST)
        form.is_valid()
        lock_config_of_project(ask.project.pk, form.cleaned_data["is_config_locked"], by=actor_of(request, at=ask.now))
        messages.success(request, _("Saved."))
    else:
        messages.error(request, _("%(what)r cannot be done here.") % {"what": what[:50]})
    return redirect("project", ask.project.slug)


def _change_members(request: HttpRequest, ask: _Ask, what: str) -> HttpResponse:
    by = actor_of(request, at=ask.now)
    if what == "add":
        form = NewMemberForm(request.POST)
        if form.is_valid() and form.user is not None:
            try:
                add_member(ask.project.pk, form.user.pk, Role(form.cleaned_data["role"]), by=by)
            except MembershipError as error:
                form.add_error("name", said(error))
        if not form.is_valid():
            return _show(request, ask, status=422, new_member=form)
        messages.success(request, _("%(name)s is a member now.") % {"name": form.cleaned_data["name"]})
        return redirect("project", ask.project.slug)
    member = _find_member(request, ask.project)
    role = request.POST.get("role", "")
    try:
        if what == "remove":
            remove_member(ask.project.pk, member.user_id, by=by)
            messages.success(request, _("%(name)s is no member any more.") % {"name": member.user.get_username()})
        elif role in list(Role):
            change_role(ask.project.pk, member.user_id, Role(role), by=by)
            names = {"name": member.user.get_username(), "role": word(role)}
            messages.success(request, _("%(name)s is %(role)s now.") % names)
        else:
            messages.error(request, _("%(role)r is no role.") % {"role": role[:20]})
    except MembershipError as error:
        messages.error(request, said(error))
    else:
        if what == "remove" and member.user_id == request.user.pk:  # Who has left may not see the project any more.
            return redirect("projects")
    return redirect("project", ask.project.slug)


def _find_member(request: HttpRequest, project: Project) -> Membership:
    wanted = row_id(request.POST.get("member", ""))
    found = project.memberships.select_related("user").filter(pk=wanted).first()
    if found is None:
        raise Http404(_("There is no such member."))
    return found


def _change_keys(request: HttpRequest, ask: _Ask, what: str) -> HttpResponse:
    by = actor_of(request, at=ask.now)
    if what == "new-key":
        form = NewKeyForm(request.POST)
        if form.is_valid():
            try:
                return _show_key(request, ask, create_key(ask.project.pk, form.cleaned_data["label"], by=by))
            except RotationError as error:
                form.add_error("label", said(error))
        return _show(request, ask, status=422, new_key=form)
    key = _find_key(request, ask.project)
    if what == "show-key":
        return _show_key(request, ask, key)
    if what == "replace-key":
        overlap = OverlapForm(request.POST, now=ask.now)
        if overlap.is_valid():
            try:
                return _show_key(request, ask, replace_key(key, overlap.cleaned_data["ends_at"], by=by))
            except RotationError as error:
                overlap.add_error("ends_at", said(error))
        return _show(request, ask, status=422, overlap=overlap, replaced=key)
    if revoke_key(key, by=by):
        messages.success(request, _("%(key)s is revoked: check-ins with it are refused.") % {"key": key})
    return redirect("project", ask.project.slug)


def _show_key(request: HttpRequest, ask: _Ask, key: IngestKey) -> HttpResponse:
    """Show a key, which the audit log notes each time. No redirect: no address shows a key."""
    note_keys_shown([key], by=actor_of(request, at=ask.now), once=False)
    lines = project_lines(base_url(request), key.public_key, key.project_id)
    return _show(request, ask, shown=key, lines=[(line.title, line.text) for line in lines])


def _find_key(request: HttpRequest, project: Project) -> IngestKey:
    found = project.ingest_keys.filter(pk=row_id(request.POST.get("key", ""))).first()
    if found is None:
        raise Http404(_("There is no such key."))
    return found
