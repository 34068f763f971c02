"""Storing processing errors and loss reports, at a low cost whatever their number (shell).

One row a minute and kind for the same monitor and environment, with a count (D13). Of slugs without a monitor, and of
payloads, ten of a kind are stored; the others are only counted. A key has a number of rows and bytes a day, and beyond
them its refusals are only counted (D38).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from checkins import metrics
from checkins.messages import LossReport, Problem, ProblemKind, Source
from checkins.processing.budgets import Account, Budget, account, charge, exceeded, room
from checkins.processing.rows import insert_loss_reports
from lib.encoding import to_json
from lib.sql import insert_rows

PAYLOAD_BYTES_MAX = 4_000
"""The part of a payload that is stored with a processing error, as JSON."""
ALIKE_MAX = 10
"""Payloads, and slugs without a monitor, stored of one kind, key and minute in one batch."""
FIELD_CHARACTERS_MAX = 200
_ROW_BYTES = 300
"""The approximate size of a row without its texts."""


@dataclass(frozen=True, slots=True)
class ProblemReport:
    """A problem, its place, and the payload. `monitor_id` is None if the slug is not known.

    `key_id` is the key whose budgets are charged; None: none are.
    """

    project_id: int
    monitor_id: int | None
    slug: str
    environment: str
    source: Source
    received_at: datetime
    problem: Problem
    payload: Mapping[str, object]
    key_id: int | None = None


def shortened(payload: Mapping[str, object]) -> Mapping[str, object]:
    """Return a payload of at most PAYLOAD_BYTES_MAX bytes: as it is, or the beginnings of its fields."""
    size = len(to_json(payload))
    if size <= PAYLOAD_BYTES_MAX:
        return payload
    cut: dict[str, object] = {"shortened": f"{size} bytes were sent"}
    left = PAYLOAD_BYTES_MAX - len(to_json(cut))
    for name, value in payload.items():
        text = to_json(value)
        if len(text) > FIELD_CHARACTERS_MAX:
            value = f"{text[:FIELD_CHARACTERS_MAX].decode(errors='ignore')}… ({len(text)} bytes)"
        left -= len(to_json({name: value}))
        if left < 0:
            break
        cut[name] = value
    return cut


@dataclass(slots=True)
class _Row:
    report: ProblemReport
    first: datetime
    last: datetime
    count: int
    payload: Mapping[str, object]

    @property
    def size(self) -> int:
        problem = self.report.problem
        return _ROW_BYTES + len(problem.message) + len(problem.value) + len(to_json(self.payload))


_Key = tuple[int, str, str, str, str, datetime]


def record_problems(reports: Iterable[ProblemReport], *, now: datetime) -> None:
    """Store processing errors. One statement, two more where budgets are charged; none if there are none."""
    rows = _within_budgets(_folded(reports), now=now)
    if not rows:
        return
    written = insert_rows(
        "checkins_processingerror",
        {
            "project_id": "bigint",
            "slug": "text",
            "environment": "text",
            "kind": "text",
            "field": "text",
            "minute": "timestamptz",
            "monitor_id": "bigint",
            "value": "text",
            "message": "text",
            "source": "text",
            "first_received_at": "timestamptz",
            "last_received_at": "timestamptz",
            "count": "integer",
            "payload": "jsonb",
        },
        [
            (
                *key,
                rows[key].report.monitor_id,
                rows[key].report.problem.value,
                rows[key].report.problem.message,
                rows[key].report.source.value,
                rows[key].first,
                rows[key].last,
                rows[key].count,
                rows[key].payload,
            )
            for key in sorted(rows)
        ],
        on_conflict="""
        ON CONFLICT (project_id, slug, environment, kind, field, minute) DO UPDATE SET
            count = checkins_processingerror.count + excluded.count,
            last_received_at = greatest(checkins_processingerror.last_received_at, excluded.last_received_at)
        """,
        returning="project_id, slug, environment, kind, field, minute, xmax = 0",
    )
    amounts: dict[Account, int] = {}
    for *key, is_new in written:
        row = rows[_key(*key)]
        if is_new:
            for paying, amount in zip(_accounts(row.report), (1, row.size), strict=False):
                amounts[paying] = amounts.get(paying, 0) + amount
    charge(amounts, now=now)


def record_loss_reports(reports: Sequence[LossReport], *, now: datetime) -> None:
    """Store clients' own reports of lost check-ins (D19), within the budget of refusals."""
    paying = [account(report.project_id, report.key_id, Budget.REFUSALS) for report in reports]
    left = room({one for one in paying if one is not None}, now=now)
    kept = []
    amounts: dict[Account, int] = {}
    for report, one in zip(reports, paying, strict=True):
        if one is not None:
            if amounts.get(one, 0) >= left[one]:
                continue
            amounts[one] = amounts.get(one, 0) + 1
        kept.append(report)
    insert_loss_reports(kept)
    charge(amounts, now=now)


