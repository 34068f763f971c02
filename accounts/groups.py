"""Which groups of a company have which roles in projects: read from a setting, and applied to a person (pure)."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from accounts.roles import Role


@dataclass(frozen=True, slots=True)
class GroupRole:
    """The members of a group have a role in the project with this slug."""

    group: str
    project: str
    role: Role


def parse_group_role(text: str) -> GroupRole:
    """Read `group=project:role`. The name of a group may contain `=` and `:`. Raises ValueError with the reason.

    >>> parse_group_role("cn=ops=shop:editor")
    GroupRole(group='cn=ops', project='shop', role=<Role.EDITOR: 'editor'>)
    """
    group, _, rest = text.rpartition("=")
    project, _, role = rest.rpartition(":")
    if not group or not project:
        raise ValueError(f"{text!r} is not group=project:role")
    if role not in set(Role):
        raise ValueError(f"{role!r} is no role: it is one of {', '.join(Role)}")
    return GroupRole(group, project, Role(role))


def wanted_roles(groups: Collection[str], rules: Iterable[GroupRole]) -> dict[str, Role | None]:
    """Return for each project of the rules the highest role that one of the groups has; None where none has one."""
    ranks = list(Role)
    wanted: dict[str, Role | None] = {}
    for rule in rules:
        held = wanted.setdefault(rule.project, None)
        if rule.group in groups and (held is None or ranks.index(rule.role) > ranks.index(held)):
            wanted[rule.project] = rule.role
    return wanted
