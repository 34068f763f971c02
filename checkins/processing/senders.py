"""Senders: keys and monitors' addresses, looked up in the database (shell)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from checkins.processing.finding import Hints
from checkins.processing.reading import Reading
from checkins.protocols.request import IngestRequest, KnownSender, Sender
from lib.sql import array_literal, fetch_rows


def find_senders(readings: Sequence[Reading], *, hints: Hints) -> Mapping[Sender, KnownSender]:
    """Return the known ones of the senders of requests. Two statements at most."""
    named = [reading for reading in readings if reading.sender is not None]
    at = max((reading.request.received_at for reading in named), default=None)
    return {} if at is None else _look_up({one.sender for one in named if one.sender is not None}, hints, at=at)


def find_sender(request: IngestRequest, hints: Hints) -> KnownSender | None:
    """Return the sender of a request, if it is known; its content is not read."""
    sender = Reading(request).sender
    at = request.received_at
    found = None if sender is None else _look_up({sender}, hints, at=at).get(sender)
    return found if found is not None and found.works_at(at) else None


def _look_up(senders: set[Sender], hints: Hints, *, at: datetime) -> dict[Sender, KnownSender]:
    """Return the senders that exist: active keys, of the project they name if they name one, and monitors.

    Two statements at most. A monitor from the hints may be gone by now: this is detected when it is locked. `at` is the
    instant of the newest request, by which hints grow old.
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
            hinted = hints.sender(sender.monitor_guid, at=at)
            if hinted is not None:
                known[sender] = hinted
                continue
            guids.append(sender.monitor_guid)
            wanted.append(sender)
    if keys:
        rows = fetch_rows(
            """
            SELECT public_key, id, project_id, ends_at FROM monitors_ingestkey
             WHERE public_key = ANY(%s::text[]) AND is_active
            """,
            [array_literal("text", sorted(keys))],
        )
        active = {key: KnownSender(project_id, key_id=id_, ends_at=ends_at) for key, id_, project_id, ends_at in rows}
        for sender in senders:
            key = active.get(sender.public_key)
            if key is not None and sender.project_id in (None, key.project_id):
                known[sender] = key
    if guids:
        for guid, id_, project_id, slug, name, ends_at in fetch_rows(
            _ADDRESSES_SQL, [array_literal("uuid", guids)] * 2
        ):
            found = KnownSender(project_id, slug, name, key_id=0, ends_at=ends_at)
            known[Sender(monitor_guid=guid)] = found
            hints.senders[guid] = found, id_, at
    for sender in wanted:
        hints.note_sender(sender, is_known=sender in known)
    return known


_ADDRESSES_SQL = """
    SELECT guid, id, project_id, slug, name, NULL::timestamptz AS ends_at FROM monitors_monitor
     WHERE guid = ANY(%s::uuid[]) AND status <> 'pending_deletion'
     UNION ALL
    SELECT f.guid, m.id, m.project_id, m.slug, m.name, f.ends_at
      FROM monitors_formeraddress AS f JOIN monitors_monitor AS m ON m.id = f.monitor_id
     WHERE f.guid = ANY(%s::uuid[]) AND m.status <> 'pending_deletion'
"""
