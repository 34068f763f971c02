"""Previews of routing: who would be notified, what catches nothing, and what nobody would be notified of (shell)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from django.db.models import Exists, OuterRef

from incidents.models import Channel, Route
from incidents.models.channels import EMAIL
from incidents.notifications.addressees import recipients, why_nobody
from incidents.notifications.mail_settings import has_mail_server
from incidents.notifications.previewing import (
    ALL_CAUGHT,
    Forecast,
    Situation,
    Uncaught,
    alike,
    idle_routes,
    later_steps,
    name_uncaught,
    names_of,
    uncaught,
    with_every_kind,
)
from incidents.notifications.routes import Routing, decide, load_routing
from incidents.notifications.routing import Condition, Facts, RouteRules, catches
from lib.sql import array_literal, fetch_rows
from lib.texts import Text
from monitors.models import Monitor, Project

ENVIRONMENTS_MAX = 100
"""Environments of a monitor for which it is foretold."""
LOOKED_AT_MAX = 5_000
"""Environments of a project up to which each route is compared with all of them."""
PROJECTS_MAX = 1_000
"""Projects without a route that catches everything that are examined together."""
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
    """Return the environments of a monitor, and who would be notified of a failure there. At most four statements."""
    rows = monitor.monitor_environments.exclude(status="pending_deletion").order_by("environment__name")
    known = rows.values_list("environment__name", "is_muted", "issues__assignee")[:ENVIRONMENTS_MAX]
    muted = {name: is_muted for name, is_muted, _ in known} or {NO_ENVIRONMENT: monitor.is_muted}
    assignees = {name: assignee or 0 for name, _, assignee in known}
    routing = load_routing({monitor.project_id}, recipients())
    channels = list(Channel.objects.filter(project_id=monitor.project_id, removed_at__isnull=True))
    names = {str(channel.guid): channel.name for channel in channels}
    people = {channel.id: channel.name for channel in channels if channel.is_personal}
    usable = {channel.id: channel.name for channel in channels if channel.is_enabled}
    found = []
    for environment, is_muted in muted.items():
        facts = Facts(
            monitor.slug, environment, "", tuple(monitor.tags), monitor.severity, monitor.owner,
            assignees.get(environment, 0),
        )  # fmt: skip
        for one in with_every_kind(facts):
            situations = (Situation(environment, one.kind),)
            if is_muted:
                found.append(Forecast(situations, why_nobody=Text("muted")))
                continue
            decision = decide(routing, monitor.project_id, one)
            # Everybody in the project may see this, and the address of a person is the person's affair.
            shown = ((people.get(to.channel or 0, to.name), to.reason) for to in decision.recipients)
            notified = names_of(shown, names)
            why = "" if notified else _why(decision.is_nobody_meant)
            found.append(Forecast(situations, notified, why, later_steps(decision.routes, usable)))
    return list(muted), alike(found)


def _why(is_nobody_meant: bool) -> str:
    if is_nobody_meant:
        return Text("the route that catches it has no channel")
    if why := why_nobody():
        return Text("no route with a channel that works catches it. %(why)s", why=why)
    return Text("no route with a channel that works catches it.")


class Examined(NamedTuple):
    """Routes that catch nothing, by id, with the reason; and by project, monitors that nobody would be notified of."""

    idle: Mapping[int, str]
    uncaught: Mapping[int, Uncaught]


def examine_routes(project_ids: Collection[int]) -> Examined:
    """Compare the enabled routes of projects with their monitors. Six statements at most."""
    routing = load_routing(project_ids, ())
    known = _known_facts(project_ids)
    is_complete = len(known) <= LOOKED_AT_MAX
    by_project = _by_project(known[:LOOKED_AT_MAX])
    idle: dict[int, str] = {}
    for project_id, routes in routing.routes.items():
        own = [one for facts in by_project.get(project_id, ()) for one in with_every_kind(facts)]
        idle |= idle_routes(routes, own if is_complete else None)
    missed = {} if recipients() else _uncaught(routing, by_project)
    return Examined(idle, {id_: name_uncaught(found, is_complete=is_complete) for id_, found in missed.items()})


def find_uncaught() -> Uncaught:
    """Return the monitors of which some failure would reach nobody, whatever project they are of, bounded.

    Projects with a route that catches everything are not examined, so it costs little where all is well. Seven
    statements at most.
    """
    if recipients():
        return ALL_CAUGHT
    working = Channel.objects.filter(is_enabled=True, removed_at__isnull=True)
    if not has_mail_server():
        working = working.exclude(kind=EMAIL)
    everything = Route.objects.filter(
        project=OuterRef("pk"), is_enabled=True, is_fallback=False, matchers=[], channels__in=working
    )
    doubtful = Project.objects.filter(~Exists(everything)).order_by("id")
    slugs = dict(doubtful.values_list("id", "slug")[: PROJECTS_MAX + 1])
    if not slugs:
        return ALL_CAUGHT
    known = _known_facts(slugs)
    missed = _uncaught(load_routing(slugs, ()), _by_project(known[:LOOKED_AT_MAX]))
    names = [f"{monitor} of {slugs[project_id]}" for project_id, found in missed.items() for monitor in found]
    return name_uncaught(names, is_complete=len(known) <= LOOKED_AT_MAX and len(slugs) <= PROJECTS_MAX)


def _by_project(known: Iterable[tuple[int, Facts]]) -> dict[int, list[Facts]]:
    found: dict[int, list[Facts]] = {}
    for project_id, facts in known:
        found.setdefault(project_id, []).append(facts)
    return found


def _uncaught(routing: Routing, by_project: Mapping[int, Sequence[Facts]]) -> dict[int, list[str]]:
    usable = {id_ for id_, place in routing.places.items() if place.recipients}
    found = {id_: uncaught(routing.routes.get(id_, ()), usable, own) for id_, own in by_project.items()}
    return {id_: monitors for id_, monitors in found.items() if monitors}


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
