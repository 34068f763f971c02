"""In which time zone the reader of a page lives: the browser says so in a cookie (shell)."""

from collections.abc import Callable
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse

from dashboard.moments import READER_ZONE
from monitors.schedule import ScheduleError, parse_timezone, zone_to_show

COOKIE = "watchclock_zone"


def reader_zone(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
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
