"""What a story should have led to beside what it did (pure)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from clocktasks.playback.scenario import COUNTS, MAPS, CheckInRow, Expectation


class Difference(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is not as the story says. `message` is a sentence; the rest is the same for programs."""

    message: str
    key: str
    after_event: int | UnsetType = UNSET
    of: str | UnsetType = UNSET
    expected: Any = UNSET
    got: Any = UNSET


class ScenarioResult(Struct, frozen=True, kw_only=True):
    """What became of a scenario. `state` is the final one with every key; None if the scenario could not be run."""

    name: str
    passed: bool
    differences: list[Difference]
    state: Expectation | None


def compare(expected: Expectation, got: Expectation) -> list[Difference]:
    """Return how the observed state `got`, which has every key, differs from what is expected.

    None expects nothing there. What does not exist has no value, and no incidents.
    """
    differences = []
    if isinstance(expected.checkins, list):
        assert isinstance(got.checkins, list), "an observed state has every key"
        alignment = align(expected.checkins, got.checkins)
        if any(mark != " " for mark, _ in alignment):
            lines = [f"  {mark} {describe_checkin(row)}" for mark, row in alignment]
            differences.append(
                Difference(
                    message="\n".join(["check-ins (- expected, + found):", *lines]),
                    key="checkins",
                    after_event=expected.after_event,
                    expected=expected.checkins,
                    got=got.checkins,
                )
            )
    for key in MAPS:
        wanted, found = getattr(expected, key), getattr(got, key)
        absent = 0 if key in COUNTS else None
        for name, value in (wanted or {}).items():
            actual = found.get(name, absent)
            if actual == (absent if value is None else value):
                continue
            note = "" if name in found else " (there is no such monitor environment)"
            differences.append(
                Difference(
                    message=f"{key} of {name}: expected {_shown(value)}, found {_shown(actual)}{note}",
                    key=key,
                    after_event=expected.after_event,
                    of=name,
                    expected=value,
                    got=actual,
                )
            )
    return differences


def align(expected: Sequence[CheckInRow], got: Sequence[CheckInRow]) -> list[tuple[str, CheckInRow]]:
    """Lay two lists of check-ins side by side: " " for what agrees, "-" for missing and "+" for unexpected rows.

    The longest common subsequence, by hand: difflib compares for equality, and an expected row may leave things out.
    """
    lengths = [[0] * (len(got) + 1) for _ in range(len(expected) + 1)]
    for i in reversed(range(len(expected))):
        for j in reversed(range(len(got))):
            same = expected[i].agrees_with(got[j])
            lengths[i][j] = lengths[i + 1][j + 1] + 1 if same else max(lengths[i + 1][j], lengths[i][j + 1])
    rows: list[tuple[str, CheckInRow]] = []
    i = j = 0
    while i < len(expected) and j < len(got):
        if expected[i].agrees_with(got[j]):
            rows.append((" ", got[j]))
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            rows.append(("-", expected[i]))
            i += 1
        else:
            rows.append(("+", got[j]))
            j += 1
    return rows + [("-", row) for row in expected[i:]] + [("+", row) for row in got[j:]]


def describe_checkin(row: CheckInRow) -> str:
    """Return a check-in on one line, with what is known of it."""
    return ", ".join(
        f"{name} {_shown(value)}" for name, value in msgspec.structs.asdict(row).items() if value is not UNSET
    )


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return "nothing" if value is None else str(value)
