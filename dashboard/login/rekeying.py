"""Encrypting the secrets of second factors anew, as `incidents.rekeying` does those of channels (shell).

Apps with codes and recovery codes have secrets. A passkey has none: its secret never leaves its device.
"""

from datetime import datetime
from typing import Any

from allauth.mfa.models import Authenticator
from django.db import transaction

from audit.entries import Actor, Entry, Source
from audit.recording import record
from incidents.rekeying import BATCH, Rekeying
from incidents.secrets import UnsealError, is_current, rotate

ENCRYPTED = ("secret", "seed", "migrated_codes")
"""What django-allauth encrypts of the data of a factor: texts, or lists of them."""


def rekey_factors(*, now: datetime, is_dry: bool = False) -> Rekeying:
    """Encrypt all secrets with the first key, or only count with `is_dry`; returns what was found, by factors."""
    result, after = Rekeying(), 0
    while ids := _rekey_batch(result, after, now=now, is_dry=is_dry):
        after = max(ids)
    return result


@transaction.atomic
def _rekey_batch(result: Rekeying, after: int, *, now: datetime, is_dry: bool) -> list[int]:
    rows = Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).filter(id__gt=after)
    rows = rows.select_related("user").order_by("id")
    # A recovery code that is used meanwhile waits for the lock.
    batch = list(rows[:BATCH] if is_dry else rows.select_for_update(of=("self",), no_key=True)[:BATCH])
    changed = []
    for factor in batch:
        tokens = [token for name in ENCRYPTED for token in _tokens(factor.data.get(name))]
        if all(map(is_current, tokens)):
            result.current_count += 1
            continue
        try:
            factor.data |= {name: _rotated(factor.data[name]) for name in ENCRYPTED if name in factor.data}
        except UnsealError:
            result.unreadable.append(factor.user.get_username())
            continue
        result.old_count += 1
        changed.append(factor)
    if changed and not is_dry:
        Authenticator.objects.bulk_update(changed, ["data"])
        names = {one.user.pk: one.user.get_username() for one in changed}
        entries = [Entry("user", pk, name, "second factor encrypted anew") for pk, name in names.items()]
        record(entries, by=Actor("rotate_secrets", Source.COMMAND, now))
    return [factor.pk for factor in batch]


def _tokens(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _rotated(value: Any) -> Any:
    return rotate(value) if isinstance(value, str) else [rotate(token) for token in value]
