"""Logging in at a company's provider of OpenID Connect, through allauth.socialaccount (shell).

Somebody is found by the identity that the provider gave before, or by an address that the provider has verified. There
are new accounts only for members of a group with a role, or with `OIDC_CREATE_ACCOUNTS`. The roles follow the groups at
each login. An identity belongs to its issuer: with another provider nobody gets the account of somebody else.
"""

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from allauth.account.internal.userkit import filter_users_by_email
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter, get_adapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache

from accounts.groups import wanted_roles
from accounts.single_sign_on import actor, apply_groups
from audit.entries import Entry
from audit.recording import record
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)


@never_cache
def log_in(request: HttpRequest) -> HttpResponseBase:
    """Go to the provider. A link, not a form: the content policy forbids forms that end at another server."""
    import requests  # 4 MiB, which an instance without a provider does not need.

    if request.method != "GET" or "process" in request.GET:  # Nothing but logging in, as joining two accounts.
        raise Http404
    if not company_name():
        raise Http404
    provider = get_adapter().get_provider(request, settings.OIDC_PROVIDER_ID)
    nonce = secrets.token_urlsafe()
    asked: dict[str, Any] = provider.get_redirect_from_request_kwargs(request)
    # Those of our settings, and nothing that an address adds.
    asked |= {"scope": provider.get_scope(), "auth_params": provider.get_auth_params() | {"nonce": nonce}}
    try:
        answer: HttpResponseBase = provider.redirect(request, nonce=nonce, **asked)
    except requests.RequestException as error:  # What it is asked for at the return is caught by allauth.
        return fail(request, error)
    except ImmediateHttpResponse as immediate:
        answer = immediate.response
    return answer


@never_cache
def come_back(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Take what the provider says."""
    from allauth.socialaccount.providers.openid_connect import views

    answer: HttpResponseBase = views.callback(request, provider_id)
    return answer


def company_name() -> str:
    """Return how the provider is called at the login; empty if there is none."""
    return settings.OIDC_NAME if settings.OIDC_ISSUER else ""


def wrong_in(data: Mapping[str, Any], *, nonce: str | None) -> str:
    """Return what is wrong with the token of a login, besides what allauth checks: empty if nothing is.

    allauth has compared its issuer, its audience and its end, if it has one. The nonce binds it to the browser that
    asked: else a code that was stolen from one login could be used in another one. What `userinfo` says has to be about
    the same person. Source: OpenID Connect Core 1.0, 3.1.3.7 and 5.3.2.
    """
    token = data.get("id_token")
    if not token:
        return "there is no id_token"
    if not nonce or token.get("nonce") != nonce:
        return "the id_token has another nonce"
    if missing := {"iss", "aud", "sub", "exp"} - token.keys():
        return f"the id_token has no {', '.join(sorted(missing))}"
    if (userinfo := data.get("userinfo")) and userinfo.get("sub") != token["sub"]:
        return "the id_token is about somebody else than userinfo"
    return ""


def groups_of(login: SocialLogin) -> list[str] | None:
    """Return the groups that the provider names; None if it names none at all, which is no answer."""
    data: dict[str, Any] = login.account.extra_data
    for part in ("userinfo", "id_token"):
        groups = (data.get(part) or {}).get(settings.OIDC_GROUPS_CLAIM)
        if isinstance(groups, str):
            return [groups]
        if isinstance(groups, list):
            return [str(group) for group in groups]
    return None


def follow_groups(user: User, login: SocialLogin) -> None:
    """Give a person who has just logged in the roles of the groups. Without an answer nothing changes."""
    groups = groups_of(login)
    if groups is None:
        if settings.OIDC_GROUP_ROLES:
            logger.warning("no claim %r for %r: roles stay", settings.OIDC_GROUPS_CLAIM, user.get_username())
        return
    apply_groups(user, groups, settings.OIDC_GROUP_ROLES, now=utcnow())


class CompanyAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Our rules. Its methods are called by allauth."""

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refuse a token for another login, and an address that an account has and the provider has not verified."""
        if wrong := wrong_in(sociallogin.account.extra_data, nonce=sociallogin.state.get("nonce")):
            raise ImmediateHttpResponse(fail(request, wrong))
        if not sociallogin.is_existing and any(
            filter_users_by_email(address.email) for address in sociallogin.email_addresses
        ):
            raise ImmediateHttpResponse(
                refuse(
                    request,
                    gettext("An account has your address, but your organization has not confirmed the address."),
                )
            )

    def is_open_for_signup(self, _request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Return whether somebody without an account gets one."""
        wanted = wanted_roles(groups_of(sociallogin) or [], settings.OIDC_GROUP_ROLES)
        return settings.OIDC_CREATE_ACCOUNTS or any(wanted.values())

    @transaction.atomic
    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """Create the account."""
        user: User = super().save_user(request, sociallogin, form)
        record([Entry("user", user.pk, user.get_username(), "created")], by=actor(utcnow()))
        return user

    def on_authentication_error(
        self, request: HttpRequest, _: object, exception: object = None, **more: object
    ) -> None:
        """Answer with a page that says what a person can do."""
        raise ImmediateHttpResponse(fail(request, exception or more.get("error")))


def fail(request: HttpRequest, why: object) -> HttpResponse:
    """Log that the provider gave no identity, and return a page."""
    logger.warning("the login at %s failed: %.300r", settings.OIDC_ISSUER, why)
    return refuse(request, gettext("The login of your organization gave no answer that can be used."))


def refuse(request: HttpRequest, why: str) -> HttpResponse:
    """Return the page of a login at the provider that led nowhere."""
    return render(request, "account/company_refused.html", {"why": why}, status=403)
