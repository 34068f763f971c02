"""When people are reminded, and whose turn it is, until somebody acknowledges an incident."""

from datetime import timedelta

import pytest

from incidents.notifications.pursuit import (
    Escalation,
    Standing,
    Step,
    StepError,
    judge,
    parse_steps,
    read_step_lines,
    reminder_wait,
    usable_step,
    write_step_lines,
)
from tests.factories import NOW

HOUR = timedelta(hours=1)
OPEN = Standing(is_open=True)
TWO = Escalation((Step(5, (1, 2)), Step(10, (3,))))


def test_an_open_incident_that_nobody_has_acknowledged_is_told_again():
    assert judge(OPEN, now=NOW).is_to_send


@pytest.mark.parametrize("standing", [Standing(is_open=False), Standing(is_open=True, is_acknowledged=True)])
def test_after_its_end_and_its_acknowledgement_nothing_is_told_any_more(standing):
    verdict = judge(standing, now=NOW)
    assert (verdict.is_to_send, verdict.again_at) == (False, None)


def test_snoozing_puts_it_off_until_its_end_and_no_longer():
    snoozed = Standing(is_open=True, snoozed_until=NOW + HOUR)
    assert judge(snoozed, now=NOW).again_at == NOW + HOUR
    assert judge(snoozed, now=NOW + HOUR).is_to_send


def test_a_muted_incident_is_looked_at_again():
    verdict = judge(Standing(is_open=True, is_quiet=True), now=NOW)
    assert not verdict.is_to_send
    assert verdict.again_at == NOW + HOUR


def test_the_wait_for_a_reminder_doubles_up_to_a_day_and_a_longer_one_stays():
    assert [reminder_wait(4, done) / HOUR for done in range(5)] == [4, 8, 16, 24, 24]
    assert [reminder_wait(48, done) / HOUR for done in range(3)] == [48, 48, 48]


def test_steps_come_in_order_and_again_in_each_loop():
    twice = Escalation(TWO.steps, loops=1)
    assert [usable_step(twice, done, {1, 2, 3}) for done in range(5)] == [
        ((1, 2), 1),
        ((3,), 2),
        ((1, 2), 3),
        ((3,), 4),
        None,
    ]


def test_a_step_whose_channels_are_gone_is_passed_over_at_once():
    assert usable_step(TWO, 0, {3}) == ((3,), 2)
    assert usable_step(TWO, 0, {2}) == ((2,), 1)
    assert usable_step(TWO, 1, {1}) is None


CHANNELS = {"pager": 7, "leads": 9}


def test_steps_are_written_as_lines_and_read_back():
    stored = read_step_lines("5 minutes: pager\n\n30 minutes: leads, pager, leads\n", CHANNELS)
    assert stored == [{"minutes": 5, "channels": [7]}, {"minutes": 30, "channels": [9, 7]}]
    assert write_step_lines(stored, {7: "pager", 9: "leads"}) == "5 minutes: pager\n30 minutes: leads, pager"
    assert parse_steps(stored) == (Step(5, (7,)), Step(30, (9, 7)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pager", r"step 1, 'pager', must be: 30 minutes: channel"),
        ("soon: pager", r"step 1, 'soon: pager', must be"),
        ("5 hours: pager", "must be: 30 minutes"),
        ("5 minutes: pagr", "no channel 'pagr'. It has: leads, pager"),
        ("5 minutes:", "step 1 must name 1 to 10 channels"),
        ("0 minutes: pager", "minutes of step 1: 0 must be from 1 to 10,080"),
        ("99999 minutes: pager", "minutes of step 1"),
        ("5 minutes: pager\n" * 11, "at most 10"),
    ],
)
def test_a_line_that_is_no_step_is_refused_with_what_is_allowed(text, problem):
    with pytest.raises(StepError, match=problem):
        read_step_lines(text, CHANNELS)
