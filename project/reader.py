"""Who reads a page: the language and the time zone, as the person prefers, or else as the browser says (shell)."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

from accounts.preferences import preferences_of
from dashboard.login.factors import OPEN_WITHOUT
from dashboard.moments import READER_ZONE
from monitors.schedule import ScheduleError, parse_timezone, zone_to_show

COOKIE = "watchclock_zone"
"""Where a browser says in which zone it is. The language is in the header, or in Django's cookie."""


class ReaderMiddleware:
    """While a request is answered, its reader's language and zone are known; a zone that there is not is none.

    The admin is in English: half of it has no other texts.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer as the browser asks for."""
        language = "en" if _is_admin(request) else translation.get_language_from_request(request)
        token = READER_ZONE.set(_zone(unquote(request.COOKIES.get(COOKIE, ""))))
        try:
            with translation.override(language):
                request.LANGUAGE_CODE = language
                response = self._get_response(request)
        finally:
            READER_ZONE.reset(token)
        response.headers.setdefault("Content-Language", request.LANGUAGE_CODE)
        if not _is_admin(request):
            patch_vary_headers(response, ["Accept-Language"])
        return response

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        """Know better, if the person has an account and prefers something. At most one statement.

        Pages that open without an account are as the browser asks, for everybody: caches may store them.
        """
        name = request.resolver_match.url_name if request.resolver_match else None
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or name in OPEN_WITHOUT:
            return
        if not request.user.is_authenticated:
            return
        preferences = preferences_of(request.user)
        if zone := _zone(preferences.timezone):
            READER_ZONE.set(zone)
        if preferences.language and not _is_admin(request):
            translation.activate(preferences.language)
            request.LANGUAGE_CODE = preferences.language


def _is_admin(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/")


def _zone(name: str) -> ZoneInfo | None:
    try:
        return zone_to_show(parse_timezone(name)) if name else None
    except ScheduleError:
        return None