def _key(project_id: int, slug: str, environment: str, kind: str, field: str, minute: datetime) -> _Key:
    return project_id, slug, environment, kind, field, minute


def _accounts(report: ProblemReport) -> list[Account]:
    if report.problem.kind is ProblemKind.KEY_BUDGET_EXCEEDED:
        return []  # Too few and too small to be charged.
    both = (account(report.project_id, report.key_id, budget) for budget in (Budget.REFUSALS, Budget.REFUSAL_BYTES))
    return [one for one in both if one is not None]


def _folded(reports: Iterable[ProblemReport]) -> dict[_Key, _Row]:
    """Merge equal reports, and those beyond the limit of one kind."""
    rows: dict[_Key, _Row] = {}
    alike: dict[tuple[Any, ...], int] = {}
    refused: dict[str, int] = {}
    for report in reports:
        problem = report.problem
        minute = report.received_at.replace(second=0, microsecond=0)
        key = _key(report.project_id, report.slug, report.environment, problem.kind.value, problem.field, minute)
        if problem.kind is ProblemKind.KEY_BUDGET_EXCEEDED:
            key = _key(report.project_id, "", "", problem.kind.value, problem.field, minute)
            refused[problem.field] = refused.get(problem.field, 0) + 1
        kind = report.project_id, report.key_id, problem.kind, minute
        is_crowded = alike.get(kind, 0) >= ALIKE_MAX
        if key not in rows and is_crowded and report.monitor_id is None:
            key = _key(report.project_id, "", "", problem.kind.value, problem.field, minute)
        row = rows.get(key)
        if row is None:
            alike[kind] = alike.get(kind, 0) + 1
            payload = {} if is_crowded else shortened(report.payload)
            rows[key] = _Row(report, report.received_at, report.received_at, 1, payload)
        else:
            row.last, row.count = max(row.last, report.received_at), row.count + 1
    _count_refused(refused)
    return rows


def _within_budgets(rows: dict[_Key, _Row], *, now: datetime) -> dict[_Key, _Row]:
    """Return the rows within the budgets of their keys; the others are counted in one row for the hour."""
    left = room({one for row in rows.values() for one in _accounts(row.report)}, now=now)
    kept: dict[_Key, _Row] = {}
    over = 0
    for key, row in rows.items():
        paying = _accounts(row.report)
        if all(left[one] > 0 for one in paying):
            for one, amount in zip(paying, (1, row.size), strict=False):
                left[one] -= amount
            kept[key] = row
            continue
        over += row.count
        report = row.report
        hour = row.first.replace(minute=0, second=0, microsecond=0)
        many = _key(report.project_id, "", "", ProblemKind.KEY_BUDGET_EXCEEDED.value, Budget.REFUSALS.value, hour)
        if many in kept:
            kept[many].last, kept[many].count = max(kept[many].last, row.last), kept[many].count + row.count
            continue
        problem = exceeded(Budget.REFUSALS, report.problem.kind.value, "this and more refusals are only counted")
        summary = ProblemReport(
            report.project_id, None, "", "", report.source, report.received_at, problem, {}, report.key_id
        )
        kept[many] = _Row(summary, row.first, row.last, row.count, {})
    _count_refused({Budget.REFUSALS.value: over})
    return kept


def _count_refused(refused: Mapping[str, int]) -> None:
    """Count after the commit: a batch that is tried again counts once."""
    counts = {budget: count for budget, count in refused.items() if count}
    if counts:
        transaction.on_commit(lambda: metrics.observe_refused(counts))
