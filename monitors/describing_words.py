"""The words of schedules in German, and what `monitors.describing` adds to a library in each language (pure)."""

import calendar

GERMAN_UNITS = {
    "minute": ("Jede Minute", "Minuten"),
    "hour": ("Jede Stunde", "Stunden"),
    "day": ("Jeden Tag", "Tage"),
    "week": ("Jede Woche", "Wochen"),
    "month": ("Jeden Monat", "Monate"),
    "year": ("Jedes Jahr", "Jahre"),
}
LEARNING = {"en": "Learning: no schedule yet", "de": "Wird gelernt: noch kein Zeitplan"}
EVERY_DAY = {"en": "every day", "de": "jeden Tag"}
CAPITALS = {"en": ("Crontab",), "de": ("Crontab", "Minute", "Sekunde")}
"""First words that keep their capital letter within a sentence."""
OR = {"en": (", or on ", ", on "), "de": (", oder am ", ", am ")}
BOTH = {"en": ", on days that match both", "de": ", an Tagen, auf die beides zutrifft"}
EITHER = {"en": ", on days that match either", "de": ", an Tagen, auf die eines von beiden zutrifft"}
GERMAN_NAMES = dict(
    zip(
        (*list(calendar.day_name), *list(calendar.month_name)[1:]),
        (
            *("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
            *("Januar", "Februar", "März", "April", "Mai", "Juni"),
            *("Juli", "August", "September", "Oktober", "November", "Dezember"),
        ),
        strict=True,
    )
)
"""The library names days and months in the language of the process, which is English."""
