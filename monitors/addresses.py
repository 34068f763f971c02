"""Keys of projects and ping addresses of monitors: create, revoke, replace, show (shell).

A replaced key or address works beside its successor until an instant that a person chooses, so that jobs can be changed
one after the other. Ingest compares that instant with the reception of each request.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from audit.entries import CHANGED, Actor, Entry
from audit.models import AuditEntry
from audit.recording import record
from monitors.exceptions import MonitorsError
from monitors.models import FormerAddress, IngestKey, Monitor, Project
from monitors.services import monitor_entry

OVERLAP_MAX = timedelta(days=90)
KEYS_MAX = 50
"""Keys in force of one project."""
FORMER_ADDRESSES_MAX = 5
"""Former addresses of one monitor that are stored: the newest."""
SHOWN = "shown"
ADDRESS_REPLACED = "address replaced"
SHOWN_AGAIN_AFTER = timedelta(days=1)
"""On pages that show a key or an address beside other things, a person's look is recorded once in this time."""


class RotationError(MonitorsError):
    """A key or an address that cannot be created or replaced so. The text says what is allowed."""


@transaction.atomic
def create_key(project_id: int, label: str, *, by: Actor) -> IngestKey:
    """Add a key to a project. Raises RotationError if it has too many."""
    Project.objects.select_for_update(no_key=True).filter(id=project_id).first()
    if IngestKey.objects.filter(project_id=project_id).in_force(by.at).count() >= KEYS_MAX:
        raise RotationError(
            _("The project has %(count)d keys in force; no more are allowed. Revoke one first.") % {"count": KEYS_MAX}
        )
    key = IngestKey.objects.create(project_id=project_id, label=label, created_at=by.at)
    record([_entry(key, "created", {"label": (None, label)})], by=by)
    return key


@transaction.atomic
def revoke_key(key: IngestKey, *, by: Actor) -> bool:
    """Refuse a key from now on; return whether it was in force."""
    found = IngestKey.objects.filter(id=key.pk, is_active=True).update(is_active=False)
    if found:
        record([_entry(key, "revoked", {"is_active": (True, False)})], by=by)
    return bool(found)


@transaction.atomic
def replace_key(key: IngestKey, ends_at: datetime, *, by: Actor) -> IngestKey:
    """Create a key beside another one, which works until an instant. Raises RotationError."""
    _check_end(ends_at, now=by.at)
    old = IngestKey.objects.select_for_update(no_key=True).filter(id=key.pk).in_force(by.at).first()
    if old is None:
        raise RotationError(_("This key works no more: create another one."))
    new = create_key(old.project_id, old.label, by=by)
    IngestKey.objects.filter(id=old.pk).update(ends_at=ends_at)
    record([_entry(old, "replaced", {"ends_at": (old.ends_at, ends_at), "replaced_by": (None, str(new))})], by=by)
    return new


@transaction.atomic
def note_keys_shown(keys: Iterable[IngestKey], *, by: Actor, once: bool = True) -> None:
    """Record that a person saw keys; with `once`, none again within `SHOWN_AGAIN_AFTER`."""
    shown = {key.pk: key for key in keys}
    for id_ in _noted("ingest key", shown, by) if once else ():
        del shown[id_]
    record([_entry(key, SHOWN, {}) for key in shown.values()], by=by)


@transaction.atomic
def note_address_shown(monitor: Monitor, *, by: Actor) -> None:
    """Record that a person saw the ping address of a monitor; not again within `SHOWN_AGAIN_AFTER`, unless it changed.

    Pages show it beside other things: each of their views would be an entry.
    """
    if not _noted("monitor", [monitor.pk], by):
        record([monitor_entry(monitor, SHOWN, {})], by=by)


def _noted(kind: str, ids: Iterable[int], by: Actor) -> set[int]:
    """Return the objects of which the log has that this person saw their secret, and nobody has replaced it since."""
    entries = AuditEntry.objects.filter(kind=kind, object_id__any_of=list(ids), at__gt=by.at - SHOWN_AGAIN_AFTER)
    entries = entries.filter(Q(action=SHOWN, actor_id=by.id) | Q(action=ADDRESS_REPLACED))
    newest = entries.order_by("object_id", "-id").distinct("object_id").values_list("object_id", "action")
    return {id_ for id_, action in newest if id_ is not None and action == SHOWN}


@transaction.atomic
def replace_address(monitor_id: int, ends_at: datetime, *, by: Actor) -> None:
    """Give a monitor another ping address; the present one works until an instant. Raises RotationError."""
    _check_end(ends_at, now=by.at)
    monitor = Monitor.objects.not_deleted().filter(id=monitor_id).locked_in_id_order().first()
    if monitor is None:
        raise RotationError(_("The monitor is being deleted."))
    FormerAddress.objects.create(monitor=monitor, guid=monitor.guid, ends_at=ends_at)
    kept = monitor.former_addresses.order_by("-id").values_list("id", flat=True)[:FORMER_ADDRESSES_MAX]
    monitor.former_addresses.exclude(id__any_of=list(kept)).delete()
    Monitor.objects.filter(id=monitor.pk).update(guid=uuid.uuid4())
    changes = {"ping_address": (None, None), "former_address_ends_at": (None, ends_at)}
    entry = Entry("monitor", monitor.pk, monitor.slug, ADDRESS_REPLACED, monitor.project_id, changes, {"ping_address"})
    record([entry], by=by)


@transaction.atomic
def end_former_addresses(monitor_id: int, *, by: Actor) -> int:
    """Let the former addresses of a monitor work no longer; return how many worked."""
    monitor = Monitor.objects.filter(id=monitor_id).locked_in_id_order().first()
    if monitor is None:
        return 0
    ended = monitor.former_addresses.filter(ends_at__gt=by.at).update(ends_at=by.at)
    if ended:
        record([monitor_entry(monitor, CHANGED, {"former_address_ends_at": (None, by.at)})], by=by)
    return ended


def _check_end(ends_at: datetime, *, now: datetime) -> None:
    if not now < ends_at <= now + OVERLAP_MAX:
        text = _("The old one can work until a time within the next %(days)d days; %(time)s UTC is none.")
        raise RotationError(text % {"days": OVERLAP_MAX.days, "time": f"{ends_at:%Y-%m-%d %H:%M}"})


def _entry(key: IngestKey, action: str, changes: dict[str, tuple[object, object]]) -> Entry:
    return Entry("ingest key", key.pk, str(key), action, key.project_id, changes)
