"""What a person prefers: time zone and language of the pages, and how the person is notified."""

import logging

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from accounts.models import Preferences
from accounts.preferences import LINK_DAYS, address_in, address_of, confirmation_of, preferences_of
from accounts.tasks import send_letter
from dashboard.addresses import base_url
from dashboard.mails import warn_without_mail_server
from dashboard.pages.access import form
from dashboard.pages.buttons import actor_of
from dashboard.pages.channels.facts import is_test_on_its_way
from dashboard.pages.preferences.form import PreferencesForm
from dashboard.pages.schedule.form import zone_names
from dashboard.texts import said
from incidents.models import Channel
from incidents.notifications import configuring
from incidents.notifications.configuring import ChannelError
from incidents.notifications.personal import confirm_address, let_projects_notify, save_preferences
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)
YEAR_SECONDS = 365 * 86_400


@form
def preferences(request: HttpRequest) -> HttpResponse:
    """Show the form, or store what was typed."""
    assert isinstance(request.user, User)
    if request.POST.get("do") == "test":
        _send_test(request, request.user)
        return redirect("preferences")
    if request.POST.get("do") == "link":
        _send_link(request, preferences_of(request.user))
        return redirect("preferences")
    typed = PreferencesForm(request.POST or None, user=request.user)
    if request.method == "POST" and typed.is_valid() and _is_stored(request, typed, request.user):
        return _stored(request, typed.cleaned_data["language"])
    context = {
        "now": utcnow(),
        "form": typed,
        "zones": zone_names(),
        "unconfirmed": preferences_of(request.user).unconfirmed_email,
        "address": address_of(request.user),
    }
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


def _send_link(request: HttpRequest, wanted: Preferences) -> None:
    """Send the link that confirms an address to it, if one waits for that, and not too often."""
    address = wanted.unconfirmed_email
    if not address:
        return
    if not ratelimit.consume(request, action="confirm_email", user=request.user):
        messages.error(request, _("Too many such mails were sent. Wait an hour, then try again."))
        return
    link = f"{base_url(request)}{reverse('confirm-address', args=[confirmation_of(wanted)])}"
    values = {"name": request.user.get_username(), "days": LINK_DAYS}
    text = _(
        "%(name)s wants to be notified at this address by Watchclock. Open this link within %(days)s days to confirm "
        "it. If that is not you, do nothing."
    )
    try:
        send_letter.delay(_("Watchclock: confirm your address"), f"{text % values}\n\n{link}\n", address)
    except OperationalError as error:
        logger.warning("a mail to confirm %r is lost, the broker is away: %s", address, error)
        messages.error(request, _("The mail could not be sent. Try again later."))
        return
    messages.info(request, _("Open the link in the mail to %(address)s to confirm it.") % {"address": address})
    warn_without_mail_server(request)


@form
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm an address by the link of a mail, as the person whose it is."""
    assert isinstance(request.user, User)
    address = address_in(token, request.user)
    if request.method == "POST" and confirm_address(request.user, address, by=actor_of(request, at=utcnow())):
        messages.success(request, _("You are notified at %(address)s from now on.") % {"address": address})
        return redirect("preferences")
    context = {"address": address}
    return render(request, "account/confirm_address.html", context, status=200 if address else 404)


def _is_stored(request: HttpRequest, typed: PreferencesForm, user: User) -> bool:
    by, wanted = actor_of(request, at=utcnow()), typed.preferences()
    waited = preferences_of(user).unconfirmed_email
    try:
        with transaction.atomic():
            save_preferences(wanted, by=by)
            let_projects_notify(user, typed.cleaned_data.get("projects", ()), by=by)
    except ChannelError as error:
        typed.add_error("projects", said(error.problems["projects"]))
        return False
    if wanted.unconfirmed_email != waited:
        _send_link(request, wanted)
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
