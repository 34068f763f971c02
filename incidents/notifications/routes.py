"""The routes and channels of projects, and the recipients that they give an incident (shell around `routing`).

Two statements for any number of projects.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from django.db.models import Q

from accounts.preferences import address_of, owner_texts
from incidents.models import Channel, Route, Unsubscription
from incidents.models.channels import EMAIL
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability
from incidents.notifications.mail_settings import has_mail_server
from incidents.notifications.pursuit import parse_steps
from incidents.notifications.quiet import QuietHours
from incidents.notifications.routing import (
    Choice,
    Facts,
    Person,
    Recipient,
    RouteRules,
    catching,
    choose,
    parse_conditions,
)
from lib.sql import fetch_rows
from lib.texts import Text

DEFAULT_REASON = Text("no route catches it: ALERT_EMAIL_TO")
WITH_PERSON = "member__user__preferences"
"""What `recipients_of` reads of a personal channel."""


class Place(msgspec.Struct, frozen=True):
    """A channel as routing needs it: the recipients of its messages, whether it folds them, and when it wants quiet.

    There is none for a channel that is disabled or was removed, nor for mail without a mail server.
    """

    id: int
    recipients: tuple[str, ...]
    folds: bool = True
    quiet: QuietHours | None = None


class Routing(msgspec.Struct, frozen=True):
    """The routes of some projects, their channels by id, and the addresses of ALERT_EMAIL_TO.

    `people`, by project, are the members with channels of their own, where a route notifies owners.
    """

    routes: Mapping[int, Sequence[RouteRules]]
    places: Mapping[int, Place]
    default: Sequence[str] = ()
    people: Mapping[int, Sequence[Person]] = {}


class Decision(msgspec.Struct, frozen=True):
    """The recipients of an incident, and the routes that caught it.

    `is_nobody_meant`: a route without channels caught it, and notifies no owner: nobody is on purpose.
    """

    recipients: Sequence[Recipient]
    is_nobody_meant: bool = False
    routes: Sequence[RouteRules] = ()


def load_routing(project_ids: Collection[int], default: Sequence[str]) -> Routing:
    """Load the enabled routes of these projects, in order, and their channels."""
    routes: dict[int, list[RouteRules]] = {}
    enabled = Route.objects.filter(project_id__any_of=sorted(project_ids), is_enabled=True, is_fallback=False)
    enabled = enabled.order_by("position", "id")
    for route in enabled.prefetch_related("channels"):
        routes.setdefault(route.project_id, []).append(rules_of(route))
    wanted = sorted({id_ for own in routes.values() for rules in own for id_ in rules.channels})
    with_owners = sorted(id_ for id_, own in routes.items() if any(rules.tells_owner for rules in own))
    places: dict[int, Place] = {}
    people: dict[int, list[Person]] = {}
    if wanted or with_owners:
        named = Q(id__any_of=wanted) | Q(project_id__any_of=with_owners, member__isnull=False)
        channels = Channel.objects.filter(named, is_enabled=True, removed_at__isnull=True).order_by("id")
        for channel in channels.select_related(WITH_PERSON).prefetch_related("unsubscriptions"):
            if channel.kind == EMAIL and not has_mail_server():
                continue
            places[channel.id] = Place(channel.id, recipients_of(channel), folds(channel), quiet_hours(channel))
            if channel.member is not None and channel.project_id is not None:
                person = Person(channel.member.id, owner_texts(channel.member.user), channel.id)
                people.setdefault(channel.project_id, []).append(person)
    return Routing(routes, places, tuple(default), people)


def rules_of(route: Route) -> RouteRules:
    """Return a stored route as a value, with its channels in the order of their ids."""
    return RouteRules(
        route.id,
        route.name,
        parse_conditions(route.matchers),
        tuple(sorted(channel.id for channel in route.channels.all())),
        route.continues,
        route.tells_owner,
        route.reminder_hours,
        parse_steps(route.steps),
        route.loops,
    )


def recipients_of(channel: Channel, topic: str = Unsubscription.Topic.ALERTS) -> tuple[str, ...]:
    """Return the recipients of a channel's messages: its guid, or the addresses that still want the topic."""
    if channel.kind == EMAIL:
        refused = {one.address for one in channel.unsubscriptions.all() if one.topic == topic}
        return tuple(address for address in dict.fromkeys(_addresses_of(channel)) if address not in refused)
    return (str(channel.guid),)


def _addresses_of(channel: Channel) -> list[str]:
    """Return the addresses of an e-mail channel. A person who is no member any more, or was locked out, has none."""
    if not channel.is_personal:
        return addresses_in(channel.values)
    if channel.member is None or not channel.member.user.is_active:
        return []
    address = address_of(channel.member.user)
    return [address] if address else []


def folds(channel: Channel) -> bool:
    """Return whether many openings at once make one message for a channel. What forgets must be notified of each."""
    sender = SENDERS.get(channel.kind)
    return channel.folds and (sender is None or Capability.KEEP_ALIVE not in sender.CAN)


def quiet_hours(channel: Channel) -> QuietHours | None:
    """Return the quiet hours of a channel, if it has some."""
    if channel.quiet_from is None or channel.quiet_until is None:
        return None
    return QuietHours(channel.quiet_from, channel.quiet_until, channel.timezone)


def addresses_in(values: Mapping[str, Any]) -> list[str]:
    """Return the addresses in the settings of an e-mail channel, which are separated by commas."""
    return [address for part in str(values.get("to", "")).split(",") if (address := part.strip())]


def decide(routing: Routing, project_id: int, facts: Facts) -> Decision:
    """Return the recipients of an incident of a project, each once, with the first reason."""
    caught = catching(routing.routes.get(project_id, ()), facts)
    if not caught:
        return Decision([Recipient(address, None, DEFAULT_REASON) for address in routing.default])
    choices = choose(caught, facts, routing.people.get(project_id, ()))
    is_nobody_meant = not choices and not any(route.tells_owner for route in caught)
    return Decision(_recipients(routing.places, choices), is_nobody_meant, caught)


def _recipients(places: Mapping[int, Place], choices: Iterable[Choice]) -> list[Recipient]:
    found: dict[str, Recipient] = {}
    for choice in choices:
        place = places.get(choice.channel)
        for name in () if place is None else place.recipients:
            found.setdefault(name, Recipient(name, choice.channel, choice.reason, choice.route))
    return list(found.values())


def fingerprint(default: Sequence[str]) -> tuple[object, ...]:
    """Return a value that changes when somebody edits a route, a channel or ALERT_EMAIL_TO."""
    return (tuple(default), *fetch_rows(_FINGERPRINT_SQL, [])[0])


_FINGERPRINT_SQL = """
    SELECT routes.*, channels.*
      FROM (SELECT count(*), max(changed_at), count(*) FILTER (WHERE is_enabled) FROM incidents_route) AS routes,
           (SELECT count(*), max(changed_at) FROM incidents_channel) AS channels
"""
"""Asked in every run of delivery, often while there is nothing to do."""


def instance_channels() -> list[Channel]:
    """Return the channels of the instance, which are notified of the clock's own incidents."""
    return list(Channel.objects.filter(project__isnull=True, is_enabled=True, removed_at__isnull=True).order_by("id"))
