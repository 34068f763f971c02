"""What the pages of channels and routes show (shell). A fixed number of statements, whatever the number of channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q

from dashboard.ids import row_ids
from dashboard.pages.channels.state import WORDS, ChannelState, state_of
from dashboard.texts import said_or_word
from incidents.models import Channel, Message, Route
from incidents.notifications import configuring, pursuit
from incidents.notifications.conditions import format_conditions
from incidents.notifications.previewing import Forecast, Uncaught, of_kind
from incidents.notifications.previews import examine_routes, preview
from incidents.notifications.routing import KINDS
from monitors.models import Monitor, Project

TEST_WAITS = timedelta(seconds=30)
"""How long a page asks for the answer to a test; delivery takes a second or two if it runs."""
TESTS_SHOWN = configuring.ADDRESSES_MAX
MONITORS_SUGGESTED = 200


@dataclass(frozen=True, slots=True)
class ShownChannel:
    """A channel with its kind and state in words, and how many messages wait for it."""

    channel: Channel
    kind: str
    state: ChannelState
    words: str
    waiting: int


@dataclass(frozen=True, slots=True)
class ShownRoute:
    """A route in words. `idle` says why it catches nothing, if so."""

    route: Route
    conditions: Sequence[str]
    channels: Sequence[Channel]
    steps: Sequence[str]
    idle: str
    is_first: bool
    is_last: bool


@dataclass(frozen=True, slots=True)
class ShownRoutes:
    """The routes of a project in their order, its fallback, and the monitors that nobody would be notified of."""

    routes: Sequence[ShownRoute]
    fallback: Sequence[ShownRoute]
    uncaught: Uncaught | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the preview, and the answer: what was wrong with it, or who would be notified."""

    monitor: Monitor | None
    problem: str
    forecasts: Sequence[tuple[Forecast, str]]


def describe(channel: Channel, *, waiting: int) -> ShownChannel:
    """Return what is shown of a channel."""
    state = state_of(channel)
    kind = configuring.KINDS.get(channel.kind, channel.kind)
    return ShownChannel(channel, kind, state, str(WORDS[state]), waiting)


def load_channels(project: Project) -> Sequence[ShownChannel]:
    """Return the channels of a project by name. Two statements."""
    channels = list(Channel.objects.filter(project=project, removed_at__isnull=True).order_by("name"))
    waiting = _waiting(Q(channel__project=project)) if channels else {}
    return [describe(channel, waiting=waiting.get(channel.pk, 0)) for channel in channels]


def load_channel(channel: Channel) -> ShownChannel:
    """Return one channel with what waits for it. One statement."""
    return describe(channel, waiting=_waiting(Q(channel=channel)).get(channel.pk, 0))


def _waiting(which: Q) -> dict[int, int]:
    rows = Message.objects.filter(which, status=Message.Status.WAITING).values_list("channel").annotate(Count("id"))
    return dict(rows.order_by())


def load_routes(project: Project) -> ShownRoutes:
    """Return the routes of a project. Nine statements at most."""
    rows = list(Route.objects.filter(project=project).order_by("position", "id").prefetch_related("channels"))
    idle, uncaught = examine_routes({project.pk})
    names = dict(Channel.objects.filter(project=project, removed_at__isnull=True).values_list("pk", "name"))
    last = max((number for number, row in enumerate(rows) if not row.is_fallback), default=0)
    first = min((number for number, row in enumerate(rows) if not row.is_fallback), default=0)
    shown = [
        ShownRoute(
            row,
            format_conditions(row.matchers).splitlines(),
            sorted(row.channels.all(), key=str),
            pursuit.write_step_lines(row.steps, names).splitlines(),
            idle.get(row.pk, ""),
            number == first,
            number == last,
        )
        for number, row in enumerate(rows)
    ]
    return ShownRoutes(
        [one for one in shown if not one.route.is_fallback],
        [one for one in shown if one.route.is_fallback],
        uncaught.get(project.pk),
    )


def suggested_monitors(project: Project) -> Sequence[Monitor]:
    """Return monitors that the preview suggests. One statement."""
    return list(Monitor.objects.not_deleted().filter(project=project).order_by("slug")[:MONITORS_SUGGESTED])


def ask(project: Project, slug: str, kind: str) -> Asked | None:
    """Return who would be notified if a monitor failed now, in this way (empty: in any); None without a monitor.

    Five statements at most.
    """
    slug = slug.strip()
    if not slug:
        return None
    monitor = None
    if "\x00" not in slug:
        monitor = Monitor.objects.not_deleted().filter(project=project, slug=slug).first()
    if monitor is None:
        return Asked(None, "slug", ())
    names, forecasts = preview(monitor)
    if kind in KINDS:
        forecasts = of_kind(forecasts, kind)
    return Asked(monitor, "", [(one, one.when(names, said_or_word)) for one in forecasts])


def load_tests(channel: Channel, ids: str) -> Sequence[Message]:
    """Return tests of a channel by their ids, as they stand in an address. One statement."""
    wanted = row_ids(ids.split(",")[:TESTS_SHOWN])
    if not wanted:
        return []
    tests = Message.objects.filter(pk__any_of=wanted, channel=channel, kind=Message.Kind.TEST)
    return list(tests.order_by("pk"))


def is_awaited(tests: Sequence[Message], *, now: datetime) -> bool:
    """Return whether an answer to a test may still come while somebody has the page open."""
    return any(_is_unanswered(test) and now < test.created_at + TEST_WAITS for test in tests)


def _is_unanswered(test: Any) -> bool:
    return test.status == Message.Status.WAITING and not test.last_error


def is_test_on_its_way(channel: Channel, *, now: datetime) -> bool:
    """Return whether a test of this channel was asked for a moment ago and has no answer yet."""
    waiting = Message.objects.filter(channel=channel, status=Message.Status.WAITING, kind=Message.Kind.TEST)
    return any(_is_unanswered(test) and now < test.created_at + TEST_WAITS for test in waiting[:TESTS_SHOWN])
