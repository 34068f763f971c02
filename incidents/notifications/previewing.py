"""Whom the incidents of a monitor would go to, which routes catch nothing, and which monitors none catches (pure)."""

import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from incidents.notifications.routing import (
    KINDS,
    Attribute,
    Condition,
    Facts,
    Operator,
    RouteRules,
    catches,
    catching,
)
from lib.texts import Text

NAMED_MAX = 5


class Situation(msgspec.Struct, frozen=True):
    """A failure of a monitor that may come: in this environment, of this kind."""

    environment: str
    kind: str


class Forecast(msgspec.Struct, frozen=True):
    """Who would be notified in some situations, as pairs of a name and the reason; nobody if it is empty.

    `why_nobody` says why, in that case. `then` is who is notified besides while nobody acknowledges: minutes after
    the opening, with names.
    """

    situations: tuple[Situation, ...]
    notified: tuple[tuple[str, str], ...] = ()
    why_nobody: str = ""
    then: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def when(self, environments: Sequence[str], say: Callable[[str], str] = str) -> str:
        """Return the situations in words. `environments` are all those of the monitor; `say` translates a word.

        >>> Forecast((Situation("production", "missed"), Situation("production", "error"))).when(["production"])
        'missed, error'
        """
        own = dict.fromkeys(situation.environment for situation in self.situations)
        kinds = {environment: self._kinds_in(environment) for environment in own}
        if len(set(kinds.values())) > 1:
            return "; ".join(f"{name}: {_any_of(kinds[name], say)}" for name in own)
        where = "" if len(own) == len(environments) else f"{', '.join(own)}: "
        return where + _any_of(next(iter(kinds.values())), say)

    def _kinds_in(self, environment: str) -> tuple[str, ...]:
        return tuple(situation.kind for situation in self.situations if situation.environment == environment)


def _any_of(kinds: Sequence[str], say: Callable[[str], str]) -> str:
    return say(Text("any failure")) if set(kinds) == set(KINDS) else ", ".join(map(say, kinds))


def alike(forecasts: Iterable[Forecast]) -> list[Forecast]:
    """Return the forecasts with those joined in which the same people are notified for the same reasons."""
    joined: dict[tuple[object, ...], Forecast] = {}
    for one in forecasts:
        key = (one.notified, one.why_nobody, one.then)
        before = joined[key].situations if key in joined else ()
        joined[key] = msgspec.structs.replace(one, situations=(*before, *one.situations))
    return list(joined.values())


def of_kind(forecasts: Iterable[Forecast], kind: str) -> list[Forecast]:
    """Return the forecasts with the situations of one kind of failure only; those without one are left out."""
    own = ((one, tuple(that for that in one.situations if that.kind == kind)) for one in forecasts)
    return [msgspec.structs.replace(one, situations=situations) for one, situations in own if situations]


