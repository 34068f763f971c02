"""Pages of the admin: a file for each noun. Django imports this package, and so each of them registers its models."""

from dashboard.admin import (
    audit,
    channels,
    checkins,
    clock,
    incidents,
    ingest_nodes,
    issues,
    keys,
    monitor_environments,
    monitors,
    notifications,
    occurrences,
    people,
    problems,
    projects,
    windows,
)

__all__ = [
    "audit",
    "channels",
    "checkins",
    "clock",
    "incidents",
    "ingest_nodes",
    "issues",
    "keys",
    "monitor_environments",
    "monitors",
    "notifications",
    "occurrences",
    "people",
    "problems",
    "projects",
    "windows",
]
