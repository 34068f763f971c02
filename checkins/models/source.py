"""A column of check-ins that is stored shorter than it is read."""

from typing import TYPE_CHECKING, Any

from django.db import models

from checkins.messages import SOURCE_CODES

if TYPE_CHECKING:
    TextField = models.CharField[str, str]
else:
    TextField = models.CharField

_CODES = {source.value: code for source, code in SOURCE_CODES.items()}
_NAMES = {code: name for name, code in _CODES.items()}


class SourceField(TextField):
    """A source, which is stored as its code. Check-ins that were stored before there were codes have the whole name."""

    def get_prep_value(self, value: Any) -> Any:
        """Return what is stored."""
        return _CODES.get(value, value)

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        """Return the name, whichever of the two is stored."""
        return None if value is None else _NAMES.get(value, value)