def later_steps(routes: Iterable[RouteRules], names: Mapping[int, str]) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Return whom the escalations of routes notify, as minutes after the opening and names, the first ones first.

    Channels that are not in `names` are left out.
    """
    found: dict[int, dict[str, None]] = {}
    for route in routes:
        minutes = 0
        for step in route.steps:
            minutes += step.minutes
            found.setdefault(minutes, {}).update(dict.fromkeys(names[id_] for id_ in step.channels if id_ in names))
    return tuple((minutes, tuple(own)) for minutes, own in sorted(found.items()) if own)


class Uncaught(msgspec.Struct, frozen=True):
    """Monitors of which some failure would reach nobody: how many, and the first by name.

    `is_complete` is false if not all monitors were examined.
    """

    count: int = 0
    names: tuple[str, ...] = ()
    is_complete: bool = True

    def __str__(self) -> str:
        """Return the names.

        >>> str(Uncaught(7, ("a", "b"))), str(Uncaught(2, ("a", "b")))
        ('a, b and 5 more', 'a, b')
        """
        return str(self.named())

    def named(self) -> str:
        """Return the names, as a text that pages can translate."""
        names, more = ", ".join(self.names), self.count - len(self.names)
        return Text("%(names)s and %(more)s more", names=names, more=more) if more else names

    def sentence(self) -> str:
        """Return what that means, with the reason."""
        return Text.plural(
            "Nobody would be notified of some failures of %(count)s monitor: %(names)s%(bound)s. No route with a "
            "channel that works catches them, and no address of ALERT_EMAIL_TO can be notified.",
            "Nobody would be notified of some failures of %(count)s monitors: %(names)s%(bound)s. No route with a "
            "channel that works catches them, and no address of ALERT_EMAIL_TO can be notified.",
            self.count,
            names=self.named(),
            bound="" if self.is_complete else Text(" (not all monitors were compared)"),
        )


ALL_CAUGHT = Uncaught()


def name_uncaught(monitors: Collection[str], *, is_complete: bool) -> Uncaught:
    """Return the value for these monitors."""
    return Uncaught(len(monitors), tuple(sorted(monitors)[:NAMED_MAX]), is_complete)


def uncaught(routes: Sequence[RouteRules], usable: Collection[int], known: Iterable[Facts]) -> list[str]:
    """Return the monitors of a project of which some failure would reach nobody, each once.

    `routes` are the enabled ones, in order, `usable` the ids of channels that messages can be sent to, `known` the
    facts of the monitors. A route without channels is meant for failures that nobody wants to know of.
    """
    of_kinds = any(one.attribute is Attribute.KIND for route in routes for one in route.conditions)
    return list(
        dict.fromkeys(
            facts.monitor
            for facts in known
            if not all(_reaches(routes, usable, one) for one in (with_every_kind(facts) if of_kinds else [facts]))
        )
    )


def _reaches(routes: Sequence[RouteRules], usable: Collection[int], facts: Facts) -> bool:
    caught = catching(routes, facts)
    channels = [id_ for route in caught for id_ in route.channels]
    return bool(caught) and (not channels or any(id_ in usable for id_ in channels))


def idle_routes(routes: Sequence[RouteRules], known: Iterable[Facts] | None) -> dict[int, str]:
    """Return the routes of a project that catch nothing, by id, each with the reason.

    `routes` are the enabled ones, in order. `known` are the facts of all monitors, with any kind of failure; None if
    they are too many to examine: then only routes are found that an earlier one makes useless.
    """
    idle = _shadowed(routes)
    if known is None:
        return idle
    unreached = {route.id: route for route in routes if route.id not in idle}
    matched: set[int] = set()
    for facts in known:
        if not unreached:
            break
        matched |= {id_ for id_, route in unreached.items() if id_ not in matched and catches(route, facts)}
        for route in routes:
            if catches(route, facts):
                unreached.pop(route.id, None)
                if not route.continues:
                    break
    return idle | {
        id_: Text("earlier routes catch all that it would")
        if id_ in matched
        else Text("no monitor matches its conditions")
        for id_ in unreached
    }


def _shadowed(routes: Sequence[RouteRules]) -> dict[int, str]:
    """Return the routes before which another one catches at least the same and ends the search."""
    found: dict[int, str] = {}
    for number, route in enumerate(routes):
        for earlier in routes[:number]:
            if not earlier.continues and all(_is_implied(one, route.conditions) for one in earlier.conditions):
                name = repr(earlier.name)
                found[route.id] = (
                    Text("route %(name)s catches all that it would, and comes before it", name=name)
                    if earlier.conditions
                    else Text("route %(name)s catches everything, and comes before it", name=name)
                )
                break
    return found


def _is_implied(condition: Condition, by: Sequence[Condition]) -> bool:
    """Return whether a condition certainly holds where all of the others do."""
    return any(one.attribute is condition.attribute and _covers(condition, one) for one in by)


def _covers(wide: Condition, narrow: Condition) -> bool:
    if wide.operator is Operator.LIKE and narrow.operator is Operator.IS:
        return all(any(fnmatch.fnmatchcase(value, pattern) for pattern in wide.values) for value in narrow.values)
    return wide.operator is narrow.operator and set(narrow.values) <= set(wide.values)


def with_every_kind(facts: Facts) -> list[Facts]:
    """Return the facts of a monitor once for each kind of failure."""
    return [msgspec.structs.replace(facts, kind=kind) for kind in KINDS]


def names_of(notified: Iterable[tuple[str, str]], names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return recipients by the names of their channels, each once, with the reason."""
    return tuple(dict.fromkeys((names.get(name, name), reason) for name, reason in notified))
