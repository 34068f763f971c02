"""Pages of an account that are not allauth's."""

from collections.abc import Callable
from importlib import import_module

from allauth.account.views import password_change
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from dashboard.pages.access import form
from lib.wallclock import utcnow


@never_cache
@login_required
def password(request: HttpRequest) -> HttpResponseBase:
    """Change one's password. Who logs in at a company has none here."""
    assert isinstance(request.user, User)
    if not request.user.has_usable_password():
        return render(request, "account/no_password.html")
    answer: HttpResponseBase = password_change(request)
    return answer


@form
def sessions(request: HttpRequest) -> HttpResponse:
    """List where one is logged in, or end one of these sessions (`end`: its id) or all others (`end`: "others")."""
    own = UserSession.objects.purge_and_list(request.user)
    if request.method == "POST":
        ended = request.POST.get("end", "")
        for session in own:
            is_meant = not session.is_current() if ended == "others" else str(session.pk) == ended
            if is_meant:
                session.end()
                messages.success(request, _("Logged out: %(browser)s.") % {"browser": session})
        return redirect("usersessions_list")
    own.sort(key=lambda session: session.created_at, reverse=True)
    return render(request, "usersessions/sessions.html", {"sessions": own, "now": utcnow()})


def imported_later(module: str, name: str) -> Callable[..., HttpResponseBase]:
    """Return a view that is imported when it is asked for first: its libraries are large, and few requests need it."""

    def view(request: HttpRequest, **parts: object) -> HttpResponseBase:
        answer: HttpResponseBase = getattr(import_module(module), name)(request, **parts)
        return answer

    return view
