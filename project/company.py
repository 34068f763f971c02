"""The settings of allauth for a company's provider of OpenID Connect."""

import hashlib
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from project import env


def from_environment() -> tuple[str, str, dict[str, Any]]:
    """Return issuer, name and SOCIALACCOUNT_PROVIDERS. Raises ImproperlyConfigured for an issuer without a client."""
    issuer = env.web_address("OIDC_ISSUER")
    name = env.text("OIDC_NAME", default="single sign-on")
    client_id, secret = env.text("OIDC_CLIENT_ID", default=""), env.text("OIDC_CLIENT_SECRET", default="")
    if issuer and not client_id:
        raise ImproperlyConfigured(
            "OIDC_ISSUER is set, and OIDC_CLIENT_ID is not: the provider shows it for the client."
        )
    return issuer, name, providers(issuer, client_id=client_id, secret=secret, name=name)


def apps(issuer: str) -> list[str]:
    """Return what is installed for it. With it comes an HTTP client of 4 MiB, so only where there is an issuer."""
    return ["allauth.socialaccount.providers.openid_connect"] if issuer else []


def provider_id(issuer: str) -> str:
    """Return under which name identities are stored: another issuer may have the same ones, for other people."""
    return f"oidc-{hashlib.sha256(issuer.encode()).hexdigest()[:12]}"


def providers(issuer: str, *, client_id: str, secret: str, name: str) -> dict[str, Any]:
    """Return SOCIALACCOUNT_PROVIDERS; without an issuer there is no provider."""
    app = {
        "provider_id": provider_id(issuer),
        "name": name,
        "client_id": client_id,
        "secret": secret,
        "settings": {"server_url": issuer},
    }
    return {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app] if issuer else []}}
