"""`manage.py notify`: test a channel, show the state of all channels, and who would be notified of a failure."""

import asyncio
import json
import uuid
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.mail import get_connection
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import Count, Q

from audit.entries import Actor, Source
from audit.recording import record
from incidents.models import Channel, Message
from incidents.models.channels import EMAIL
from incidents.notifications.alert import Alert, Event
from incidents.notifications.alerts import target_of
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import SendResult, SendResultKind
from incidents.notifications.channels.email import describe_error
from incidents.notifications.channels.mail import compose
from incidents.notifications.mail_settings import NO_SERVER, has_mail_server
from incidents.notifications.previews import preview
from incidents.notifications.routes import recipients_of
from incidents.notifications.tested import result_entry
from lib.wallclock import utcnow
from monitors.models import Monitor


class Command(BaseCommand):
    """Tests send at once and without the outbox, so that the receiver's answer can be shown."""

    help = "Test a channel, show the state of all channels, or who would be notified of a failure."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        actions = parser.add_subparsers(dest="action", required=True)
        test = actions.add_parser("test", help="send a test through a channel and show the receiver's answer")
        test.add_argument("channel", help="its name, PROJECT/NAME if several have it, or its guid")
        status = actions.add_parser("status", help="show each channel: what waits, what failed")
        status.add_argument("--json", action="store_true", help="one JSON object a line")
        foretell = actions.add_parser("preview", help="show who would be notified if a monitor failed now")
        foretell.add_argument("monitor", help="its slug, or PROJECT/SLUG if several have it")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Run the action; the exit status of a test is 1 if the receiver did not accept it."""
        if action == "test":
            self._test(find_channel(options["channel"]))
        elif action == "preview":
            self._preview(find_monitor(options["monitor"]))
        else:
            self._status(is_json=options["json"])

    def _test(self, channel: Channel) -> None:
        results = _mail(channel) if channel.kind == EMAIL else {channel.name: asyncio.run(_send(channel))}
        for name, (is_accepted, answer) in results.items():
            (self.stdout if is_accepted else self.stderr).write(
                f"{name}: {'accepted' if is_accepted else 'not accepted'}. {answer}".rstrip()
            )
        with transaction.atomic():
            record(
                [result_entry(channel, name, is_accepted=is_accepted) for name, (is_accepted, _) in results.items()],
                by=Actor("notify", Source.COMMAND, utcnow()),
            )
        if not all(is_accepted for is_accepted, _ in results.values()):
            raise SystemExit(1)

    def _preview(self, monitor: Monitor) -> None:
        environments, forecasts = preview(monitor)
        for forecast in forecasts:
            who = "; ".join(f"{name} ({reason})" for name, reason in forecast.notified)
            self.stdout.write(f"{forecast.when(environments)}: {who or f'nobody: {forecast.why_nobody}'}")
            for minutes, names in forecast.then:
                self.stdout.write(f"  not acknowledged after {minutes} minutes: {', '.join(names)}")

    def _status(self, *, is_json: bool) -> None:
        channels = Channel.objects.filter(removed_at__isnull=True).select_related("project").order_by("project", "name")
        counted = channels.annotate(
            waiting=Count("messages", filter=Q(messages__status=Message.Status.WAITING)),
            failed=Count("messages", filter=Q(messages__status=Message.Status.FAILED)),
        )
        for channel in counted:
            state = {
                "project": channel.project.slug if channel.project else None,
                "channel": channel.name,
                "kind": channel.kind,
                "enabled": channel.is_enabled,
                "waiting": channel.waiting,
                "failed": channel.failed,
                "delivered_at": _text(channel.delivered_at),
                "failing_since": _text(channel.failing_since),
                "probe_at": _text(channel.probe_at),
                "error": channel.last_error,
            }
            self.stdout.write(json.dumps(state) if is_json else _line(state))


def find_channel(name: str) -> Channel:
    """Return a channel by guid, name, or PROJECT/NAME. Raises CommandError that lists what there is."""
    known = Channel.objects.filter(removed_at__isnull=True).select_related("project")
    try:
        found = list(known.filter(guid=uuid.UUID(name)))
    except ValueError:
        project, _, own = name.partition("/")  # The name of a channel may have a slash, the slug of a project has none.
        found = list(known.filter(Q(name=name) | Q(name=own, project__slug=project)))
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(_name(channel) for channel in (found or known[:50]))) or "none"
    raise CommandError(f"{name!r} is {'several channels' if found else 'no channel'}. Channels: {names}.")


def find_monitor(name: str) -> Monitor:
    """Return a monitor by slug, or PROJECT/SLUG. Raises CommandError."""
    project, _, slug = name.rpartition("/")
    known = Monitor.objects.not_deleted().filter(slug=slug).select_related("project")
    found = list((known.filter(project__slug=project) if project else known)[:50])
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(f"{monitor.project.slug}/{monitor.slug}" for monitor in found))
    raise CommandError(f"{name!r} is several monitors: {names}." if found else f"{name!r} is no monitor.")


async def _send(channel: Channel) -> tuple[bool, str]:
    from incidents.notifications import exchange

    now = utcnow()
    key = uuid.uuid4()
    alert = Alert(
        key=key, event=Event.TEST, at=now, title="Test: alerts reach you", group=key, timezone=channel.timezone,
        reason=f"This is a test of the channel {channel.name}, sent by hand: no job has failed.",
    )  # fmt: skip
    sender = SENDERS[channel.kind]
    async with exchange.open_session(settings.NOTIFY_ALLOWED_NETWORKS) as session:
        outcome: SendResult = await exchange.send(
            sender.requests(alert, target_of(channel), "", now=now), classify=sender.classify, session=session
        )
    return outcome.kind is SendResultKind.DELIVERED, outcome.excerpt


def _mail(channel: Channel) -> dict[str, tuple[bool, str]]:
    if not has_mail_server():
        return dict.fromkeys(recipients_of(channel), (False, NO_SERVER))
    results = {}
    for address in recipients_of(channel):
        message = Message(
            kind=Message.Kind.TEST, channel=channel, recipient=address, idempotency_key=uuid.uuid4(),
            created_at=utcnow(), subject="Test: alerts reach you",
            body=f"This is a test of the channel {channel.name}, sent by hand: no job has failed.",
        )  # fmt: skip
        try:
            with get_connection() as connection:
                connection.send_messages([compose(message)])
        except Exception as error:  # noqa: BLE001 - the person wants to read any error
            results[address] = False, describe_error(error)
        else:
            results[address] = True, "The mail server has it."
    return results


def _name(channel: Channel) -> str:
    return f"{channel.project.slug}/{channel.name}" if channel.project else channel.name


def _text(instant: Any) -> str | None:
    return None if instant is None else instant.isoformat(timespec="seconds")


def _line(state: dict[str, Any]) -> str:
    name = "/".join(filter(None, (state["project"], state["channel"])))
    parts = [f"{name} ({state['kind']})" + ("" if state["enabled"] else ", disabled")]
    parts.append(f"{state['waiting']} waiting, {state['failed']} failed")
    parts.append(f"last delivered {state['delivered_at']}" if state["delivered_at"] else "nothing delivered yet")
    if state["failing_since"]:
        parts.append(f"failing since {state['failing_since']}: {state['error']}")
    return "; ".join(parts)
