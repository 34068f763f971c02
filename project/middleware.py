"""What every request for a page passes through."""

from django.conf import settings
from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.middleware import security


class SecurityMiddleware(security.SecurityMiddleware):
    """Django's, but the web's own address on this machine is served as it is: no certificate is for 127.0.0.1."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        """Redirect to HTTPS, unless the page was asked for at a loopback address and came through no proxy."""
        host = request.headers.get("Host", "").rpartition(":")[0] or request.headers.get("Host", "")
        if host in settings.LOCAL_HOSTS and "X-Forwarded-For" not in request.headers:
            return None
        return super().process_request(request)
