"""What the audit log stores of a change: who, from where, when, of which object, before and after (pure).

Everything stored is bounded: `stored_changes`.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

NAME_CHARACTERS_MAX = 200
"""Characters stored of the names of actors and objects."""
WORD_CHARACTERS_MAX = 30
"""Characters of a kind of object, and of an action. These are constants of the code."""
VALUE_CHARACTERS_MAX = 500
"""Characters stored of a value, before and after each; of a list, of all its items as JSON."""
FIELDS_MAX = 50
"""Fields stored of one change; the others are counted."""

CHANGED = "changed"
"""The action of an edit. An edit that left all fields as they were is not recorded."""
LEFT_OUT = "…"
"""The key under which the number of fields beyond `FIELDS_MAX` is stored."""

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


class Source(StrEnum):
    """The way by which a change came."""

    ADMIN = "admin"
    API = "api"
    COMMAND = "command"
    SYSTEM = "system"
    LINK = "link"
    """By a signed link in an alert, without an account."""
    PAGE = "page"
    """On the pages for people."""
    CHANNEL = "channel"
    """In a service that alerts go to, such as a pager, which called back."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, from where, and when: `at`, an aware instant.

    `id` is the account's; None for a program. `name` stays readable when the account is gone.
    """

    name: str
    source: Source
    at: datetime
    id: int | None = None


Changes = Mapping[str, tuple[Any, Any]]
"""Fields with their values before and after."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of one object. `kind` is the word for what it is ("monitor"), `action` what was done ("muted").

    Of the fields in `secret` no value is stored, only that they changed.
    """

    kind: str
    id: int | None
    name: str
    action: str
    project_id: int | None = None
    changes: Changes = field(default_factory=dict)
    secret: Collection[str] = ()


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Return the fields of `after` whose values differ from those in `before`; a missing field counts as None.

    >>> difference({"margin": 1, "owner": ""}, {"margin": 5, "owner": ""})
    {'margin': (1, 5)}
    """
    return {name: (before.get(name), value) for name, value in after.items() if before.get(name) != value}


def stored_changes(entry: Entry) -> dict[str, Any]:
    """Return the changes of an entry as bounded JSON: `[before, after]` for each field, `"changed"` for secret ones.

    >>> stored_changes(Entry("key", 7, "jobs", CHANGED, None, {"label": ("a", "b"), "key": (1, 2)}, secret={"key"}))
    {'label': ['a', 'b'], 'key': 'changed'}
    """
    stored: dict[str, Any] = {
        text(name, WORD_CHARACTERS_MAX): CHANGED if name in entry.secret else [_plain(before), _plain(after)]
        for name, (before, after) in list(entry.changes.items())[:FIELDS_MAX]
    }
    if len(entry.changes) > FIELDS_MAX:
        stored[LEFT_OUT] = len(entry.changes) - FIELDS_MAX
    return stored


def text(value: object, most: int) -> str:
    """Return a text that PostgreSQL can store, of at most `most` characters.

    >>> text("a name that is too long", 10)
    'a name th…'
    """
    whole = _NOT_STORABLE.sub("\ufffd", str(value))
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON does not know becomes text."""
    match value:
        case None | bool():
            return value
        case int() if abs(value) < 1 << 53:  # Beyond that, readers of JSON disagree.
            return value
        case list() | tuple():
            items = [_plain(item) for item in value[:VALUE_CHARACTERS_MAX]]
            written = json.dumps(items, ensure_ascii=False)
            is_whole = len(value) == len(items) and len(written) <= VALUE_CHARACTERS_MAX
            return items if is_whole else text(written, VALUE_CHARACTERS_MAX)
        case set() | frozenset():
            return _plain(sorted(map(str, value)))
        case datetime():
            return value.isoformat()
        case _:
            return text(value, VALUE_CHARACTERS_MAX)
