"""What a person prefers: time zone and language of the pages, and how the person is notified."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.translation import gettext as _

from accounts.preferences import address_of
from dashboard.pages.access import form
from dashboard.pages.buttons import actor_of
from dashboard.pages.channels.facts import is_test_on_its_way
from dashboard.pages.preferences.form import PreferencesForm
from dashboard.pages.schedule.form import zone_names
from dashboard.texts import said
from incidents.models import Channel
from incidents.notifications import configuring
from incidents.notifications.configuring import ChannelError
from incidents.notifications.personal import let_projects_notify, save_preferences
from lib.wallclock import utcnow

YEAR_SECONDS = 365 * 86_400


@form
def preferences(request: HttpRequest) -> HttpResponse:
    """Show the form, or store what was typed."""
    assert isinstance(request.user, User)
    if request.POST.get("do") == "test":
        _send_test(request, request.user)
        return redirect("preferences")
    typed = PreferencesForm(request.POST or None, user=request.user)
    if request.method == "POST" and typed.is_valid() and _is_stored(request, typed, request.user):
        return _stored(request, typed.cleaned_data["language"])
    context = {"now": utcnow(), "form": typed, "zones": zone_names()}
    return render(request, "account/preferences.html", context, status=422 if request.method == "POST" else 200)


def _send_test(request: HttpRequest, user: User) -> None:
    """Send a mail to the person, over one of the channels that are the person."""
    now = utcnow()
    own = Channel.objects.filter(member__user=user, is_enabled=True, removed_at__isnull=True).order_by("id").first()
    if own is not None and is_test_on_its_way(own, now=now):
        messages.warning(request, _("A test is on its way already."))
    elif own is not None and configuring.send_test(own, now=now, by=actor_of(request, at=now)):
        messages.success(request, _("A test is on its way to %(address)s.") % {"address": address_of(user)})
    else:
        messages.error(request, _("No project may notify you yet: choose one, and save."))


def _is_stored(request: HttpRequest, typed: PreferencesForm, user: User) -> bool:
    by = actor_of(request, at=utcnow())
    try:
        with transaction.atomic():
            save_preferences(typed.preferences(), by=by)
            let_projects_notify(user, typed.cleaned_data.get("projects", ()), by=by)
    except ChannelError as error:
        typed.add_error("projects", said(error.problems["projects"]))
        return False
    return True


def _stored(request: HttpRequest, language: str) -> HttpResponse:
    """Return to the page. The browser remembers the language for the login, where nobody is known yet."""
    with translation.override(language or translation.get_language()):
        messages.success(request, _("Saved."))
    response = redirect("preferences")
    if language:
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME, language, YEAR_SECONDS, secure=request.is_secure(), samesite="Lax"
        )
    else:
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME, samesite="Lax")
    return response
