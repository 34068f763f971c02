"""Contents of cells: instants in the reader's zone, labels, links, tables, untrusted texts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.models import Model
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from dashboard.moments import READER_ZONE, from_now
from dashboard.runs import readable
from lib.durations import duration as duration
from monitors.schedule import zone_to_show

LABEL_CLASSES = {
    "good": "bg-green-100 text-green-700 dark:bg-green-500/20 dark:text-green-400",
    "bad": "bg-red-100 text-red-700 dark:bg-red-500/20 dark:text-red-400",
    "doubtful": "bg-orange-100 text-orange-700 dark:bg-orange-500/20 dark:text-orange-400",
    "running": "bg-blue-100 text-blue-700 dark:bg-blue-500/20 dark:text-blue-400",
    "quiet": "bg-base-500/8 text-base-700 dark:bg-base-500/20 dark:text-base-200",
}


STATUS_TONES = {
    "ok": "good",
    "resolved": "good",
    "error": "bad",
    "failing": "bad",
    "missed": "bad",
    "timeout": "bad",
    "open": "bad",
    "unresolved": "bad",
    "unknown": "doubtful",
    "muted": "doubtful",
    "in progress": "running",
}


NOTHING = mark_safe("-")


ADDRESS = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def label(text: str, tone: str | None = None, *, title: str = "") -> SafeString:
    """Return a coloured label; without `tone`, the colour that the status `text` has everywhere."""
    classes = LABEL_CLASSES[tone or STATUS_TONES.get(text, "quiet")]
    return format_html(
        '<span class="inline-block font-semibold rounded-default text-[11px] uppercase whitespace-nowrap h-6 leading-6 '
        'px-2 {}" title="{}">{}</span>',
        classes,
        title,
        text,
    )


def labels(items: Iterable[SafeString]) -> SafeString:
    """Return labels side by side."""
    joined = format_html_join(" ", "{}", ((item,) for item in items))
    return format_html('<span class="whitespace-nowrap">{}</span>', joined)


NARROW = "display: inline-block; max-width: 8rem"


def instant(
    at: datetime | None,
    timezone: str = "UTC",
    *,
    now: datetime | None = None,
    hides_zone: bool = False,
    is_narrow: bool = False,
) -> SafeString:
    """Return an instant on the reader's wall clock, and beside it on that of `timezone` if that shows another time.

    With `now`, also the distance from it. `hides_zone` omits the name of `timezone`, for tables whose title has it.
    `is_narrow`, for lists, uses a line for each, without seconds and with the last part of the zone's name. The
    tooltip holds the same instant in UTC, and the whole name.
    """
    if at is None:
        return NOTHING
    local, reader = at.astimezone(zone_to_show(timezone)), READER_ZONE.get()
    zone = "" if hides_zone else str(local.tzinfo)
    if is_narrow:
        local, zone = local.replace(second=0), zone.rpartition("/")[2].replace("_", " ")
    shown, beside = _wall_clock(local), zone
    if reader is not None and (mine := at.astimezone(reader)).utcoffset() != local.utcoffset():
        day = "" if mine.date() == local.date() else f"{local:%m-%d} "
        shown = _wall_clock(mine.replace(second=0) if is_narrow else mine)
        beside = f"({day}{local:%H:%M}{f' {zone}' if zone else ''})"
    return format_html(
        '<time datetime="{}" title="{}" class="whitespace-nowrap" style="{}">{} <span class="text-font-subtle-light '
        'dark:text-font-subtle-dark{}">{}{}</span></time>',
        at.astimezone(UTC).isoformat(),
        at.astimezone(UTC).isoformat().replace("+00:00", "Z") + (f" ({local.tzinfo})" if is_narrow else ""),
        NARROW if is_narrow else "",
        shown,
        " block whitespace-normal" if is_narrow else "",
        beside,
        "" if now is None else f" · {from_now(at, now=now)}",
    )


def _wall_clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at.second else f"{at:%Y-%m-%d %H:%M}"


def times_in(timezone: str) -> str:
    """Return the note for the title of a table in which `instant` shows times without a zone."""
    reader = READER_ZONE.get()
    if reader is None or reader.key == timezone:
        return f"times in {timezone}"
    return f"times in {reader.key}, in brackets in {timezone} where that differs"


def link(row: Model, text: object = "") -> SafeString:
    """Return a link to the admin page of a row."""
    return link_to(row._meta.label_lower, row.pk, text or row)


def link_to(model: str, key: object, text: object) -> SafeString:
    """Return a link to an admin page by model ("checkins.checkin") and primary key."""
    url = reverse(f"admin:{model.replace('.', '_')}_change", args=[key])
    return format_html('<a href="{}" class="text-link">{}</a>', url, text)


def link_to_list(model: str, query: str, text: object) -> SafeString:
    """Return a link to a filtered admin list."""
    url = reverse(f"admin:{model.replace('.', '_')}_changelist")
    return format_html('<a href="{}?{}" class="text-link">{}</a>', url, query, text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> SafeString:
    """Return a table in the style of the theme."""
    context = {"table": {"headers": headers, "rows": list(rows)}, "title": title}
    return render_to_string("unfold/components/table.html", context)


def facts(values: Mapping[str, object]) -> SafeString:
    """Return names and values as a table of two columns."""
    return table((), [(name, NOTHING if value in (None, "") else value) for name, value in values.items()])


def code(text: str) -> SafeString:
    """Return text to be copied: one click selects all of it."""
    return format_html(
        '<pre class="bg-base-50 border border-base-200 p-3 rounded-default text-xs dark:bg-white/[.04] '
        'dark:border-base-700" style="white-space: pre-wrap; overflow-wrap: anywhere; user-select: all">{}</pre>',
        text,
    )


def logs_text(logs: Iterable[Any], *, timezone: str) -> SafeString:
    """Return the output of jobs: each with its reception, the status sent with it, and how much of it is stored."""
    shown = []
    for log in logs:
        body = bytes(log.body)
        size = f"{log.size_bytes:,} bytes"
        if len(body) < log.size_bytes:
            size = f"the last {len(body):,} of {size}"
        said = label(log.get_status_display()) if log.status else "output only"
        shown.append((instant(log.received_at, timezone), said, size, code(readable(body))))
    return format_html_join("", '<div class="mb-4"><div class="mb-1">{} · {} · {}</div>{}</div>', shown) or NOTHING
