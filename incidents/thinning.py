"""Thinning the occurrences of an incident: the first and the newest are stored, with a count of all (D42).

An incident of a job that fails every minute for a year has half a million occurrences. The first ones show how it
began, the newest ones its present state; those between add nothing. `Incident.occurrence_count` counts all of them, and
each occurrence has its number. The transaction that adds an occurrence removes the one that it overtakes, by number, so
the limit always holds.
"""

from collections.abc import Iterable

from django.db import connection

from lib.sql import array_literal

OCCURRENCES_FIRST = 10
"""The first occurrences of an incident, stored as long as the incident is."""
OCCURRENCES_NEWEST = 100
"""The newest occurrences of an incident, stored in addition."""


def is_kept(number: int, *, count: int) -> bool:
    """Return whether the occurrence with this number, counted from 1, stays in an incident that has had `count`.

    >>> [number for number in range(1, 114) if not is_kept(number, count=113)]
    [11, 12, 13]
    """
    return number <= OCCURRENCES_FIRST or number > count - OCCURRENCES_NEWEST


def thin_out(grown: Iterable[tuple[int, int, int]]) -> int:
    """Remove the occurrences that were overtaken, given incidents with their counts before and after; returns how many.

    One statement. The caller has locked the incidents' environments. Index: occurrence_numbered_once.
    """
    overtaken = [
        (incident_id, max(before - OCCURRENCES_NEWEST, OCCURRENCES_FIRST), after - OCCURRENCES_NEWEST)
        for incident_id, before, after in grown
        if after - OCCURRENCES_NEWEST > max(before - OCCURRENCES_NEWEST, OCCURRENCES_FIRST)
    ]
    if not overtaken:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM incidents_occurrence AS o
             USING unnest(%s::bigint[], %s::integer[], %s::integer[]) AS overtaken (incident_id, above, until)
             WHERE o.incident_id = overtaken.incident_id AND o.number > overtaken.above AND o.number <= overtaken.until
            """,
            [
                array_literal(kind, column)
                for kind, column in zip(("bigint", "integer", "integer"), zip(*overtaken, strict=True), strict=True)
            ],
        )
        return int(cursor.rowcount)
