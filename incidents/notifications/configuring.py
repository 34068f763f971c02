"""Creating, changing and removing channels and routes (shell). Values are checked here, wherever they come from."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, time

from django.db import transaction
from django.db.models import Q, QuerySet

from audit.entries import CHANGED, Actor, Entry
from audit.recording import record
from incidents.exceptions import IncidentsError
from incidents.models import Channel, Message, Route, Storm
from incidents.models.channels import EMAIL
from incidents.notifications.breaker import Breaker
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Field, field_problems, secrets_for_another_server
from incidents.notifications.outbox import NewMessage, insert_messages, message_key
from incidents.notifications.quiet import QuietHours
from incidents.notifications.routes import addresses_in, quiet_hours, recipients_of
from incidents.notifications.routing import Recipient
from incidents.notifications.wake import wake_after_commit
from incidents.notifications.words import LANGUAGES
from incidents.secrets import seal, unseal
from lib.sql import types_of, update_rows
from lib.texts import Text
from monitors.models import Project

CHANNELS_MAX = 100
ROUTES_MAX = 100
"""Of a project."""
ADDRESSES_MAX = 50
EMAIL_FIELDS = (
    Field(
        name="to",
        label=Text("Addresses"),
        help=Text("Separated by commas, at most %(most)s. Each gets its own mail.", most=ADDRESSES_MAX),
    ),
)
KINDS: Mapping[str, str] = {
    EMAIL: Text("E-mail"),
    **{kind: sender.NAME for kind, sender in SENDERS.items()},
}
"""The names of the kinds of channels that may be created, in the order in which they are offered."""


class ChannelError(IncidentsError):
    """A channel or route that cannot be stored. `problems`: a sentence for each field; "" is the whole."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" if name else text for name, text in problems.items()))
        self.problems = dict(problems)


def fields_of(kind: str) -> Sequence[Field]:
    """Return the settings of a kind of channel."""
    return EMAIL_FIELDS if kind == EMAIL else SENDERS[kind].FIELDS


