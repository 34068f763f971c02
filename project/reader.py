"""Who reads a page: the time zone that the browser names in a cookie, and the language (shell)."""

from collections.abc import Callable
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

from dashboard.moments import READER_ZONE
from monitors.schedule import ScheduleError, parse_timezone, zone_to_show

COOKIE = "watchclock_zone"
Answer = Callable[[HttpRequest], HttpResponse]


def reader_language(get_response: Answer) -> Answer:
    """Middleware: answer in the language that the reader chose, or else in the one that the browser asks for.

    The admin is in English: half of it has no other texts.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        is_admin = request.path.startswith("/admin/")
        language = "en" if is_admin else translation.get_language_from_request(request)
        with translation.override(language):
            request.LANGUAGE_CODE = language
            response = get_response(request)
        response.headers.setdefault("Content-Language", language)
        if not is_admin:
            patch_vary_headers(response, ["Accept-Language"])
        return response

    return answer


def reader_zone(get_response: Answer) -> Answer:
    """Middleware: while a request is answered, its reader's zone is known; a zone that there is not is none."""

    def answer(request: HttpRequest) -> HttpResponse:
        token = READER_ZONE.set(_zone(unquote(request.COOKIES.get(COOKIE, ""))))
        try:
            return get_response(request)
        finally:
            READER_ZONE.reset(token)

    return answer


def _zone(name: str) -> ZoneInfo | None:
    try:
        return zone_to_show(parse_timezone(name)) if name else None
    except ScheduleError:
        return None
