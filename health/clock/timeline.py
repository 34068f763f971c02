"""The last two hours of the clock as a picture: a sign for every minute, and a bar for its check-ins (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import reduce

from clocktasks.clock import MINUTE
from clocktasks.volume import VolumeDecision
from health.facts import TickFacts
from lib.texts import Text

ROW_MINUTES = 30
ROWS = 4
BAR_WIDTH = 6
PLOT_HEIGHT = 60
PLOT_ROOM = 10
"""Above the bars, for the sign over one that is suspicious: not everybody can distinguish a colour alone."""


class TickState(Enum):
    """The state of a minute: its sign, its colour (as in `dashboard.admin.cells`), and what that means."""

    FINISHED = ("✓", "good", Text("finished"))
    RUNNING = ("…", "running", Text("written, being applied"))
    WAITING = ("?", "doubtful", Text("waits for the decision about its volume"))
    INCIDENT = ("!", "bad", Text("too few check-ins were received: what fell due is unknown"))
    DEAF = ("×", "bad", Text("nobody listened: what fell due is unknown"))  # noqa: RUF001 - a sign, not a letter
    UNWRITTEN = ("-", "quiet", Text("not in the ledger"))

    def __init__(self, sign: str, tone: str, meaning: Text) -> None:
        self.sign, self.tone, self.meaning = sign, tone, meaning


@dataclass(frozen=True, slots=True)
class Cell:
    """A minute of the strip: the tick at its end, its state, and all about it in a sentence."""

    at: datetime
    state: TickState
    title: Text


@dataclass(frozen=True, slots=True)
class Bar:
    """A minute of the plot, in its coordinates: y grows downwards. `expected_y` is None if nothing was expected.

    `is_low`: so few check-ins were received that it is suspicious, or nobody listened.
    """

    x: int
    y: float
    height: float
    expected_y: float | None
    is_low: bool
    title: Text


@dataclass(frozen=True, slots=True)
class Plot:
    """What was received in each minute, from the oldest to the newest, up to `volume_max` messages a minute."""

    bars: Sequence[Bar]
    width: int
    height: int
    volume_max: int
    room: int = PLOT_ROOM


def state_of(tick: TickFacts) -> TickState:
    """Return the state of a tick: the worst one that applies."""
    if not tick.is_listened:
        return TickState.DEAF
    if tick.decision == VolumeDecision.INCIDENT.value:
        return TickState.INCIDENT
    if tick.decided_at is None:
        return TickState.WAITING
    return TickState.RUNNING if tick.finished_at is None else TickState.FINISHED


def rows_of(ticks: Iterable[TickFacts], *, now: datetime) -> list[tuple[datetime, list[Cell]]]:
    """Return the strip: a row for each of the last four half hours, with the cells of its minutes up to `now`."""
    by_minute = {tick.at: tick for tick in ticks}
    newest = now.replace(minute=now.minute // ROW_MINUTES * ROW_MINUTES, second=0, microsecond=0)
    rows = []
    for row in reversed(range(ROWS)):
        begin = newest - row * timedelta(minutes=ROW_MINUTES)
        minutes = [at for number in range(ROW_MINUTES) if (at := begin + number * MINUTE) <= now]
        rows.append((begin, [_cell(at, by_minute.get(at)) for at in minutes]))
    return rows


def legend_of(rows: Iterable[tuple[datetime, Sequence[Cell]]]) -> Mapping[TickState, int]:
    """Return how many minutes of the strip are in each of the states that occur."""
    states = [cell.state for _, cells in rows for cell in cells]
    return {state: count for state in TickState if (count := states.count(state))}


def plot_of(ticks: Sequence[TickFacts]) -> Plot | None:
    """Return the plot of these ticks, given newest first, or None if nothing at all was received."""
    oldest_first = list(reversed(ticks))
    expected = [_expected(tick) for tick in oldest_first]
    highest = max([tick.volume or 0 for tick in ticks] + [value or 0 for value in expected], default=0)
    if not highest:
        return None
    scale = PLOT_HEIGHT / highest
    bars = []
    for number, (tick, usual) in enumerate(zip(oldest_first, expected, strict=True)):
        height = round((tick.volume or 0) * scale, 1)
        bars.append(
            Bar(
                number * BAR_WIDTH,
                round(PLOT_HEIGHT - height, 1),
                height,
                None if usual is None else round(PLOT_HEIGHT - usual * scale, 1),
                state_of(tick) in {TickState.DEAF, TickState.INCIDENT, TickState.WAITING},
                _title(tick),
            )
        )
    return Plot(bars, len(bars) * BAR_WIDTH, PLOT_HEIGHT, round(highest))


def _cell(at: datetime, tick: TickFacts | None) -> Cell:
    if tick is None:
        return Cell(at, TickState.UNWRITTEN, _minute(at, TickState.UNWRITTEN.meaning))
    return Cell(at, state_of(tick), _title(tick))


def _title(tick: TickFacts) -> Text:
    """Return all about a tick: "10:39: 912 check-ins (-24 %); waits for the decision about its volume"."""
    parts = [state_of(tick).meaning]
    if tick.volume is not None:
        off = "" if tick.deviation_percent is None else f" ({round(tick.deviation_percent):+d} %)"
        parts.insert(0, Text.plural("%(count)s check-in%(off)s", "%(count)s check-ins%(off)s", tick.volume, off=off))
    if state_of(tick) in {TickState.DEAF, TickState.INCIDENT} and tick.finished_at is None:
        parts.append(Text("not finished"))
    marked = [
        Text("%(number)s missed", number=tick.missed_count),
        Text("%(number)s timeout", number=tick.timeout_count),
        Text("%(number)s unknown", number=tick.unknown_count),
    ]
    marked = [text for text in marked if text.values["number"]]
    if marked:
        parts.append(reduce(lambda one, other: Text("%(one)s, %(other)s", one=one, other=other), marked))
    return _minute(tick.at, reduce(lambda one, other: Text("%(one)s; %(other)s", one=one, other=other), parts))


def _minute(at: datetime, what: Text) -> Text:
    minute = f"{at:%H:%M}"
    return Text("%(minute)s: %(what)s", minute=minute, what=what)


def _expected(tick: TickFacts) -> float | None:
    """Return the volume that was expected, as far as the deviation shows it: not if there was silence."""
    if tick.volume is None or tick.deviation_percent is None or tick.deviation_percent <= -100:
        return None
    return tick.volume / (1 + tick.deviation_percent / 100)
