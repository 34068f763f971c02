"""The filters of the audit log in its address (pure, but for the reader's zone)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

TEXT_MAX = 100
ID_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters. An empty one filters nothing. `problems` names the fields that could not be read, with the reason.

    `name` is a part of that of the object. `since` and `until` are as typed, on the reader's wall clock; `begin` and
    `end` are the instants, `end` exclusive.
    """

    name: str = ""
    kind: str = ""
    id: int | None = None
    person: str = ""
    action: str = ""
    since: str = ""
    until: str = ""
    begin: datetime | None = None
    end: datetime | None = None
    before: int | None = None
    problems: Mapping[str, str] = field(default_factory=dict)

    def query(self, **others: object) -> str:
        """Return the query of an address with these filters, and others besides; without the place in the list."""
        named = {
            "object": self.name,
            "kind": self.kind,
            "id": self.id,
            "person": self.person,
            "action": self.action,
            "since": self.since,
            "until": self.until,
            **others,
        }
        return urlencode({name: value for name, value in named.items() if value not in ("", None)})


def read_filters(query: Mapping[str, str], *, zone: ZoneInfo) -> Filters:
    """Read the filters of an address. What cannot be read filters nothing, and stands in `problems`."""
    problems: dict[str, str] = {}

    def text(name: str) -> str:
        return query.get(name, "").replace("\x00", "").strip()[:TEXT_MAX]

    def number(name: str) -> int | None:
        value = text(name)
        return int(value) if value.isdecimal() and value.isascii() and len(value) <= ID_DIGITS_MAX else None

    def instant(name: str) -> datetime | None:
        value = text(name)
        if not value:
            return None
        try:
            return datetime.fromisoformat(value).replace(tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            problems[name] = _("%(value)r is no time: 2026-11-30T12:00, for example.") % {"value": value}
            return None

    return Filters(
        name=text("object"),
        kind=text("kind"),
        id=number("id"),
        person=text("person"),
        action=text("action"),
        since=text("since"),
        until=text("until"),
        begin=instant("since"),
        end=instant("until"),
        before=number("before"),
        problems=problems,
    )
