"""What all drills expect, by plain arithmetic: the judge is judged on slots that a reader can count."""

import ast
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import drills.oracle
from drills.jobs import EARLY
from drills.oracle.due import KnownRun, Ledger, Message, due_runs, due_slots
from drills.oracle.rules import Every, Rules
from drills.oracle.verdicts import Event, incidents

TEN = datetime(2026, 1, 5, 10, tzinfo=UTC)


def at(minutes):
    return TEN + timedelta(minutes=minutes)


def test_the_account_imports_nothing_of_what_it_judges():
    modules = set()
    for path in Path(drills.oracle.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules |= {node.module or "."} if isinstance(node, ast.ImportFrom) else set()
            modules |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
    own = {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names}
    assert own
    assert all(module.startswith("drills.oracle.") for module in own), own


def rules(*, every=1, margin=1, runtime=2):
    return Rules(Every(every, EARLY), margin, runtime)


def heard(minutes, *, again=None):
    return Message(at(minutes), at(minutes if again is None else again))


def slots(messages, *, until=5, deaf=(), first=0.1, **fields):
    """What became of slots: minute after ten, the tick that found it, and as what it may come out."""
    ledger = Ledger(at(until), frozenset(map(at, deaf)))
    return [
        ((due.at - TEN) / timedelta(minutes=1), *((tick - TEN) / timedelta(minutes=1) for tick in sorted(due.ticks)),
         sorted(map(str, due.outcomes)))
        for due in due_slots(rules(**fields), at(first), messages, ledger)
    ]  # fmt: skip


@pytest.mark.parametrize(("every", "minutes", "slot"), [(1, 0, 1), (1, 0.5, 1), (5, 4.9, 5), (5, 5, 10), (3, 59.5, 60)])
def test_slots_are_the_minutes_that_every_divides(every, minutes, slot):
    assert Every(every).after(at(minutes)) == at(slot)


def test_a_slot_that_nothing_served_is_missed_at_the_end_of_its_margin():
    assert slots([], every=2, margin=2, until=6) == [(2, 4, ["missed"]), (4, 6, ["missed"])]


@pytest.mark.parametrize(("minutes", "is_served"), [(1.9, False), (1.95, True), (2, True), (2.99, True), (3, False)])
def test_a_slot_is_served_from_five_seconds_before_it_until_its_margin_ends(minutes, is_served):
    assert slots([heard(minutes)], every=2, until=3) == ([] if is_served else [(2, 3, ["missed"])])


def test_a_message_that_may_have_come_again_in_time_leaves_both_open():
    assert slots([heard(1.5, again=2.5)], every=2, until=3) == [(2, 3, ["None", "missed"])]


def test_a_slot_whose_margin_was_wholly_deaf_is_unknown_and_one_that_was_so_in_part_waits():
    assert slots([], every=2, until=3, deaf=[3]) == [(2, 3, ["unknown"])]
    assert slots([], every=4, margin=2, until=9, deaf=[6]) == [(4, 7, ["missed"])]
    assert slots([heard(6.5)], every=4, margin=2, until=9, deaf=[6]) == [(4, 7, ["None", "missed"])]


def test_a_slot_that_waits_keeps_later_ones_back_and_who_serves_it_serves_them_too():
    assert slots([heard(8.5)], every=2, margin=2, until=10, deaf=[6, 7, 8], first=2.1) == [
        (4, 9, ["None", "missed"]),
        (6, 8, 9, ["None", "unknown"]),
    ]


def runs(*runs, until=9, deaf=(), **fields):
    ledger = Ledger(at(until), frozenset(map(at, deaf)))
    return [sorted(map(str, due.outcomes)) for due in due_runs(rules(**fields), runs, ledger)]


@pytest.mark.parametrize(("ended", "outcome"), [(3.49, []), (3.5, [["timeout"]]), (3.51, [["timeout"]])])
def test_a_run_times_out_at_its_beginning_and_the_longest_runtime(ended, outcome):
    assert runs(KnownRun("a", heard(1.5), at(ended), "ok"), runtime=2) == outcome


def test_a_run_that_never_ended_times_out_once_its_deadline_was_judged():
    assert runs(KnownRun("a", heard(1.5), None, None), runtime=2, until=3) == []
    assert runs(KnownRun("a", heard(1.5), None, None), runtime=2, until=4) == [["timeout"]]
    assert runs(KnownRun("a", heard(1), None, None), runtime=2, until=3) == [["timeout"]]


def test_a_deadline_in_a_deaf_minute_is_unknown_or_how_the_run_ended_later():
    assert runs(KnownRun("a", heard(1.5), None, None), deaf=[4]) == [["unknown"]]
    assert runs(KnownRun("a", heard(1.5), at(4), "ok"), deaf=[4]) == [["ok", "unknown"]]


def test_a_beginning_that_was_said_again_may_have_moved_the_deadline():
    assert runs(KnownRun("a", heard(1.5, again=2.5), at(3.5), "ok")) == [["None", "timeout"]]


def stories(text, **fields):
    """Incidents of a story of m(issed), t(imeout), e(rror) and o(k), one a minute: failures, opened and resolved by."""
    kinds = {"m": ("missed", 0), "t": ("timeout", 1), "e": ("error", 2), "o": ("ok", 3)}
    events = [Event(at(n), kinds[one][1], kinds[one][0], n, at(n)) for n, one in enumerate(text)]
    return [
        ([one.checkin for one in failures], opened_by.checkin, resolved_by and resolved_by.checkin)
        for failures, opened_by, resolved_by in incidents(events, **fields)
    ]


def test_so_many_failures_in_a_row_open_an_incident_and_so_many_oks_resolve_it():
    assert stories("omto") == [([1, 2], 1, 3)]
    assert stories("omoemmo", failures_to_open=2) == [([3, 4, 5], 4, 6)]
    assert stories("meomoo", oks_to_recover=2) == [([0, 1, 3], 0, 5)]
    assert stories("omt") == [([1, 2], 1, None)]
    assert stories("omom") == [([1], 1, 2), ([3], 3, None)]
