"""Instants for readers: on their own wall clock, with the job's zone and UTC one hover away."""

from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.dateformat import format as format_date
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from lib.durations import after_preposition, duration
from monitors.schedule import zone_to_show

READER_ZONE: ContextVar[ZoneInfo | None] = ContextVar("READER_ZONE", default=None)
"""The zone of the reader of the current page; None if it is not known."""


def length_in_words(length: timedelta | None) -> str:
    """Return a length of time in its two largest units, in the reader's language."""
    return duration(length, language="de" if (get_language() or "").startswith("de") else "en")


def length_after_preposition(length: timedelta) -> str:
    """Return a length of time as it stands after "in", "for" and the like, in the reader's language."""
    return after_preposition(length_in_words(length))


def from_now(at: datetime, *, now: datetime) -> str:
    """Return the distance of `at` from `now`: "in 5 minutes", "2 hours and 3 minutes ago"."""
    seconds = int(abs((at - now).total_seconds()))
    if seconds < 1:
        return _("now")
    return _around(length_after_preposition(timedelta(seconds=seconds)), is_ahead=at > now)


def _around(text: str, *, is_ahead: bool) -> str:
    return (_("in %(length)s") if is_ahead else _("%(length)s ago")) % {"length": text}


def roughly_from_now(at: datetime, *, now: datetime) -> str:
    """Return the distance of `at` from `now` in its largest unit, for narrow columns: "in 2 hours"."""
    seconds = int(abs((at - now).total_seconds()))
    unit = next((unit for unit in (86_400, 3_600, 60) if seconds >= unit), 1)
    return from_now(now + timedelta(seconds=seconds // unit * unit) * (1 if at > now else -1), now=now)


def moment(
    at: datetime | None,
    timezone: str = "UTC",
    *,
    now: datetime,
    after: datetime | None = None,
    is_relative: bool = False,
    is_rough: bool = False,
) -> SafeString:
    """Return an instant on the reader's wall clock, or on that of `timezone` if the reader's zone is not known.

    The tooltip has the instant in every zone that matters: the reader's, `timezone` (that of the job) and UTC.
    `after` stands before it on the page: a day that both have is not repeated. `is_relative` shows the distance from
    now, and the wall clock in the tooltip only; `is_rough` its largest unit.
    """
    if at is None:
        return SafeString("-")
    reader = READER_ZONE.get() or zone_to_show(timezone)
    zones = {zone.key: zone for zone in (reader, zone_to_show(timezone), ZoneInfo("UTC"))}
    title = " · ".join(f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S} {name}" for name, zone in zones.items())
    if is_relative:
        shown = roughly_from_now(at, now=now) if is_rough else from_now(at, now=now)
    else:
        shown = wall_clock(at.astimezone(reader), now=(after or now).astimezone(reader))
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        title if is_relative else f"{title} · {from_now(at, now=now)}",
        shown,
    )


def short_length(length: timedelta) -> str:
    """Return a length of time in its two largest units, in few letters.

    >>> [short_length(timedelta(seconds=seconds)) for seconds in (0.467, 5.08, 586, 7_500, 273_600, -2)]
    ['467 ms', '5.1 s', '9 min 46 s', '2 h 5 min', '3 d 4 h', '-2.0 s']
    """
    seconds = abs(length.total_seconds())
    sign = "-" if length < timedelta() else ""
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{sign}{seconds:.1f} s"
    whole = int(seconds)
    units = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
    large, name, small, part = next(unit for unit in units if whole >= unit[0])
    rest = whole % large // small
    return f"{sign}{whole // large} {name}{f' {rest} {part}' if rest else ''}"


def wall_clock(at: datetime, *, now: datetime) -> str:
    """Return a local time in short: without its day if that is today, with the year only if it is another."""
    clock = f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
    if at.date() == now.date():
        return clock
    if at.year != now.year:
        return f"{at:%Y-%m-%d} {clock}"
    day = format_date(at, _("D d M"))
    return f"{day} {clock}"
