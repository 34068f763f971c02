"""How long runs take: percentiles of the newest 100 of each environment, and a chart of them. One statement a page.

The chart is SVG in the page itself: nothing is loaded, and it follows the colours of the theme.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from checkins.models import RecentRuns
from dashboard.admin.cells import NOTHING, table
from dashboard.moments import length_in_words
from monitors.limits import RUNS_KEPT, percentile
from monitors.models import MonitorEnvironment

CHARTS_SHOWN = 5
"""A monitor may have many environments; the table has a line for each that is shown."""
WIDTH, HEIGHT, HEAD = 700, 120, 14
PERCENTILES = (50, 95, 99)


class Measured(NamedTuple):
    """The newest durations and delays of an environment, oldest first, in milliseconds."""

    environment: str
    durations_ms: Sequence[int]
    delays_ms: Sequence[int]


def load_measured(environments: Sequence[MonitorEnvironment]) -> list[Measured]:
    """Return what is known of the runs of environments, in their order; those without any are left out."""
    rows = RecentRuns.objects.filter(pk__in=[environment.pk for environment in environments])
    found = {row.pk: row for row in rows}
    return [
        Measured(each.environment.name, row.durations_ms[-RUNS_KEPT:], row.delays_ms[-RUNS_KEPT:])
        for each in environments
        if (row := found.get(each.pk)) is not None
    ]


def durations_table(measured: Sequence[Measured]) -> SafeString | str:
    """Return the percentiles as a table; "" if nothing was measured."""
    if not measured:
        return ""
    heads = [f"{what} p{percent}" for what in ("Duration", "Start delay") for percent in PERCENTILES]
    return table(
        ("Environment", "Runs", *heads, "Longest"),
        [
            (
                one.environment,
                len(one.durations_ms),
                *(_text(percentile(values, percent)) for values in one[1:] for percent in PERCENTILES),
                _text(max(one.durations_ms, default=None)),
            )
            for one in measured
        ],
        title=f"How long runs take: the last {RUNS_KEPT} that ended ok",
    )


def charts(measured: Sequence[Measured]) -> SafeString:
    """Return a chart of the durations of each environment, up to a few."""
    shown = [one for one in measured if one.durations_ms][:CHARTS_SHOWN]
    return format_html_join("", "{}", ((_chart(one),) for one in shown))


def _chart(one: Measured) -> SafeString:
    """Return bars for the runs, oldest first, with lines at the median and at p95."""
    values = one.durations_ms
    longest = max(*values, 1)
    step = WIDTH / RUNS_KEPT

    def y(value: int) -> float:
        return HEAD + (HEIGHT - HEAD) * (1 - value / longest)

    bars = format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        (
            (_px(number * step), _px(y(value)), _px(step * 0.8), _px(max(HEIGHT - y(value), 1)), _text(value))
            for number, value in enumerate(values)
        ),
    )
    lines = format_html_join(
        "",
        '<line x1="0" x2="{}" y1="{}" y2="{}" stroke="currentColor" stroke-dasharray="4 3"/>'
        '<text x="{}" y="{}" font-size="11" text-anchor="end" fill="currentColor">p{} {}</text>',
        (
            (WIDTH, _px(y(value)), _px(y(value)), WIDTH, _px(y(value) - 3), percent, _text(value))
            for percent in PERCENTILES[:2]
            if (value := percentile(values, percent)) is not None
        ),
    )
    words = ngettext(
        "Duration of the last run in %(environment)s",
        "Durations of the last %(n)d runs in %(environment)s, oldest first",
        len(values),
    ) % {"n": len(values), "environment": one.environment}
    described = _("%(chart)s, longest %(length)s") % {"chart": words, "length": _text(longest)}
    return format_html(
        '<figure data-role="durations" class="overflow-x-auto"><figcaption class="font-semibold text-important mb-2">{}'
        '</figcaption><svg role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        '<g fill="currentColor" fill-opacity="0.35">{}</g>{}</svg></figure>',
        words,
        described,
        WIDTH,
        HEIGHT,
        WIDTH,
        HEIGHT,
        bars,
        lines,
    )


def _px(number: float) -> str:
    return f"{number:.1f}"


def _text(value: int | None) -> str:
    return str(NOTHING) if value is None else length_in_words(timedelta(milliseconds=value))
