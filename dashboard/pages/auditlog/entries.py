"""Reading the audit log of a project, newest first (shell)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from audit.entries import CHANGED
from audit.models import AuditEntry
from dashboard.pages.auditlog.fields import label_of, value_text
from dashboard.pages.auditlog.filters import Filters
from dashboard.vocabulary import word
from monitors.models import Monitor

ENTRIES_SHOWN = 50
SHOWN_OF_CHANNELS = frozenset(
    ("name", "timezone", "language", "is_enabled", "folds", "quiet_from", "quiet_until", "project", "is_personal")
)
"""Of a channel, what those see too who may not see its settings: who does not manage channels."""
PROPOSED_FROM = 1_000
"""The newest entries whose kinds, actions and people the filters propose."""


@dataclass(frozen=True, slots=True)
class Change:
    """A field before and after; of a secret one, only that it changed."""

    name: str
    before: str
    after: str
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry with its changes; `slug` leads to the page of its monitor, if that exists."""

    entry: AuditEntry
    changes: Sequence[Change]
    slug: str


def find_entries(project_id: int, filters: Filters) -> QuerySet[AuditEntry]:
    """Return the entries that the filters leave, newest first. No statement. Index: audit_entry_of_project."""
    rows = AuditEntry.objects.filter(project_id=project_id).order_by("-id")
    exact = {"kind": filters.kind, "object_id": filters.id, "action": filters.action}
    rows = rows.filter(**{name: value for name, value in exact.items() if value not in ("", None)})
    if filters.name:
        rows = rows.filter(object_name__icontains=filters.name)
    if filters.person:
        rows = rows.filter(actor_name__icontains=filters.person)
    if filters.begin is not None:
        rows = rows.filter(at__gte=filters.begin)
    if filters.end is not None:
        rows = rows.filter(at__lt=filters.end)
    return rows if filters.before is None else rows.filter(id__lt=filters.before)


def load_page(project_id: int, filters: Filters, *, sees_channels: bool) -> tuple[Sequence[Shown], int | None]:
    """Return a page of entries, and the id before which the next page begins, if there is one. Two statements."""
    rows = list(find_entries(project_id, filters)[: ENTRIES_SHOWN + 1])
    shown, rest = rows[:ENTRIES_SHOWN], rows[ENTRIES_SHOWN:]
    ids = [row.object_id for row in shown if row.kind == "monitor"]
    monitors = Monitor.objects.not_deleted().filter(project_id=project_id, id__any_of=ids)
    slugs: dict[int | None, str] = dict(monitors.values_list("id", "slug"))
    found = []
    for row in shown:
        changes = changes_of(visible_changes(row, sees_channels=sees_channels))
        found.append(Shown(row, changes, slugs.get(row.object_id or 0, "") if row.object_id in ids else ""))
    return found, shown[-1].pk if rest else None


def load_proposals(project_id: int) -> dict[str, Sequence[str]]:
    """Return what the filters propose. One statement."""
    newest = AuditEntry.objects.filter(project_id=project_id).order_by("-id")
    rows = list(newest.values_list("kind", "action", "actor_name")[:PROPOSED_FROM])
    names = ("kinds", "actions", "people")
    return {name: sorted({row[number] for row in rows}) for number, name in enumerate(names)}


def visible_changes(entry: AuditEntry, *, sees_channels: bool) -> Mapping[str, Any]:
    """Return the changes of an entry; without `sees_channels`, of the settings of channels only that they changed."""
    changes: Mapping[str, Any] = entry.changes
    if sees_channels or entry.kind != "channel":
        return changes
    return {name: change if name in SHOWN_OF_CHANNELS else CHANGED for name, change in changes.items()}


def changes_of(changes: Mapping[str, Any]) -> Sequence[Change]:
    """Return changes as text."""
    found = []
    for name, change in changes.items():
        label = label_of(name)
        if isinstance(change, list) and len(change) == 2:
            found.append(Change(label, value_text(name, change[0]), value_text(name, change[1])))
        else:
            found.append(Change(label, "", word(value_text(name, change)), is_secret=True))
    return found
