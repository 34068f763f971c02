"""The addresses that open without an account. Whoever knows one sees what it is about, and nothing else."""

import json
import time
from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import get_language
from django.views.decorators.http import require_safe

from dashboard.live.marks import read_mark
from dashboard.models import ShareLink
from dashboard.moments import READER_ZONE
from dashboard.shared import badge
from dashboard.shared.facts import find_link, load_standing, load_status
from dashboard.shared.kept import Rendering, Shelf
from dashboard.shared.tv import load_tv
from lib.wallclock import utcnow

SHELF = Shelf(read_mark, time.monotonic)
"""What this process has rendered."""
PAGE_SECONDS, BADGE_SECONDS = 15, 60
"""How long browsers and proxies may show an answer before they ask again."""
Kind = ShareLink.Kind


@require_safe
def status_page(request: HttpRequest, address: str) -> HttpResponseBase:
    """Show a status page."""
    return _answer(request, Kind.STATUS, address, _render_status, f"public, max-age={PAGE_SECONDS}")


@require_safe
def tv(request: HttpRequest, address: str) -> HttpResponseBase:
    """Show the view for a TV, which asks every few seconds."""
    return _answer(request, Kind.TV, address, _render_tv, "no-cache")


@require_safe
def badge_svg(request: HttpRequest, address: str) -> HttpResponseBase:
    """Show a badge as a picture."""
    return _for_all(_answer(request, Kind.BADGE, address, _render_svg, f"public, max-age={BADGE_SECONDS}"))


@require_safe
def badge_json(request: HttpRequest, address: str) -> HttpResponseBase:
    """Show a badge as shields.io reads it."""
    return _for_all(_answer(request, Kind.BADGE, address, _render_json, f"public, max-age={BADGE_SECONDS}"))


def _answer(
    request: HttpRequest, kind: Kind, address: str, render: Callable[[ShareLink], Rendering], caching: str
) -> HttpResponseBase:
    key = render, address, get_language()
    found = None if SHELF.has(key) else find_link(kind, address)
    if found is None and not SHELF.has(key):
        raise Http404  # Found out before anything is rendered: who guesses addresses holds up nobody.

    def find_and_render() -> Rendering | None:
        link = found or find_link(kind, address)
        return None if link is None else render(link)

    # All viewers of a language get the same bytes: nothing in them depends on who asks.
    reader = READER_ZONE.set(None)
    try:
        rendering = SHELF.get(key, find_and_render)
    finally:
        READER_ZONE.reset(reader)
    if rendering is None:
        raise Http404
    response = HttpResponse(rendering.body, content_type=rendering.content_type)
    response["ETag"] = rendering.etag
    response["Cache-Control"] = caching
    patch_vary_headers(response, ("Accept-Language", "Cookie"))  # Both choose the language.
    if not rendering.is_public:
        response["X-Robots-Tag"] = "noindex, nofollow"
    return get_conditional_response(request, etag=rendering.etag, response=response) or response


def _for_all(response: HttpResponseBase) -> HttpResponseBase:
    response["Access-Control-Allow-Origin"] = "*"
    return response


def _page(template: str, link: ShareLink, context: dict[str, Any]) -> Rendering:
    body = render_to_string(template, {"link": link, **context}).encode()
    return Rendering(body, "text/html; charset=utf-8", is_public=link.is_public)


def _render_status(link: ShareLink) -> Rendering:
    now = utcnow()
    return _page("shared/status.html", link, {"now": now, "facts": load_status(link, now=now)})


def _render_tv(link: ShareLink) -> Rendering:
    now = utcnow()
    return _page("shared/tv.html", link, {"now": now, "facts": load_tv(link, now=now)})


def _render_svg(link: ShareLink) -> Rendering:
    drawn = badge.svg(link.title, load_standing(link, now=utcnow()))
    return Rendering(drawn.encode(), "image/svg+xml; charset=utf-8")


def _render_json(link: ShareLink) -> Rendering:
    said = badge.shields(link.title, load_standing(link, now=utcnow()))
    return Rendering(json.dumps(said).encode(), "application/json")