def problems_of(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings of a channel, by field; empty if nothing is."""
    if kind not in KINDS:
        return {
            "kind": Text(
                "%(kind)s is no kind of channel. Allowed: %(known)s.", kind=repr(kind[:50]), known=", ".join(KINDS)
            )
        }
    if kind != EMAIL:
        return SENDERS[kind].problems(values)
    found = field_problems(EMAIL_FIELDS, values)
    addresses = addresses_in(values)
    if len(addresses) > ADDRESSES_MAX:
        found["to"] = Text(
            "These are %(count)s addresses; %(most)s are allowed.", count=len(addresses), most=ADDRESSES_MAX
        )
    for address in addresses:
        if field_problems((Field(name="to", label="", kind="email"),), {"to": address}) or len(address) > 320:
            found["to"] = Text("%(text)s is not an e-mail address.", text=repr(address[:100]))
    return found


def quiet_problem(begin: time | None, end: time | None) -> str:
    """Return what is wrong with quiet hours; empty if nothing is.

    >>> quiet_problem(time(22), None)
    'Quiet hours have a beginning and an end: enter both, or none.'
    >>> quiet_problem(time(22), time(7)), quiet_problem(None, None)
    ('', '')
    """
    if (begin is None) != (end is None):
        return Text("Quiet hours have a beginning and an end: enter both, or none.")
    if begin is None or end is None:
        return ""
    if begin == end:
        return Text(
            "Quiet hours begin and end at %(time)s. They may not last all day: disable the channel instead.",
            time=begin.isoformat("minutes"),
        )
    if any(at.second or at.microsecond for at in (begin, end)):
        return Text("Quiet hours begin and end at whole minutes.")
    return ""


def merge_settings(
    channel: Channel, values: Mapping[str, str], *, removed: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings that a channel would have, with its stored secrets, and what is wrong with them, by field.

    A stored secret is kept only for the server that it was entered for: with another one it must be entered again.
    """
    fields = {field.name: field for field in fields_of(channel.kind)} if channel.kind in KINDS else {}
    given = {name: text.strip() for name, text in values.items()}
    stored = stored_secrets(channel)
    kept = {name: text for name, text in stored.items() if name not in removed}
    merged = {name: text for name in fields if (text := given.get(name) or kept.get(name, ""))}
    problems = problems_of(channel.kind, merged | {name: given[name] for name in given.keys() - fields.keys()})
    typed = {name for name, text in given.items() if text}
    for name in secrets_for_another_server(fields.values(), channel.values | stored, merged, typed):
        problems[name] = Text("The server changed: enter this again. What is stored is sent only to the former server.")
    return merged, problems


def row_problems(channel: Channel) -> dict[str, str]:
    """Return what is wrong with a channel beside its settings, by field; "" is the whole."""
    problems: dict[str, str] = {}
    others = _active_channels(channel.project).exclude(pk=channel.pk)
    if channel._state.adding and others.filter(is_personal=False).count() >= CHANNELS_MAX:
        problems[""] = Text("There are %(count)s channels; no more are allowed.", count=CHANNELS_MAX)
    if others.filter(name=channel.name).exists():
        problems["name"] = Text("There is a channel %(name)s already.", name=repr(channel.name))
    elif not is_name(channel.name) and not Channel.objects.filter(pk=channel.pk, name=channel.name).exists():
        problems["name"] = Text("A name has no comma and no line break: escalations list channels by name.")
    if wrong := quiet_problem(channel.quiet_from, channel.quiet_until):
        problems["quiet_until"] = wrong
    if channel.language not in LANGUAGES:
        problems["language"] = Text(
            "%(text)s is no language. Allowed: %(known)s.", text=repr(channel.language[:20]), known=", ".join(LANGUAGES)
        )
    return problems


def is_name(text: str) -> bool:
    """Return whether a text can stand in the line of an escalation, where commas separate channels.

    >>> is_name("night shift"), is_name("db, web"), is_name("two\\nlines")
    (True, False, False)
    """
    return text.isprintable() and "," not in text


@transaction.atomic
def save_channel(channel: Channel, values: Mapping[str, str], *, now: datetime, removed: Collection[str] = ()) -> None:
    """Store a new or changed channel with its settings and secrets. An empty secret keeps the stored one, unless it is
    among the `removed`.

    A repaired channel is tried again at once: its breaker closes. What waits for the end of quiet hours is due at the
    new end. Raises ChannelError.
    """
    merged, problems = merge_settings(channel, values, removed=removed)
    is_new = channel._state.adding
    if problems := problems | row_problems(channel):
        raise ChannelError(problems)
    hidden = {field.name for field in fields_of(channel.kind) if field.is_secret}
    secrets = {name: text for name, text in merged.items() if name in hidden}
    channel.values = {name: text for name, text in merged.items() if name not in hidden}
    channel.sealed = seal(secrets, guid=channel.guid) if secrets else ""
    channel.changed_at = now
    if is_new:
        channel.created_at = now
    for name in Breaker.__struct_fields__:
        setattr(channel, name, getattr(Breaker(), name))
    channel.save()
    waiting = Message.objects.filter(channel=channel, status=Message.Status.WAITING)
    waiting.filter(attempt_count__gt=0).update(due_at=now)
    put_off_digests(Channel.objects.filter(pk=channel.pk), quiet_hours(channel), now=now)
    wake_after_commit()


def put_off_digests(channels: QuerySet[Channel], hours: QuietHours | None, *, now: datetime) -> None:
    """Let the digests that wait for channels with these quiet hours be due at their end."""
    quiet = Message.objects.filter(
        channel__in=channels, status=Message.Status.WAITING, attempt_count=0, storm__cause=Storm.Cause.QUIET,
        kind=Message.Kind.DIGEST,
    )  # fmt: skip
    quiet.update(due_at=(hours.end_after(now) if hours else None) or now)


def stored_secrets(channel: Channel) -> dict[str, str]:
    """Return the stored secrets; none if they cannot be read any more: then they must be entered again."""
    try:
        return unseal(channel.sealed, guid=channel.guid) if channel.sealed else {}
    except IncidentsError:
        return {}


@transaction.atomic
def remove_channel(channel: Channel, *, now: datetime, by: Actor | None) -> None:
    """Remove a channel from all routes. Whoever was notified through it of an opening is notified of its end."""
    channel.routes.clear()
    channel.removed_at = channel.changed_at = now
    channel.is_enabled = False
    channel.save(update_fields=["removed_at", "changed_at", "is_enabled"])
    record([Entry("channel", channel.pk, channel.name, "removed", channel.project_id)], by=by)


@transaction.atomic
def delete_route(route: Route, *, by: Actor | None) -> None:
    """Delete a route. What its escalation has begun for open incidents goes on."""
    record([Entry("route", route.pk, route.name, "deleted", route.project_id)], by=by)
    route.delete()


@transaction.atomic
def move_route(route: Route, *, places: int, now: datetime, by: Actor | None) -> bool:
    """Move a route so many places down, or up if negative; returns whether it moved.

    Positions of the project's routes become 1, 2, ... The row of the project is locked: else two people who move routes
    at once would mix both orders.
    """
    list(Project.objects.select_for_update(no_key=True).filter(pk=route.project_id).values_list("pk"))
    rows = Route.objects.filter(project_id=route.project_id, is_fallback=False)
    before = {row.pk: row for row in rows.order_by("position", "id")}
    order = list(before)
    if route.pk not in before or not 0 <= order.index(route.pk) + places < len(order):
        return False
    place = order.index(route.pk) + places
    order.remove(route.pk)
    order.insert(place, route.pk)
    moved = {pk: number for number, pk in enumerate(order, 1) if before[pk].position != number}
    update_rows(
        Route._meta.db_table,
        types_of(Route, "position", "changed_at"),
        [(pk, number, now) for pk, number in moved.items()],
    )
    record(
        [
            Entry("route", pk, before[pk].name, CHANGED, route.project_id, {"position": (before[pk].position, number)})
            for pk, number in moved.items()
        ],
        by=by,
    )
    return True


def _active_channels(project: Project | None) -> QuerySet[Channel]:
    wanted = Q(project__isnull=True) if project is None else Q(project=project)
    return Channel.objects.filter(wanted, removed_at__isnull=True)


@transaction.atomic
def send_test(channel: Channel, *, now: datetime, by: Actor | None) -> list[Message]:
    """Write a test message for each recipient of a channel, and return them; delivery sends them at once.

    The audit log has who sent it here, and later its result (`tested`).
    """
    tests = [
        NewMessage(
            None,
            Message.Kind.TEST.value,
            Recipient(name, channel.id, "a test"),
            message_key(channel.guid, f"test {now.isoformat()}", name),
            "Test: alerts reach you",
            f"This is a test of the channel {channel.name}, sent by hand: no job has failed.",
        )
        for name in recipients_of(channel)
    ]
    insert_messages(tests, now=now)
    if tests:
        record([Entry("channel", channel.pk, channel.name, "test sent", channel.project_id)], by=by)
    wake_after_commit()
    return list(Message.objects.filter(idempotency_key__any_of=[test.key for test in tests]).order_by("id"))
