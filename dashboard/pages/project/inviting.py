"""Inviting people to a project from its page, and the page that the link of the mail opens."""

import logging

from django import forms
from django.contrib import messages
from django.contrib.auth import password_validation
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from kombu.exceptions import OperationalError

from accounts.exceptions import MembershipError
from accounts.invitations import VALID_FOR, accept, accept_as_new, find_invitation, invite, token_of, withdraw
from accounts.models import Invitation
from accounts.roles import Role
from accounts.tasks import send_letter
from audit.entries import Actor, Source
from dashboard.addresses import base_url
from dashboard.ids import row_id
from dashboard.mails import warn_without_mail_server
from dashboard.pages.project.form import InvitationForm
from dashboard.texts import said
from lib.wallclock import utcnow
from monitors.models import Project

logger = logging.getLogger(__name__)


def invite_or_withdraw(request: HttpRequest, project: Project, what: str, *, by: Actor) -> InvitationForm | None:
    """Do what was asked for ("invite" or "withdraw"); returns the form if something in it is wrong."""
    if what == "withdraw":
        gone = withdraw(project.pk, row_id(request.POST.get("invitation", "")), by=by)
        if gone is not None:
            messages.success(request, _("%(address)s is no longer invited.") % {"address": gone.address})
        return None
    form = InvitationForm(request.POST)
    if form.is_valid():
        try:
            role = Role(form.cleaned_data["role"])
            _send(request, invite(project.pk, form.cleaned_data["address"], role, by=by), project)
        except MembershipError as error:
            form.add_error("address", said(error))
    return None if form.is_valid() else form


def _send(request: HttpRequest, invitation: Invitation, project: Project) -> None:
    link = f"{base_url(request)}{reverse('join', args=[token_of(invitation)])}"
    values = {"name": request.user.get_username(), "project": project.name, "days": VALID_FOR.days}
    subject = _("Watchclock: invitation to %(project)s") % {"project": " ".join(project.name.split())}
    text = _("%(name)s invites you to %(project)s. Open this link to join; it works once, for %(days)s days:") % values
    try:
        send_letter.delay(subject, f"{text}\n\n{link}\n", invitation.address)
    except OperationalError as error:
        logger.warning("an invitation to %r is lost, the broker is away: %s", invitation.address, error)
        messages.error(request, _("The mail could not be sent. Withdraw the invitation, and try again later."))
        return
    messages.success(request, _("%(address)s is invited.") % {"address": invitation.address})
    warn_without_mail_server(request)


class JoinForm(forms.Form):
    """A new account, for somebody who was invited."""

    name = forms.CharField(
        label=gettext_lazy("Name of the account"),
        max_length=150,
        validators=User._meta.get_field("username").validators,
        widget=forms.TextInput({"autocomplete": "username", "autocapitalize": "none"}),
    )
    password = forms.CharField(
        label=gettext_lazy("Password"), strip=False, widget=forms.PasswordInput({"autocomplete": "new-password"})
    )

    def clean_name(self) -> str:
        """Refuse a name that somebody has."""
        name: str = self.cleaned_data["name"]
        if User.objects.filter(Q(username__iexact=name) | Q(email__iexact=name)).exists():
            raise forms.ValidationError(_taken(name))
        return name

    def clean_password(self) -> str:
        """Refuse a password that is easy to guess."""
        password: str = self.cleaned_data["password"]
        password_validation.validate_password(password)
        return password


def _taken(name: str) -> str:
    return _("An account has the name %(name)s already.") % {"name": name}


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Accept an invitation: with the account that is logged in, or with a new one."""
    now = utcnow()
    invitation = find_invitation(token, now=now)
    if invitation is None:
        return render(request, "pages/join.html", status=404)
    context = {"invitation": invitation}
    user = request.user
    if user.is_authenticated:
        if request.method != "POST":
            return render(request, "pages/join.html", context)
        try:
            accept(invitation, user, by=Actor(user.get_username(), Source.LINK, now, user.pk))
        except MembershipError as error:
            messages.error(request, said(error))
        return redirect("projects")
    if User.objects.filter(email__iexact=invitation.address).exists():
        return render(request, "pages/join.html", context | {"has_account": True})
    form = JoinForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            accept_as_new(invitation, form.cleaned_data["name"], form.cleaned_data["password"], at=now)
        except MembershipError:  # Used in another window meanwhile.
            return redirect("join", token)
        except IntegrityError:  # Somebody else chose the name at this instant.
            form.add_error("name", _taken(form.cleaned_data["name"]))
            return render(request, "pages/join.html", context | {"form": form}, status=422)
        messages.success(request, _("Your account is there. Log in with it."))
        return redirect("account_login")
    return render(request, "pages/join.html", context | {"form": form}, status=422 if form.is_bound else 200)
