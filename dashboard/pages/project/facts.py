"""What the settings of a project show (shell)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, QuerySet

from accounts.models import Invitation, Membership
from monitors.models import IngestKey, Monitor, Project

ENDED_KEYS_SHOWN = 100
MEMBERS_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Key:
    """A key with its state: "active", "ending", "ended" or "revoked"."""

    row: IngestKey
    state: str

    @property
    def is_in_force(self) -> bool:
        """Whether check-ins with it are accepted."""
        return self.state in ("active", "ending")


def load_members(project: Project) -> Sequence[Membership]:
    """Return the members, by name. One statement."""
    return list(project.memberships.select_related("user").order_by("user__username")[:MEMBERS_SHOWN])


def load_invitations(project: Project, *, now: datetime) -> Sequence[Invitation]:
    """Return the open invitations, by address. One statement; `accounts.invitations.OPEN_MAX` bounds them."""
    return list(project.invitations.filter(expires_at__gt=now).order_by("address"))


def load_keys(project: Project, *, now: datetime) -> Sequence[Key]:
    """Return the keys in force, then the newest of the others. Two statements."""
    alive = list(project.ingest_keys.in_force(now))
    others = project.ingest_keys.exclude(id__any_of=[row.pk for row in alive]).order_by("-id")
    return [Key(row, key_state(row, now=now)) for row in (*alive, *others[:ENDED_KEYS_SHOWN])]


def key_state(key: IngestKey, *, now: datetime) -> str:
    """Return the state of a key."""
    if not key.is_active:
        return "revoked"
    if key.ends_at is None:
        return "active"
    return "ending" if key.ends_at > now else "ended"


@dataclass(frozen=True, slots=True)
class ShownProject:
    """A project of a list, with the number of its monitors."""

    row: Project
    monitor_count: int


def find_projects(projects: QuerySet[Project], text: str) -> QuerySet[Project]:
    """Return those whose name or slug contains a text, by name. No statement."""
    if text:
        projects = projects.filter(Q(name__icontains=text) | Q(slug__icontains=text))
    return projects.order_by("name", "pk")


def count_monitors(projects: Sequence[Project]) -> Sequence[ShownProject]:
    """Return projects with the number of their monitors. One statement, which reads the monitors of these only."""
    monitors = Monitor.objects.not_deleted().filter(project_id__any_of=[row.pk for row in projects])
    counts = dict(monitors.order_by().values_list("project_id").annotate(Count("pk")))
    return [ShownProject(row, counts.get(row.pk, 0)) for row in projects]
