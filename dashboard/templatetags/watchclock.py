"""What templates of pages need: instants, lengths, addresses of rows, names of statuses."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from django import template
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext, ngettext, pgettext

from dashboard import moments
from dashboard.pages.wall.cells import bare_strip
from dashboard.pages.wall.filters import read_filters
from dashboard.pages.wall.rows import Row
from dashboard.shared.history import History
from dashboard.texts import said
from dashboard.vocabulary import word
from monitors.models import Monitor

register = template.Library()
register.filter(word)
register.filter(said)

WORDS = {"error": "failing", "active": "waiting"}
"""The states of environments whose marks have another name."""


@register.simple_tag(takes_context=True)
def moment(
    context: dict[str, Any], at: datetime | None, zone: str = "UTC", after: datetime | None = None
) -> SafeString:
    """Show an instant on the reader's wall clock; other zones and the distance from now stand in its tooltip."""
    return moments.moment(at, zone, now=context["now"], after=after)


@register.simple_tag(takes_context=True)
def ago(context: dict[str, Any], at: datetime | None, zone: str = "UTC") -> SafeString:
    """Show the distance of an instant from now; its wall clock in every zone that matters stands in the tooltip."""
    return moments.moment(at, zone, now=context["now"], is_relative=True)


@register.simple_tag(takes_context=True)
def roughly(context: dict[str, Any], at: datetime | None) -> SafeString:
    """Show the distance of an instant from now in its largest unit."""
    return moments.moment(at, now=context["now"], is_relative=True, is_rough=True)


@register.simple_tag(takes_context=True)
def since(context: dict[str, Any], at: datetime | None) -> str:
    """Show how long ago an instant was, without "ago", after "for"."""
    return "" if at is None else moments.length_after_preposition(_whole(context["now"] - at))


@register.filter
def length_of(value: timedelta | None) -> str:
    """Show a length of time in whole seconds, or shorter ones with their fraction."""
    return moments.length_in_words(None if value is None else _whole(value))


def _whole(value: timedelta) -> timedelta:
    return timedelta(seconds=int(value.total_seconds())) if abs(value) >= timedelta(minutes=1) else value


@register.filter
def short(value: timedelta | None) -> str:
    """Show a length of time in few letters, for tables: "467 ms", "5.1 s", "9 min 46 s", "2 h 5 min", "3 d 4 h"."""
    return "" if value is None else moments.short_length(value)


@register.filter
def milliseconds(value: int | None) -> str:
    """Show a number of milliseconds as a length of time, in few letters."""
    return "" if value is None else moments.short_length(timedelta(milliseconds=value))


@register.simple_tag
def monitor_url(monitor: Monitor, environment: str = "") -> str:
    """Return the address of a monitor's page, whose project is loaded."""
    address = reverse("monitor", args=[monitor.project.slug, monitor.slug])
    return f"{address}?{urlencode({'env': environment})}" if environment else address


@register.simple_tag
def mark(status: str, words: str = "") -> SafeString:
    """Show a status: its shape, its colour and its name."""
    name = status.replace("_", " ")
    return format_html('<span class="mark mark-{}">{}</span>', status.replace("_", "-"), word(words or name))


@register.simple_tag
def state_mark(state: str) -> SafeString:
    """Show the state of an environment."""
    return mark(state, WORDS.get(state, ""))


@register.simple_tag
def filters_of(query: str) -> SafeString:
    """Show the filters, the grouping and the range of a view of the wall."""
    filters = read_filters(dict(parse_qsl(query)))
    shown = {
        gettext("Search"): filters.search,
        gettext("Project"): filters.project,
        gettext("Environment"): filters.environment,
        gettext("State"): word(filters.state),
        gettext("Tag"): filters.tag,
        gettext("Owner"): filters.owner,
        gettext("Group by"): word(filters.group),
        gettext("Range"): word(filters.range.words),
    }
    parts = [f"{name}: {value}" for name, value in shown.items() if value]
    parts += [gettext("Only mine")] if filters.is_mine else []
    return format_html_join(" ", '<span class="chip quiet">{}</span>', ((part,) for part in parts))


@register.simple_tag(takes_context=True)
def wall_row(context: dict[str, Any], row: Row) -> SafeString:
    """Return a row of the wall. One string for each: a template would take as long as all the rest of the page."""
    now = context["now"]
    query = urlencode({"env": row.environment})
    address = f"/m/{quote(row.project)}/{quote(row.slug)}/?{query}"
    due = (
        moments.moment(row.next_checkin, row.timezone, now=now, is_relative=True, is_rough=True)
        if row.next_checkin
        else ""
    )
    heading = format_html('<div class="wall-group" role="listitem"><h2>{}</h2></div>', row.heading)
    return format_html(
        '{}<div class="wall-row" role="listitem" id="row-{}" data-row>'
        '<input type="checkbox" class="pick" form="many" name="row" value="{}" aria-label="{}">{}'
        '<a class="name" href="{}" data-open title="{}">{}</a>'
        '<span class="chip" title="{}">{}</span>{}{}<span class="due">{}</span></div>',
        heading if row.heading else "",
        row.id,
        row.id,
        f"{row.name} · {row.environment}",
        state_mark(row.state),
        address,
        f"{row.name} · {row.project_name}",
        row.name,
        row.place,
        row.place,
        mark("muted") if row.is_muted else "",
        mark_safe(row.strip),  # noqa: S308 - escaped where it is drawn
        due,
    )


@register.simple_tag
def reader_zone() -> str:
    """Return the zone of the wall clock that pages show: the reader's, or UTC."""
    zone = moments.READER_ZONE.get()
    return "UTC" if zone is None else zone.key


@register.simple_tag
def strip_of(row: Row) -> SafeString:
    """Return the strip of a row."""
    return mark_safe(row.strip)  # noqa: S308 - escaped where it is drawn


@register.simple_tag
def component_mark(state: str) -> SafeString:
    """Show the state of a monitor on a status page."""
    words = {"ok": pgettext("monitor", "works"), "error": gettext("fails"), "active": gettext("no data")}
    return mark(state, words.get(state) or gettext("maintenance"))


@register.simple_tag
def days(history: History) -> SafeString:
    """Show a cell for each day of the history of a monitor on a status page."""
    if history.share is None:
        words = gettext("No data")
    elif not history.failed_days:
        words = gettext("No day with an incident")
    else:
        n = history.failed_days
        words = ngettext("%(n)d day with an incident", "%(n)d days with an incident", n) % {"n": n}
    return mark_safe(bare_strip(history.cells, words))  # noqa: S308 - escaped where it is drawn
