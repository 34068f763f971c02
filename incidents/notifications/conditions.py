"""Conditions of routes as people write them: one a line (pure).

tag is db
monitor like nightly-*, weekly-*
"""

from collections.abc import Iterable, Mapping
from typing import Any

from incidents.notifications.routing import ConditionError, parse_conditions
from lib.texts import Text


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Return the conditions in a text as they are stored. Raises ConditionError, which names the condition.

    >>> parse_lines("tag is db, web")
    [{'attribute': 'tag', 'operator': 'is', 'values': ['db', 'web']}]
    """
    found = []
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        words = line.split(None, 2)
        if len(words) < 3:
            text = Text(
                "condition %(number)s, %(line)s, must be: attribute is|like value, value ...",
                number=number,
                line=repr(line[:100]),
            )
            raise ConditionError(text)
        values = [value for part in words[2].split(",") if (value := part.strip())]
        found.append({"attribute": words[0], "operator": words[1], "values": values})
    parse_conditions(found)
    return found


def format_conditions(stored: Iterable[Mapping[str, Any]]) -> str:
    """Return stored conditions as lines.

    >>> format_conditions([{"attribute": "tag", "operator": "is", "values": ["db", "web"]}])
    'tag is db, web'
    """
    return "\n".join(f"{one['attribute']} {one['operator']} {', '.join(one['values'])}" for one in stored)
