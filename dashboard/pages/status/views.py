"""Status pages, badges and TV views of a project: owners make and revoke their addresses here."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.roles import Action
from dashboard.addresses import base_url
from dashboard.ids import row_id
from dashboard.models import ShareLink
from dashboard.pages.access import find_project, form, rights_in
from dashboard.pages.buttons import actor_of
from dashboard.pages.status.form import ShareForm
from dashboard.shared.links import ShareLinkError, revoke, share
from dashboard.texts import said
from lib.wallclock import utcnow
from monitors.models import Project

_VIEWS = {ShareLink.Kind.STATUS: "status-page", ShareLink.Kind.TV: "tv", ShareLink.Kind.BADGE: "badge-svg"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A link with its addresses: what people open, what shields.io asks, and what a README has."""

    link: ShareLink
    address: str
    json_address: str
    markdown: str


@form
def share_links(request: HttpRequest, project: str) -> HttpResponse:
    """Show the links of a project and a form for another one; make or revoke one."""
    row = find_project(request, project)
    rights = rights_in(request, row.pk)
    rights.demand(Action.MANAGE_STATUS_PAGES)
    if request.POST.get("do") == "revoke":
        _revoke(request, row)
        return redirect("share-links", row.slug)
    now = utcnow()
    initial = {"title": row.name, "monitor": request.GET.get("monitor", "")}
    typed = ShareForm(request.POST or None, project=row, initial=initial)
    if request.method == "POST" and typed.is_valid():
        try:
            made = share(typed.link(), by=actor_of(request, at=now))
        except ShareLinkError as error:
            typed.add_error(error.field, said(error))
        else:
            messages.success(request, _("%(title)s can be opened now.") % {"title": made.title})
            return redirect("share-links", row.slug)
    context = {"now": now, "project": row, "rights": rights, "form": typed, "links": _links(request, row)}
    return render(request, "pages/share_links.html", context, status=200 if request.method != "POST" else 422)


def _revoke(request: HttpRequest, project: Project) -> None:
    gone = revoke(project.pk, row_id(request.POST.get("link", "")), by=actor_of(request, at=utcnow()))
    if gone is None:
        messages.error(request, _("There is no such address any more."))
    else:
        messages.success(request, _("%(title)s is revoked: its address shows nothing.") % {"title": gone.title})


def _links(request: HttpRequest, project: Project) -> Sequence[Shown]:
    base = base_url(request)
    rows = ShareLink.objects.filter(project=project).select_related("monitor").order_by("kind", "title", "id")
    return [_shown(link, base) for link in rows]


def _shown(link: ShareLink, base: str) -> Shown:
    kind = ShareLink.Kind(link.kind)
    address = base + reverse(_VIEWS[kind], args=[link.address])
    if kind is not ShareLink.Kind.BADGE:
        return Shown(link, address, "", "")
    alternative = "".join(character for character in link.title if character not in "[]\\`")
    return Shown(link, address, base + reverse("badge-json", args=[link.address]), f"![{alternative}]({address})")
