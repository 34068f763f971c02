"""Senders: keys and monitors' addresses, looked up in the database (shell)."""

from collections.abc import Mapping, Sequence

from checkins.processing.finding import Hints
from checkins.processing.reading import Reading
from checkins.protocols.request import IngestRequest, KnownSender, Sender
from lib.sql import array_literal, fetch_rows


def find_senders(readings: Sequence[Reading], *, hints: Hints) -> Mapping[Sender, KnownSender]:
    """Return the known ones of the senders of requests. Two statements at most."""
    return look_up_senders({reading.sender for reading in readings if reading.sender is not None}, hints)


def find_sender(request: IngestRequest, hints: Hints) -> bool:
    """Return whether the sender of a request is known; its content is not read."""
    sender = Reading(request).sender
    return sender is not None and sender in look_up_senders({sender}, hints)


def look_up_senders(senders: set[Sender], hints: Hints) -> dict[Sender, KnownSender]:
    """Return the senders that exist: active keys, of the project they name if they name one, and monitors.

    Two statements at most. A monitor from the hints may be gone by now: this is detected when it is locked.
    """
    known: dict[Sender, KnownSender] = {}
    keys = set()
    guids = []
    wanted = []
    for sender in senders:
        if sender.public_key is not None:
            keys.add(sender.public_key)
            wanted.append(sender)
        elif sender.monitor_guid is not None:
            hinted = hints.senders.get(sender.monitor_guid)
            if hinted is not None:
                monitor = hints.monitors.get((hinted[0].project_id, hinted[0].slug or ""))
                if monitor is not None and monitor.id == hinted[1]:
                    known[sender] = hinted[0]
                    continue
            guids.append(sender.monitor_guid)
            wanted.append(sender)
    if keys:
        rows = fetch_rows(
            """
            SELECT public_key, id, project_id FROM monitors_ingestkey
             WHERE public_key = ANY(%s::text[]) AND is_active
            """,
            [array_literal("text", sorted(keys))],
        )
        active = {public_key: KnownSender(project_id, key_id=id_) for public_key, id_, project_id in rows}
        for sender in senders:
            key = active.get(sender.public_key)
            if key is not None and sender.project_id in (None, key.project_id):
                known[sender] = key
    if guids:
        rows = fetch_rows(
            """
            SELECT guid, id, project_id, slug, name FROM monitors_monitor
             WHERE guid = ANY(%s::uuid[]) AND status <> 'pending_deletion'
            """,
            [array_literal("uuid", guids)],
        )
        for guid, id_, project_id, slug, name in rows:
            found = KnownSender(project_id, slug, name, key_id=0)
            known[Sender(monitor_guid=guid)] = found
            hints.senders[guid] = found, id_
    for sender in wanted:
        hints.note_sender(sender, is_known=sender in known)
    return known
