"""Schedules in German words, and within sentences."""

import pytest

from monitors.describing import describe, describe_briefly
from monitors.schedule import Schedule, read_schedule


@pytest.mark.parametrize(
    ("crontab", "words"),
    [
        ("*/5 * * * *", "Alle 5 Minuten (UTC)"),
        ("0 9 * * 1-5", "Um 09:00, Montag bis Freitag (UTC)"),
        ("0 0 13 * 5", "Um 00:00, am 13 Tag des Monats, oder am Freitag (UTC)"),
        ("0 0 */2 * 1", "Um 00:00, alle 2 Tage, am Montag, an Tagen, auf die beides zutrifft (UTC)"),
        ("0 0 1,L * *", "Crontab 0 0 1,L * * (UTC)"),
    ],
)
def test_a_crontab_in_german(crontab, words):
    assert describe(Schedule.from_crontab(crontab, "UTC"), "de") == words


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Learning: no schedule yet"), ("de", "Wird gelernt: noch kein Zeitplan")]
)
def test_a_schedule_that_is_not_known_yet_is_no_crontab(language, words):
    assert describe(Schedule.learning("Europe/Vienna"), language) == words


@pytest.mark.parametrize(("count", "words"), [(1, "Jede Stunde (UTC)"), (3, "Alle 3 Stunden (UTC)")])
def test_an_interval_in_german(count, words):
    assert describe(Schedule.from_interval(count, "hour", "UTC"), "de") == words


@pytest.mark.parametrize(
    ("crontab", "english", "german"),
    [
        ("0 3 * * *", "every day at 03:00", "jeden Tag um 03:00"),
        ("0 3,15 * * *", "every day at 03:00 and 15:00", "jeden Tag um 03:00 und 15:00"),
        ("0 3 * * 1-5", "at 03:00, Monday through Friday", "um 03:00, Montag bis Freitag"),
        ("5-10 * * * *", "minutes 5 through 10 past the hour", "Minuten 5 bis 10"),
        ("0 0 1,L * *", "at 00:00, on day 1 and the last day of the month", "Crontab 0 0 1,L * *"),
    ],
)
def test_a_crontab_within_a_sentence(crontab, english, german):
    schedule = Schedule.from_crontab(crontab, "Europe/Berlin")
    assert (describe_briefly(schedule), describe_briefly(schedule, "de")) == (english, german)


def test_a_schedule_that_cannot_be_read_is_left_out_of_a_sentence():
    assert describe_briefly(read_schedule("crontab", "nonsense", None, None, "UTC")) == ""
