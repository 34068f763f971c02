"""Pages of an account that are not allauth's."""

from allauth.account.views import password_change
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache


@never_cache
@login_required
def password(request: HttpRequest) -> HttpResponseBase:
    """Change one's password. Who logs in at a company has none here."""
    assert isinstance(request.user, User)
    if not request.user.has_usable_password():
        return render(request, "account/no_password.html")
    answer: HttpResponseBase = password_change(request)
    return answer
