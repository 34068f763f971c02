"""Schedules in German words."""

import pytest

from monitors.describing import describe
from monitors.schedule import Schedule


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
