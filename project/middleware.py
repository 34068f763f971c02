"""Django's common middleware, made safe for check-ins."""

from django.conf import settings
from django.http import HttpRequest
from django.middleware.common import CommonMiddleware


class CommonMiddlewareThatKeepsCheckIns(CommonMiddleware):
    """Never answers an ingest path with a redirect to the same path plus a slash.

    Clients do not repeat a check-in, and turn a redirected POST into a GET without its body: it would be lost.
    """

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        """Whether a slash would make the path known; always false for ingest paths."""
        if request.path_info.lstrip("/").startswith(settings.INGEST_PATHS):
            return False
        return super().should_redirect_with_slash(request)
