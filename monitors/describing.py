"""Schedules in words, for people (pure)."""

import re
from functools import lru_cache

import cron_descriptor  # type: ignore[import-untyped]

from monitors.describing_words import (
    BOTH,
    CAPITALS,
    EITHER,
    EVERY_DAY,
    GERMAN_NAMES,
    GERMAN_UNITS,
    LEARNING,
    OR,
)
from monitors.schedule import Schedule, why_unreadable

_DAILY = re.compile(r"(?:At|Um) \d\d:\d\d(?:(?:,| and| und) \d\d:\d\d)*")
_STEP = re.compile(r"\*/([0-9]+)")


@lru_cache(maxsize=4096)
def describe(schedule: Schedule, language: str = "en") -> str:
    """Return the schedule in words, with its zone, on a 24-hour clock: "Every 5 minutes (UTC)"; `language`: en, de."""
    if reason := why_unreadable(schedule):
        return reason
    if schedule.is_learning:
        return LEARNING[language]
    if schedule.crontab is not None:
        text = _describe_crontab(schedule.crontab, language)
    else:
        text = _describe_interval(schedule.interval or 1, str(schedule.interval_unit), language)
    return f"{text} ({schedule.timezone})"


def describe_briefly(schedule: Schedule, language: str = "en") -> str:
    """Return the schedule in words for the middle of a sentence, without its zone; empty if it cannot be read.

    >>> describe_briefly(Schedule.from_crontab("0 3 * * *")), describe_briefly(Schedule.from_crontab("0 3 * * 1"), "de")
    ('every day at 03:00', 'um 03:00, nur am Montag')
    """
    if why_unreadable(schedule):
        return ""
    text = describe(schedule, language).removesuffix(f" ({schedule.timezone})")
    if text.startswith(CAPITALS[language]):
        return text
    lowered = text[0].lower() + text[1:]
    return f"{EVERY_DAY[language]} {lowered}" if _DAILY.fullmatch(text) else lowered


def _describe_interval(count: int, unit: str, language: str) -> str:
    if language == "de":
        one, many = GERMAN_UNITS[unit]
        return one if count == 1 else f"Alle {count} {many}"
    return f"Every {unit}" if count == 1 else f"Every {count} {unit}s"


LOCALES = {"en": "en_US", "de": "de_DE"}


def _describe_crontab(crontab: str, language: str) -> str:
    options = cron_descriptor.Options(locale_code=LOCALES[language], use_24hour_time_format=True)
    minute, hour, day_of_month, month, day_of_week = crontab.split()
    if "," in day_of_week and ("#" in day_of_week or "L" in day_of_week.upper()):
        return f"Crontab {crontab}"  # The library does not name the week of the month.
    plain = " ".join(
        (
            _counted_out(minute, range(60)),
            _counted_out(hour, range(24)),
            _counted_out(day_of_month, range(1, 32), is_even=True),
            _counted_out(month, range(1, 13)),
            _counted_out(day_of_week, range(7), is_even=True),
        )
    )
    try:
        text = str(cron_descriptor.get_description(plain.upper(), options))
    except cron_descriptor.FormatError:
        # It supports fewer forms than cronsim, and a missing description must not break a page.
        return f"Crontab {crontab}"
    if language == "de":
        if "," in day_of_month and "L" in day_of_month.upper():
            return f"Crontab {crontab}"
        text = re.sub("|".join(GERMAN_NAMES), lambda found: GERMAN_NAMES[found[0]], text)
    elif "," in day_of_month:
        text = re.sub(r"\bL\b", "the last day", re.sub(r"\bLW\b", "the last weekday", text)).replace(
            "day the last", "the last"
        )
    if "*" in (day_of_month, day_of_week):
        return text
    # crontab(5): two day fields mean either of them, but both of them as soon as one starts with a star. The library
    # writes "or" for some forms and nothing for others.
    either, both = OR[language]
    if day_of_month.startswith("*") or day_of_week.startswith("*"):
        return text.replace(either, both) + BOTH[language]
    return text if either in text else text + EITHER[language]


def _counted_out(field: str, numbers: range, *, is_even: bool = False) -> str:
    """List the values of an uneven step: */90 in the minute field is every hour, */45 is at 0 and 45.

    `is_even`: the field has no fixed length, and its steps are clear as long as there are two.
    """
    found = _STEP.fullmatch(field)
    if found is None or (step := int(found[1])) < 1:
        return field
    if step >= len(numbers) or (len(numbers) % step and not is_even):
        return ",".join(str(number) for number in numbers[::step])
    return field
