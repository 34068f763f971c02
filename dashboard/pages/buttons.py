"""What all buttons of pages share: who pressed it, and where the person goes then."""

from datetime import datetime

from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme

from audit.entries import Actor, Source


def actor_of(request: HttpRequest, *, at: datetime) -> Actor:
    """Return the person who changes something on a page, for the audit log."""
    return Actor(name=request.user.get_username(), source=Source.PAGE, at=at, id=request.user.pk)


def back(request: HttpRequest, view: str, *arguments: object) -> HttpResponseRedirect:
    """Return to the page where the button is (`next`), if that is a page of this server, or else to a view."""
    address = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure()):
        address = resolve_url(view, *arguments)
    return HttpResponseRedirect(address)
