"""The pages of channels: where the people of a project are notified, whether it works, and who would be notified."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.roles import Action
from dashboard.channel_form import PREFIX, store_channel
from dashboard.editing import lock_row
from dashboard.moments import READER_ZONE
from dashboard.pages.access import button, find_project, form, page, rights_in
from dashboard.pages.buttons import actor_of
from dashboard.pages.channels.facts import (
    ask,
    is_awaited,
    is_test_on_its_way,
    load_channel,
    load_channels,
    load_routes,
    load_tests,
    suggested_monitors,
)
from dashboard.pages.channels.forms import ChannelPageForm, form_of
from dashboard.pages.schedule.form import zone_names
from dashboard.texts import said
from incidents.handling.calling_back import describe_way_back
from incidents.models import Channel
from incidents.models.channels import EMAIL
from incidents.notifications import configuring
from incidents.notifications.configuring import ChannelError
from incidents.notifications.routing import KINDS
from incidents.notifications.unsubscribing import subscribe_again
from lib.wallclock import utcnow
from monitors.models import Project


@page
def project_channels(request: HttpRequest, project: str) -> HttpResponse:
    """Show the channels and routes of a project, and who would be notified of a failure."""
    row = find_project(request, project)
    found = load_routes(row)
    context = {
        "now": utcnow(),
        "project": row,
        "rights": rights_in(request, row.pk),
        "channels": load_channels(row),
        "routes": found.routes,
        "fallback": found.fallback,
        "uncaught": found.uncaught,
        "monitors": suggested_monitors(row),
        **_question(request, row),
    }
    return render(request, "pages/channels.html", context)


@page
def preview_routes(request: HttpRequest, project: str) -> HttpResponse:
    """Return who would be notified if a monitor failed, as a part of the page."""
    return render(request, "pages/route_preview.html", _question(request, find_project(request, project)))


def _question(request: HttpRequest, project: Project) -> dict[str, Any]:
    slug, kind = request.GET.get("monitor", "")[:200], request.GET.get("kind", "")
    return {"slug": slug, "kind": kind, "kinds": KINDS, "asked": ask(project, slug, kind)}


@form
def new_channel(request: HttpRequest, project: str) -> HttpResponse:
    """Ask for the kind of a new channel, then for its settings, and create it."""
    row = find_project(request, project)
    rights_in(request, row.pk).demand(Action.MANAGE_CHANNELS)
    kind = request.GET.get("kind", "")
    if kind not in configuring.KINDS:
        return render(request, "pages/channel_kinds.html", {"project": row, "kinds": configuring.KINDS.items()})
    zone = READER_ZONE.get()
    channel = Channel(project=row, kind=kind)
    typed = form_of(kind, {})(
        request.POST or None, instance=channel, initial={"timezone": "UTC" if zone is None else zone.key}
    )
    if request.method == "POST" and _is_stored(request, typed, is_new=True):
        messages.success(
            request, _("%(channel)s was added. Send a test to see whether it works.") % {"channel": channel}
        )
        return redirect("channel", row.slug, channel.pk)
    context = {"now": utcnow(), "project": row, "form": typed, "kind": configuring.KINDS[kind], "zones": zone_names()}
    return render(request, "pages/channel_new.html", context, status=422 if request.method == "POST" else 200)


@form
@transaction.atomic
def channel(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Show a channel, its state and the answers to tests; owners change its settings."""
    now = utcnow()
    row = find_project(request, project)
    rights = rights_in(request, row.pk)
    if request.method == "POST":
        rights.demand(Action.MANAGE_CHANNELS)
        lock_row(Channel.objects.all(), _find(row, pk))
    found = _find(row, pk)
    if request.method == "POST" and found.is_personal:
        raise PermissionDenied(_("It follows the preferences of its person."))
    typed = None
    if Action.MANAGE_CHANNELS in rights and not found.is_personal:
        typed = form_of(found.kind, configuring.stored_secrets(found))(request.POST or None, instance=found)
        if request.method == "POST" and _is_stored(request, typed, is_new=False):
            messages.success(request, _("%(channel)s was changed.") % {"channel": found})
            return redirect("channel", row.slug, pk)
    stored = _find(row, pk)  # The form has put what was typed into the other one.
    context = {
        "now": now,
        "project": row,
        "rights": rights,
        "shown": load_channel(stored),
        "channel": stored,
        "form": typed,
        "zones": zone_names(),
        "way_back": "" if stored.kind == EMAIL or typed is None else describe_way_back(stored),
        "unsubscribed": stored.unsubscriptions.order_by("address", "topic") if rights["manage_channels"] else (),
        **(_tests(request, stored) if rights["manage_channels"] else {}),
    }
    return render(request, "pages/channel.html", context, status=422 if request.method == "POST" else 200)


@page
def channel_tests(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Return the answers to tests of a channel, as a part of its page."""
    row = find_project(request, project)
    rights_in(request, row.pk).demand(Action.MANAGE_CHANNELS)
    found = _find(row, pk)
    context = {"now": utcnow(), "project": row, "channel": found, **_tests(request, found)}
    return render(request, "pages/channel_tests.html", context)


def _tests(request: HttpRequest, channel: Channel) -> dict[str, Any]:
    ids = request.GET.get("tests", "")[:1_000]
    tests = load_tests(channel, ids)
    return {"tests": tests, "tests_query": ids, "is_awaited": is_awaited(tests, now=utcnow())}


@button
def act_on_channel(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Do what a button asks for: send a test, subscribe addresses again, remove."""
    now = utcnow()
    row = find_project(request, project)
    found = _find(row, pk)
    rights_in(request, row.pk).demand(Action.MANAGE_CHANNELS)
    by = actor_of(request, at=now)
    match request.POST.get("do"):
        case "test" if is_test_on_its_way(found, now=now):
            messages.warning(request, _("A test is on its way already; its answer will be under the messages."))
        case "test":
            tests = configuring.send_test(found, now=now, by=by)
            if tests:
                ids = ",".join(str(test.pk) for test in tests)
                return redirect(f"{reverse('channel', args=[project, pk])}?tests={ids}#tests")
            messages.error(request, _("Nobody receives it: all addresses have unsubscribed."))
        case "subscribe":
            count = subscribe_again([found], by=by)
            messages.success(request, _("Addresses subscribed again: %(count)d.") % {"count": count})
        case "remove":
            configuring.remove_channel(found, now=now, by=by)
            messages.success(request, _("%(channel)s was removed.") % {"channel": found})
            return redirect("project-channels", project)
        case unknown:
            messages.error(request, _("%(what)r cannot be done here.") % {"what": str(unknown)[:50]})
    return redirect("channel", project, pk)


def _find(project: Project, pk: int) -> Channel:
    return get_object_or_404(Channel, project=project, pk=pk, removed_at__isnull=True)


def _is_stored(request: HttpRequest, typed: ChannelPageForm, *, is_new: bool) -> bool:
    """Store what was typed if it can be used; else its errors stand beside the fields."""
    if not typed.is_valid():
        return False
    try:
        store_channel(typed, is_new=is_new, by=actor_of(request, at=utcnow()))
    except ChannelError as error:
        for name, sentence in error.problems.items():
            field = next((one for one in (name, f"{PREFIX}{name}") if one in typed.fields), None)
            typed.add_error(field, said(sentence))
        return False
    return True
