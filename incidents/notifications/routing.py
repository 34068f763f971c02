"""Which channels an incident goes to (pure).

    facts of the incident + the routes of its project, in order -> channels, each with the reason

A route catches an incident if all its conditions hold; without a condition it catches everything. The first route that
catches it ends the search, unless that route continues. A condition on something that the incident lacks does not
hold: a monitor without tags has no tag, and is not "like" anything.
"""

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from incidents.exceptions import IncidentsError
from incidents.notifications.pursuit import Step
from lib.texts import Text
from monitors.state import Severity

CONDITIONS_MAX = 10
VALUES_MAX = 50
VALUE_LENGTH_MAX = 200
Allowed = TypeVar("Allowed", bound=StrEnum)


class Attribute(StrEnum):
    """What a condition examines."""

    MONITOR = "monitor"
    ENVIRONMENT = "environment"
    TAG = "tag"
    KIND = "kind"
    SEVERITY = "severity"
    OWNER = "owner"


KINDS = ("missed", "timeout", "error", "slow", "fast", "overlap")
_KNOWN = {Attribute.KIND: (Text("kind of failure"), KINDS), Attribute.SEVERITY: (Text("severity"), tuple(Severity))}


class Operator(StrEnum):
    """How a condition compares: `is` one of the values, or `like` one of them, with * and ? as in file names."""

    IS = "is"
    LIKE = "like"


class Condition(msgspec.Struct, frozen=True):
    """One condition of a route. It holds if one of the incident's values compares with one of these."""

    attribute: Attribute
    operator: Operator
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.attribute} {self.operator} {' or '.join(self.values)}"


class RouteRules(msgspec.Struct, frozen=True):
    """A route, as a value. `channels` are the ids of its channels.

    `tells_owner`: so are the owner and the assignee of an incident. The last three say what happens until somebody
    acknowledges (`pursuit`); `reminder_hours` None: REMINDER_HOURS.
    """

    id: int
    name: str
    conditions: tuple[Condition, ...]
    channels: tuple[int, ...]
    continues: bool = False
    tells_owner: bool = False
    reminder_hours: int | None = None
    steps: tuple[Step, ...] = ()
    loops: int = 0


class Person(msgspec.Struct, frozen=True):
    """A member of a project (`id`) with a channel of his or her own. `owns`: texts of owners that mean the person."""

    id: int
    owns: frozenset[str]
    channel: int


class Facts(msgspec.Struct, frozen=True):
    """The attributes of an incident that routes examine. `kind` is that of the failure that opened it.

    `assignee` is the member who looks after its issue; 0 for nobody.
    """

    monitor: str
    environment: str
    kind: str
    tags: tuple[str, ...] = ()
    severity: str = Severity.ERROR.value
    owner: str = ""
    assignee: int = 0

    def of(self, attribute: Attribute) -> tuple[str, ...]:
        """Return the incident's values of an attribute, possibly none."""
        if attribute is Attribute.TAG:
            return self.tags
        value = getattr(self, attribute.value)
        return (value,) if value else ()


class Choice(msgspec.Struct, frozen=True):
    """A channel that an incident goes to, and the reason in a sentence."""

    channel: int
    route: int
    reason: str


class Recipient(msgspec.Struct, frozen=True):
    """Whom a message goes to: an address, or a channel's guid; and why. Without a channel it is ALERT_EMAIL_TO.

    `route` is the id of the route that names it; 0 for ALERT_EMAIL_TO.
    """

    name: str
    channel: int | None
    reason: str
    route: int = 0


class ConditionError(IncidentsError):
    """A condition that cannot be used. The text names it and what is allowed."""


def holds(condition: Condition, facts: Facts) -> bool:
    """Return whether a condition holds for an incident."""
    for value in facts.of(condition.attribute):
        if condition.operator is Operator.IS and value in condition.values:
            return True
        if condition.operator is Operator.LIKE and any(
            fnmatch.fnmatchcase(value, pattern) for pattern in condition.values
        ):
            return True
    return False


def catches(route: RouteRules, facts: Facts) -> bool:
    """Return whether a route catches an incident."""
    return all(holds(condition, facts) for condition in route.conditions)


