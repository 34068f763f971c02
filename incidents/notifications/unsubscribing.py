"""Unsubscribing an address from an e-mail channel, as the link in its mails asks for (shell).

It is not notified of incidents that open from then on. Of those that it was notified of, it receives the end.
"""

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from audit.entries import Actor, Entry, Source
from audit.recording import record
from incidents.models import Channel, Unsubscription
from incidents.notifications.fallback import people_to_notify
from incidents.notifications.outbox import write_message
from incidents.notifications.unsubscribe_links import Link

_MEANS = {
    Unsubscription.Topic.ALERTS.value: "New incidents are not reported to this address any more.",
    Unsubscription.Topic.REPORTS.value: "Incidents are still reported to this address.",
}


@transaction.atomic
def unsubscribe(link: Link, *, now: datetime) -> bool:
    """Unsubscribe an address, and notify whoever receives failures of channels. Returns False if it was done before."""
    channel = Channel.objects.select_for_update(no_key=True).filter(guid=link.channel_guid).first()
    if channel is None or is_unsubscribed(link):
        return False
    channel.unsubscriptions.create(address=link.address, topic=link.topic, unsubscribed_at=now)
    _note_change(channel, now=now)
    actor = Actor(name=link.address, source=Source.LINK, at=now)
    topic = Unsubscription.Topic(link.topic).label
    record([_entry(channel, "unsubscribed", {topic: (link.address, None)})], by=actor)
    write_message(
        key_name=f"unsubscribed:{channel.guid}:{link.address}:{now.isoformat()}",
        recipients=people_to_notify(channel.project, without=channel, names={link.address}),
        subject=f"[Watchclock] {link.address} gets no more {topic} of {channel.name}",
        body=f"{link.address} has unsubscribed from {topic} of the channel {channel.name}, with the link in a mail. "
        f"{_MEANS[link.topic]}\n\nThe page of the channel in the admin shows it, and can undo it.\n",
        now=now,
    )
    return True


def is_unsubscribed(link: Link) -> bool:
    """Return whether an address has unsubscribed from a topic of a channel."""
    return Unsubscription.objects.filter(
        channel__guid=link.channel_guid, address=link.address, topic=link.topic
    ).exists()


@transaction.atomic
def subscribe_again(channels: Collection[Channel], *, by: Actor) -> int:
    """Let all addresses of these channels get mails again; returns how many had unsubscribed."""
    held = Channel.objects.select_for_update(no_key=True).filter(id__any_of=[channel.pk for channel in channels])
    count = 0
    for channel in held.order_by("id").prefetch_related("unsubscriptions"):
        addresses = sorted({one.address for one in channel.unsubscriptions.all()})
        if addresses:
            count += len(addresses)
            channel.unsubscriptions.all().delete()
            _note_change(channel, now=by.at)
            record([_entry(channel, "subscribed again", {"address": (None, addresses)})], by=by)
    return count


def _note_change(channel: Channel, *, now: datetime) -> None:
    """Let delivery route incidents again that nobody was notified of."""
    Channel.objects.filter(pk=channel.pk).update(changed_at=now)


def _entry(channel: Channel, action: str, changes: dict[str, tuple[object, object]]) -> Entry:
    return Entry("channel", channel.pk, channel.name, action, channel.project_id, changes)
