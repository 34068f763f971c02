"""What services and pure modules say, in the reader's language."""

from datetime import timedelta

from django.utils.translation import get_language, gettext, ngettext

from dashboard.vocabulary import word
from incidents.notifications.words import ENGLISH, number
from lib.durations import duration
from lib.texts import Text


def said(what: object) -> str:
    """Return a text, or the text of an error, in the reader's language.

    What remembers no pattern (`lib.texts`) stays as it is: texts that were translated where they were written, and
    answers of other programs.
    """
    if isinstance(what, Exception):
        what = getattr(what, "text", None) or (what.args[0] if len(what.args) == 1 else str(what))
    if not isinstance(what, Text):
        return str(what)
    if what.many:
        count = what.values["count"]
        assert isinstance(count, int), "it chooses the pattern"
        pattern = ngettext(what.pattern, what.many, count)
    else:
        pattern = gettext(what.pattern)
    text = pattern % {name: written(value) for name, value in what.values.items()} if what.values else pattern
    return text[:1].lower() + text[1:] if what.is_lowered and _language() == ENGLISH else text


def written(value: object) -> str:
    """Return a value as it stands in a sentence of the reader's language: a number, a length of time, a text."""
    if isinstance(value, timedelta):
        return duration(value, language=_language())
    return number(_language(), value) if isinstance(value, int) else said(value)


def _language() -> str:
    return (get_language() or ENGLISH).partition("-")[0]


def said_or_word(what: str) -> str:
    """Return a text or a short word of a value in the reader's language."""
    return said(what) if isinstance(what, Text) else word(what)