def choose(routes: Iterable[RouteRules], facts: Facts, people: Collection[Person] = ()) -> list[Choice]:
    """Return the channels for an incident, each once, with the first route that named it.

    `people` are the members of its project who have channels of their own. A route without channels that catches an
    incident ends the search as well: nobody is notified, on purpose.
    """
    chosen: dict[int, Choice] = {}
    for route in catching(routes, facts):
        for channel in route.channels:
            chosen.setdefault(channel, Choice(channel, route.id, _reason(route)))
        for person in people if route.tells_owner else ():
            if role := _role_in(facts, person):
                chosen.setdefault(
                    person.channel,
                    Choice(person.channel, route.id, Text("%(route)s; %(role)s", route=_reason(route), role=role)),
                )
    return list(chosen.values())


def _role_in(facts: Facts, person: Person) -> str:
    """Return what an incident is to a person, in words; empty if it is nothing to the person."""
    if facts.owner.lower() in person.owns:
        return Text("owner of the monitor")
    return Text("assignee of the issue") if facts.assignee == person.id else ""


def catching(routes: Iterable[RouteRules], facts: Facts) -> list[RouteRules]:
    """Return the routes that catch an incident, up to the first one that does not continue."""
    found = []
    for route in routes:
        if catches(route, facts):
            found.append(route)
            if not route.continues:
                break
    return found


def is_caught(routes: Iterable[RouteRules], facts: Facts) -> bool:
    """Return whether any route catches an incident."""
    return any(catches(route, facts) for route in routes)


def _reason(route: RouteRules) -> str:
    if not route.conditions:
        return Text("route %(name)s catches everything", name=repr(route.name))
    return Text(
        "route %(name)s: %(conditions)s", name=repr(route.name), conditions=", ".join(map(str, route.conditions))
    )


def parse_conditions(raw: object) -> tuple[Condition, ...]:
    """Return the conditions of a route from JSON: a list of {"attribute", "operator", "values"}.

    Raises ConditionError.
    """
    if not isinstance(raw, list) or len(raw) > CONDITIONS_MAX:
        raise ConditionError(Text("conditions must be a list of at most %(most)s.", most=CONDITIONS_MAX))
    return tuple(_parse_condition(number, item) for number, item in enumerate(raw, 1))


def _parse_condition(number: int, raw: object) -> Condition:
    where = Text("condition %(number)s", number=number)
    if not isinstance(raw, Mapping) or raw.keys() != {"attribute", "operator", "values"}:
        raise ConditionError(Text("%(where)s must be an object with attribute, operator and values.", where=where))
    attribute = _one_of(Attribute, raw["attribute"], Text("attribute of %(where)s", where=where))
    operator = _one_of(Operator, raw["operator"], Text("operator of %(where)s", where=where))
    values = _parse_values(raw["values"], where)
    if attribute in _KNOWN and operator is Operator.IS:
        what, known = _KNOWN[attribute]
        for value in values:
            if value not in known:
                text = Text(
                    "values of %(where)s: %(value)s is no %(what)s; allowed: %(known)s.",
                    where=where,
                    value=repr(value),
                    what=what,
                    known=_list(known),
                )
                raise ConditionError(text)
    return Condition(attribute, operator, values)


def _parse_values(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= VALUES_MAX:
        raise ConditionError(
            Text("values of %(where)s must be a list of 1 to %(most)s texts.", where=where, most=VALUES_MAX)
        )
    for value in raw:
        if not isinstance(value, str) or not 1 <= len(value) <= VALUE_LENGTH_MAX:
            raise ConditionError(
                Text(
                    "values of %(where)s: %(value)s must be a text of 1 to %(most)s characters.",
                    where=where,
                    value=repr(str(value)[:VALUE_LENGTH_MAX]),
                    most=VALUE_LENGTH_MAX,
                )
            )
    return tuple(raw)


def _one_of(allowed: type[Allowed], value: Any, what: str) -> Allowed:
    try:
        return allowed(value)
    except ValueError:
        text = Text(
            "%(what)s: %(value)s is unknown; allowed: %(known)s.",
            what=what,
            value=repr(str(value)[:50]),
            known=_list(list(allowed)),
        )
        raise ConditionError(text) from None


def _list(values: Sequence[str]) -> str:
    return ", ".join(str(value) for value in values)
