"""Encrypting the secrets of all channels anew, after the first key of SECRETS_KEYS has changed (shell).

Safe to repeat and to run while everything else does: each batch is a transaction, with its rows locked. Second factors
have their own (`dashboard.login.rekeying`).
"""

from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction

from audit.entries import Actor, Entry, Source
from audit.recording import record
from incidents.models import Channel
from incidents.secrets import UnsealError, is_current, rotate

BATCH = 100
"""Rows of one transaction."""


@dataclass
class Rekeying:
    """The result. `current_count`: encrypted with the first key before. `unreadable`: names of those no key fits."""

    current_count: int = 0
    old_count: int = 0
    unreadable: list[str] = field(default_factory=list)


def rekey(*, now: datetime, is_dry: bool = False) -> Rekeying:
    """Encrypt all secrets with the first key, or only count with `is_dry`; returns what was found.

    Removed channels are included: some still have to notify people of an end. Secrets that no key can read stay as they
    are.
    """
    result, after = Rekeying(), 0
    while ids := _rekey_batch(result, after, now=now, is_dry=is_dry):
        after = max(ids)
    return result


@transaction.atomic
def _rekey_batch(result: Rekeying, after: int, *, now: datetime, is_dry: bool) -> list[int]:
    rows = Channel.objects.exclude(sealed="").filter(id__gt=after).select_related("project").order_by("id")
    batch = list(rows[:BATCH] if is_dry else rows.select_for_update(of=("self",), no_key=True)[:BATCH])
    changed = []
    for channel in batch:
        if is_current(channel.sealed):
            result.current_count += 1
            continue
        try:
            channel.sealed = rotate(channel.sealed)
        except UnsealError:
            result.unreadable.append(f"{channel.project.slug}/{channel}" if channel.project else str(channel))
            continue
        result.old_count += 1
        changed.append(channel)
    if changed and not is_dry:
        Channel.objects.bulk_update(changed, ["sealed"])
        entries = [Entry("channel", one.id, one.name, "encrypted anew", one.project_id) for one in changed]
        record(entries, by=Actor("rotate_secrets", Source.COMMAND, now))
    return [channel.id for channel in batch]
