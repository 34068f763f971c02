"""Sentences of code that knows no language (pure): English, and what a page needs to say them in another one."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Self

from lib.durations import duration


class Text(str):
    """A sentence in English that remembers its pattern and the values in it.

    Pages say it in the reader's language (`dashboard.texts.said`); for everybody else it is an English `str`. A
    pattern names its values, `%(name)s`; with values, `%%` is a percent sign. Whole numbers get their commas here, and
    lengths of time their words.

    >>> Text("%(name)s has to end within %(most)s seconds.", name="jobs", most=86_400)
    'jobs has to end within 86,400 seconds.'
    """

    pattern: str
    many: str
    values: Mapping[str, object]
    is_lowered = False

    def __new__(cls, pattern: str, **values: object) -> Self:  # noqa: D102 - as documented above
        return cls._filled(pattern, "", values)

    @classmethod
    def plural(cls, one: str, many: str, count: int, **values: object) -> Self:
        """Return a sentence whose pattern depends on the number `count`.

        >>> Text.plural("%(count)s key", "%(count)s keys", 1), Text.plural("%(count)s key", "%(count)s keys", 1_200)
        ('1 key', '1,200 keys')
        """
        return cls._filled(one, many, {**values, "count": count})

    def lowered(self) -> Self:
        """Return it as the second half of an English sentence; in other languages it stays as it is.

        >>> Text("No beat runs.").lowered()
        'no beat runs.'
        """
        text = str.__new__(type(self), self[:1].lower() + self[1:])
        text.pattern, text.many, text.values, text.is_lowered = self.pattern, self.many, self.values, True
        return text

    @classmethod
    def _filled(cls, one: str, many: str, values: Mapping[str, object]) -> Self:
        pattern = many if many and values["count"] != 1 else one
        written = {name: _written(value) for name, value in values.items()}
        text = str.__new__(cls, pattern % written if values else pattern)
        text.pattern, text.many, text.values = one, many, values
        return text


def _written(value: object) -> object:
    if isinstance(value, timedelta):
        return duration(value)
    return f"{value:,}" if isinstance(value, int) else value
