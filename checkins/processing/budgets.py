"""Budgets of an ingest key for an hour or a day (D38): no client's input can fill the disk for all others (shell).

A budget is far above what an honest project needs. Beyond it new things are refused and counted; existing monitors and
environments, and other keys, are not affected. The addresses of a project's monitors, which need no key, count as one
key together. A message without a key (`simulate`, a person who processes something again) has no budget.

One row counts the use of a budget by a key in a period. It is written only when something new is created, in the
transaction that creates it. Single things (monitors, environments, parked check-ins) are counted in one row, so
processes that create at the same moment wait for each other and no budget is overdrawn. Things that come with every
batch (bytes of logs, refusals) are counted in several rows, the stripes, and each process writes its own: none waits,
and a budget may be overdrawn by the batches that processes store at the same moment.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from django.conf import settings

from checkins.messages import Problem, ProblemKind
from lib.sql import array_literal, fetch_rows, insert_rows
from monitors.pruning import remove_piece

KEPT = timedelta(days=2)
"""How long the use of budgets is kept: the longest period is a day."""
STRIPES = 16


class Budget(StrEnum):
    """The budgets of a key."""

    MONITORS = "monitors"
    ENVIRONMENTS = "environments"
    PARKED = "parked_check_ins"
    REFUSALS = "refusals"
    REFUSAL_BYTES = "refusal_bytes"
    LOG_BYTES = "log_bytes"


SETTINGS = {
    Budget.MONITORS: "KEY_MONITORS_PER_HOUR",
    Budget.ENVIRONMENTS: "KEY_ENVIRONMENTS_PER_HOUR",
    Budget.PARKED: "KEY_PARKED_PER_HOUR",
    Budget.REFUSALS: "KEY_REFUSALS_PER_DAY",
    Budget.REFUSAL_BYTES: "KEY_REFUSAL_BYTES_PER_DAY",
    Budget.LOG_BYTES: "KEY_LOG_BYTES_PER_DAY",
}
_EXACT = frozenset({Budget.MONITORS, Budget.ENVIRONMENTS, Budget.PARKED})


class Account(NamedTuple):
    """A budget of a key; `key_id` 0 stands for the addresses of the project's monitors."""

    project_id: int
    key_id: int
    budget: Budget


def account(project_id: int, key_id: int | None, budget: Budget) -> Account | None:
    """Return the account that a budget of this key is charged to; None if nothing is charged."""
    return None if key_id is None else Account(project_id, key_id, budget)


def most(budget: Budget) -> int:
    """Return how much a key has in a period."""
    value: int = getattr(settings, SETTINGS[budget])
    return value


def _since(budget: Budget, now: datetime) -> datetime:
    """Return the start of the period, an hour or a day in UTC."""
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if SETTINGS[budget].endswith("_HOUR") else hour.replace(hour=0)


def room(accounts: Collection[Account], *, now: datetime) -> dict[Account, int]:
    """Return how much is left in each of the accounts. One statement, which waits for no lock."""
    if not accounts:
        return {}
    wanted = [(*one, _since(one.budget, now)) for one in sorted(accounts)]
    kinds = ("bigint", "bigint", "text", "timestamptz")
    rows = fetch_rows(
        """
        SELECT project_id, key_id, budget, sum(used)::bigint FROM checkins_keyuse
          JOIN unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[])
               AS wanted (project_id, key_id, budget, since) USING (project_id, key_id, budget, since)
         GROUP BY 1, 2, 3
        """,
        [array_literal(kind, column) for kind, column in zip(kinds, zip(*wanted, strict=True), strict=True)],
    )
    used = {Account(project_id, key_id, Budget(budget)): count for project_id, key_id, budget, count in rows}
    return {one: max(most(one.budget) - used.get(one, 0), 0) for one in accounts}


def charge(amounts: Mapping[Account, int], *, now: datetime) -> dict[Account, int]:
    """Charge amounts to accounts, and return what each had left before; exact for budgets of single things.

    One statement; it locks the accounts until the transaction ends. Amounts beyond the rest are counted too, which
    changes nothing: the rest is zero then.
    """
    rows = [
        (*one, _since(one.budget, now), 0 if one.budget in _EXACT else os.getpid() % STRIPES, amount)
        for one, amount in sorted(amounts.items())
        if amount
    ]
    written = insert_rows(
        "checkins_keyuse",
        {
            "project_id": "bigint",
            "key_id": "bigint",
            "budget": "text",
            "since": "timestamptz",
            "stripe": "smallint",
            "used": "bigint",
        },
        rows,
        on_conflict="""
        ON CONFLICT (project_id, key_id, budget, since, stripe)
        DO UPDATE SET used = checkins_keyuse.used + excluded.used
        """,
        returning="project_id, key_id, budget, used",
    )
    before = {
        one: used - amounts[one]
        for project_id, key_id, budget, used in written
        for one in (Account(project_id, key_id, Budget(budget)),)
    }
    return {one: max(most(one.budget) - before.get(one, 0), 0) for one in amounts}


def grant(wanted: Iterable[Account | None], *, now: datetime) -> list[bool]:
    """Return for each request for one new thing, in order, whether its account has room for it, and charge these.

    No statement if nothing is charged, one if nothing is left, else two.
    """
    wishes = list(wanted)
    counts: dict[Account, int] = {}
    for one in wishes:
        if one is not None:
            counts[one] = counts.get(one, 0) + 1
    left = {one: rest for one, rest in room(counts.keys(), now=now).items() if rest}
    left = charge({one: counts[one] for one in left}, now=now)
    granted = []
    for one in wishes:
        is_granted = one is None or left.get(one, 0) > 0
        if one is not None and is_granted:
            left[one] -= 1
        granted.append(is_granted)
    return granted


def exceeded(budget: Budget, value: str, what: str) -> Problem:
    """Return the problem of something beyond the budget of its key; `what` is the consequence."""
    period = "hour" if SETTINGS[budget].endswith("_HOUR") else "day"
    return Problem(
        ProblemKind.KEY_BUDGET_EXCEEDED,
        budget.value,
        value,
        f"{what}: the key has used up its {most(budget)} {budget.value.replace('_', ' ')} of this {period} "
        f"({SETTINGS[budget]}).",
    )


def prune_key_uses(*, now: datetime) -> int:
    """Remove one piece of the use of budgets in past periods; returns how many rows."""
    return remove_piece("checkins_keyuse", "since < %s", [now - KEPT], order_by="id")
