"""Tests of channels in the audit log: what became of each. What the service answered stays with the message (shell)."""

from collections.abc import Iterable
from datetime import datetime

from audit.entries import Actor, Entry, Source
from audit.recording import record
from incidents.models import Channel, Message
from incidents.models.channels import EMAIL


def result_entry(channel: Channel, recipient: str, *, is_accepted: bool) -> Entry:
    """Return what is stored of a test that was taken or not. Of an e-mail channel each address has its own."""
    action = "test accepted" if is_accepted else "test not accepted"
    to = {"to": (None, recipient)} if channel.kind == EMAIL else {}
    return Entry("channel", channel.pk, channel.name, action, channel.project_id, to)


def record_results(messages: Iterable[Message], *, is_accepted: bool, now: datetime) -> None:
    """Record the results of those messages that are tests, in the caller's transaction. Their channels are loaded."""
    record(
        [
            result_entry(message.channel, message.recipient, is_accepted=is_accepted)
            for message in messages
            if message.kind == Message.Kind.TEST and message.channel is not None
        ],
        by=Actor("Watchclock", Source.SYSTEM, now),
    )
