"""What every request for a page passes through."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.middleware import security

Answer = Callable[[HttpRequest], HttpResponseBase]

PAGES_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ADMIN_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'self'; "
    "frame-src 'self'; frame-ancestors 'self'"
)
"""The theme of the admin brings expressions in attributes, which need eval."""


def content_policy(get_response: Answer) -> Answer:
    """Middleware: say what a page may load and run. Nothing from elsewhere, and on pages for people nothing inline."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        policy = ADMIN_POLICY if request.path.startswith("/admin/") else PAGES_POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return answer


class SecurityMiddleware(security.SecurityMiddleware):
    """Django's, but the web's own address on this machine is served as it is: no certificate is for 127.0.0.1."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        """Redirect to HTTPS, unless the page was asked for at a loopback address and came through no proxy."""
        host = request.headers.get("Host", "").rpartition(":")[0] or request.headers.get("Host", "")
        if host in settings.LOCAL_HOSTS and "X-Forwarded-For" not in request.headers:
            return None
        return super().process_request(request)
