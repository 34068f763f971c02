"""Previews of routing for people: who would be told, and what catches nothing (shell around `previewing`)."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from incidents.models import Channel
from incidents.notifications.addressees import recipients, why_nobody
from incidents.notifications.previewing import (
    Forecast,
    Situation,
    alike,
    idle_routes,
    later_steps,
    names_of,
    with_every_kind,
)
from incidents.notifications.routes import decide, load_routing
from incidents.notifications.routing import Condition, Facts, RouteRules, catches
from lib.sql import array_literal, fetch_rows
from monitors.models import Monitor

ENVIRONMENTS_MAX = 100
"""Environments of a monitor for which it is foretold."""
LOOKED_AT_MAX = 5_000
"""Environments of a project up to which each route is compared with all of them."""
NO_ENVIRONMENT = "production"
"""The environment of check-ins that name none, for a monitor that has none yet."""
_FACTS_SQL = """
    SELECT m.project_id, m.slug, coalesce(e.name, %(unnamed)s), m.tags, m.severity, m.owner
      FROM monitors_monitor AS m
      LEFT JOIN monitors_monitorenvironment AS me ON me.monitor_id = m.id AND me.status <> 'pending_deletion'
      LEFT JOIN monitors_environment AS e ON e.id = me.environment_id
     WHERE m.project_id = ANY(%(projects)s::bigint[]) AND m.status <> 'pending_deletion'
     LIMIT %(limit)s
"""


def preview(monitor: Monitor) -> tuple[list[str], list[Forecast]]:
    """Return the environments of a monitor, and who would be told if it failed there now. Four statements at most."""
    rows = monitor.monitor_environments.exclude(status="pending_deletion").order_by("environment__name")
    muted = dict(rows.values_list("environment__name", "is_muted")[:ENVIRONMENTS_MAX])
    muted = muted or {NO_ENVIRONMENT: monitor.is_muted}
    routing = load_routing({monitor.project_id}, recipients())
    channels = list(Channel.objects.filter(project_id=monitor.project_id, removed_at__isnull=True))
    names = {str(channel.guid): channel.name for channel in channels}
    usable = {channel.id: channel.name for channel in channels if channel.is_enabled}
    found = []
    for environment, is_muted in muted.items():
        facts = Facts(monitor.slug, environment, "", tuple(monitor.tags), monitor.severity, monitor.owner)
        for one in with_every_kind(facts):
            situations = (Situation(environment, one.kind),)
            if is_muted:
                found.append(Forecast(situations, why_nobody="muted"))
                continue
            decision = decide(routing, monitor.project_id, one)
            told = names_of(((to.name, to.reason) for to in decision.recipients), names)
            why = "" if told else _why(decision.is_nobody_meant)
            found.append(Forecast(situations, told, why, later_steps(decision.routes, usable)))
    return list(muted), alike(found)


def _why(is_nobody_meant: bool) -> str:
    if is_nobody_meant:
        return "the route that catches it has no channel"
    return f"no route with a channel that works catches it. {why_nobody()}".rstrip()


def find_idle_routes(project_ids: Collection[int]) -> dict[int, str]:
    """Return the enabled routes of projects that catch nothing, by id, each with the reason. Three statements."""
    routing = load_routing(project_ids, ())
    known = _known_facts(project_ids)
    by_project: dict[int, list[Facts]] = {}
    for project_id, facts in known:
        by_project.setdefault(project_id, []).extend(with_every_kind(facts))
    is_complete = len(known) <= LOOKED_AT_MAX
    found: dict[int, str] = {}
    for project_id, routes in routing.routes.items():
        found |= idle_routes(routes, by_project.get(project_id, ()) if is_complete else None)
    return found


class Matches(NamedTuple):
    """The environments of a project of which some failure meets conditions: slug and name, of `known` ones.

    `is_complete` is false if the project has more than those.
    """

    found: Sequence[tuple[str, str]]
    known: int
    is_complete: bool


def find_matches(project_id: int, conditions: Sequence[Condition]) -> Matches:
    """Return what conditions would match, whatever other routes there are. One statement."""
    known = _known_facts([project_id])
    looked_at = known[:LOOKED_AT_MAX]
    route = RouteRules(0, "", tuple(conditions), ())
    found = [
        (facts.monitor, facts.environment)
        for _, facts in looked_at
        if any(catches(route, one) for one in with_every_kind(facts))
    ]
    return Matches(sorted(found), len(looked_at), len(known) <= LOOKED_AT_MAX)


def _known_facts(project_ids: Collection[int]) -> list[tuple[int, Facts]]:
    """Return the facts of all environments of projects, without a failure; one more than `LOOKED_AT_MAX` at most."""
    parameters = {
        "projects": array_literal("bigint", sorted(project_ids)),
        "unnamed": NO_ENVIRONMENT,
        "limit": LOOKED_AT_MAX + 1,
    }
    return [
        (project_id, Facts(slug, environment, "", tuple(tags), severity, owner))
        for project_id, slug, environment, tags, severity, owner in fetch_rows(_FACTS_SQL, parameters)
    ]
