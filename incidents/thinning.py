"""Which occurrences of an incident are kept: the first and the newest, with a count of all (D42).

An incident of a job that fails every minute for a year has half a million occurrences. The first ones say how it began,
the newest ones how it goes on; those between say the same again. `Incident.occurrence_count` counts all of them, and
each occurrence knows its number. What is between goes when it is overtaken, in the transaction that adds the next one,
so that there is never more: adding one removes one, found by its number.
"""

from collections.abc import Iterable

from django.db import connection

from lib.sql import array_literal

OCCURRENCES_FIRST = 10
"""Occurrences of an incident that are kept from its beginning on, for as long as the incident is."""
OCCURRENCES_NEWEST = 100
"""Occurrences of an incident that are kept beside them."""


def is_kept(number: int, *, count: int) -> bool:
    """Tell whether the occurrence with this number, counted from 1, is kept in an incident that has had `count`.

    >>> [number for number in range(1, 114) if not is_kept(number, count=113)]
    [11, 12, 13]
    """
    return number <= OCCURRENCES_FIRST or number > count - OCCURRENCES_NEWEST


def thin_out(grown: Iterable[tuple[int, int, int]]) -> int:
    """Remove what is not kept any more of incidents, given with their counts before and after; returns how many.

    One statement. The caller holds the incidents' environments. Index: occurrence_numbered_once.
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
