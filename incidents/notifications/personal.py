"""Notifying people themselves: what they prefer, and their own channels, which follow it (shell).

A member of a project who allows it has a channel there, `@name`: routes name it as any other, and those that notify
owners find it. The address is read from the preferences when a message is addressed; zone, language and quiet hours are
copied from them.
"""

from collections.abc import Collection
from copy import copy
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Membership, Preferences
from accounts.preferences import address_of, keep_apart, preferences_of
from audit.entries import CHANGED, Actor, Entry, difference
from audit.recording import record
from incidents.models import Channel, Unsubscription
from incidents.models.channels import EMAIL, NAME_LENGTH_MAX
from incidents.notifications.configuring import ChannelError, put_off_digests
from incidents.notifications.quiet import QuietHours
from incidents.notifications.wake import wake_after_commit
from incidents.notifications.words import ENGLISH
from lib.texts import Text

COLUMNS = ("timezone", "language", "email", "quiet_from", "quiet_until", "without_single_keys")
SECRET = {"email", "unconfirmed_email"}


@transaction.atomic
def save_preferences(wanted: Preferences, *, by: Actor) -> None:
    """Store what a person prefers; the channels follow. What waits for the end of quiet hours waits for the new one.

    An address that the person has not confirmed is stored apart, and `wanted` has it there.
    The row of the account is locked, so that two forms of one person are stored one after the other.
    """
    user = User.objects.select_for_update(no_key=True).get(pk=wanted.pk)
    stored = Preferences.objects.filter(pk=user.pk).first() or Preferences(user=user)
    wanted.user = user
    keep_apart(wanted, stored)
    _store(stored, wanted, by=by)


@transaction.atomic
def confirm_address(user: User, address: str, *, by: Actor) -> bool:
    """Notify a person at the address that waited for this from now on; returns whether it still waited."""
    stored = Preferences.objects.select_for_update(no_key=True).filter(pk=user.pk, unconfirmed_email=address).first()
    if stored is None or not address:
        return False
    wanted = copy(stored)
    wanted.email, wanted.unconfirmed_email = address, ""
    _store(stored, wanted, by=by)
    return True


def _store(stored: Preferences, wanted: Preferences, *, by: Actor) -> None:
    """Write preferences in the place of others, with what follows them."""
    user = stored.user
    columns = (*COLUMNS, "unconfirmed_email")
    before, after = ({name: getattr(row, name) for name in columns} for row in (stored, wanted))
    wanted.save()
    own = Channel.objects.filter(member__user=user, removed_at__isnull=True)
    own.update(**_followed(wanted), changed_at=by.at)
    put_off_digests(own, _hours(wanted), now=by.at)
    changes = difference(before, after)
    record([Entry("preferences", user.pk, user.get_username(), CHANGED, None, changes, secret=SECRET)], by=by)
    wake_after_commit()


def _followed(preferences: Preferences) -> dict[str, Any]:
    """Return the columns of a channel that are copied."""
    return {
        "timezone": preferences.timezone or "UTC",
        "language": preferences.language or ENGLISH,
        "quiet_from": preferences.quiet_from,
        "quiet_until": preferences.quiet_until,
    }


def _hours(preferences: Preferences) -> QuietHours | None:
    if preferences.quiet_from is None or preferences.quiet_until is None:
        return None
    return QuietHours(preferences.quiet_from, preferences.quiet_until, preferences.timezone)


def projects_that_may_notify(user: User) -> set[int]:
    """Return the projects in which a person can be notified at the own address, by id. Two statements."""
    address = address_of(user)
    return {row.project_id for row in _channels_of(user) if _is_on(row, address) and row.project_id is not None}


def _channels_of(user: User) -> QuerySet[Channel]:
    return Channel.objects.filter(member__user=user, removed_at__isnull=True).prefetch_related("unsubscriptions")


def _is_on(row: Channel, address: str) -> bool:
    """Return whether a channel is enabled, and its address has not unsubscribed with the link in a mail."""
    topic = Unsubscription.Topic.ALERTS
    return row.is_enabled and not any((one.address, one.topic) == (address, topic) for one in row.unsubscriptions.all())


@transaction.atomic
def let_projects_notify(user: User, wanted: Collection[int], *, by: Actor) -> None:
    """Let a person be notified at the own address in exactly these projects, by id, of those with him or her as member.

    In the others the channel is disabled and stays in its routes: then it is noticed that these notify nobody. Raises
    ChannelError if a project has something else of the same name.
    """
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    members = dict(Membership.objects.filter(user=user).values_list("project_id", "pk"))
    address = address_of(user)
    known = {row.project_id: row for row in _channels_of(user)}
    changed = [row for project_id, row in known.items() if _is_on(row, address) != (project_id in wanted)]
    for row in changed:
        row.is_enabled, row.changed_at = row.project_id in wanted, by.at
        row.save(update_fields=["is_enabled", "changed_at"])
        if row.is_enabled:
            row.unsubscriptions.filter(address=address).delete()
    entries = [_entry(row, "enabled" if row.is_enabled else "disabled") for row in changed]
    new = sorted((members.keys() & set(wanted)) - known.keys())
    entries += [_entry(_create(user, project_id, members[project_id], by=by), "created") for project_id in new]
    record(entries, by=by)
    wake_after_commit()


def _create(user: User, project_id: int, member_id: int, *, by: Actor) -> Channel:
    """Give a member a channel: a new one, or the one from before the membership ended."""
    name = f"@{user.get_username()}"[:NAME_LENGTH_MAX]
    row = Channel.objects.filter(project_id=project_id, name=name, removed_at__isnull=True).first()
    if row is None:
        row = Channel(project_id=project_id, name=name, kind=EMAIL, is_personal=True, created_at=by.at)
    elif not row.is_personal or row.member_id is not None:
        raise ChannelError(
            {
                "projects": Text(
                    "The project %(project)s has another channel %(name)s already.",
                    project=str(row.project),
                    name=repr(name),
                )
            }
        )
    row.member_id, row.is_enabled, row.changed_at = member_id, True, by.at
    for column, value in _followed(preferences_of(user)).items():
        setattr(row, column, value)
    row.save()
    return row


def _entry(row: Channel, action: str) -> Entry:
    return Entry("channel", row.pk, row.name, action, row.project_id)
