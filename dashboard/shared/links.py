"""Making and revoking addresses that open without an account, each with its entry in the audit log (shell).

Whether the person may do so is for the caller to check: `Action.MANAGE_STATUS_PAGES`.
"""

import secrets

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from audit.entries import Actor, Changes, Entry
from audit.recording import record
from dashboard.exceptions import DashboardError
from dashboard.models import ShareLink
from monitors.models import Project

LINKS_MAX = 50
"""Links of a project. Each costs at most one rendering every few seconds for each web process."""


class ShareLinkError(DashboardError):
    """Why a link cannot be made, as a sentence; `field` is what the person has to change, if that would help."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def new_address() -> str:
    """Return an address that nobody can guess."""
    return secrets.token_hex(16)


@transaction.atomic
def share(link: ShareLink, *, by: Actor) -> ShareLink:
    """Store a new link. Without an address it gets one that nobody can guess. Raises ShareLinkError."""
    Project.objects.select_for_update(no_key=True).get(pk=link.project_id)
    if ShareLink.objects.filter(project_id=link.project_id).count() >= LINKS_MAX:
        raise ShareLinkError(
            _("The project has %(count)d addresses; no more are allowed. Revoke one first.") % {"count": LINKS_MAX}
        )
    link.address = link.address or new_address()
    link.created_at = by.at
    try:
        with transaction.atomic():
            link.save(force_insert=True)
    except IntegrityError as error:
        taken = _("There is a status page at %(address)r already.") % {"address": link.address}
        raise ShareLinkError(taken, "address") from error
    record([_entry(link, "shared", _made(link))], by=by)
    return link


@transaction.atomic
def revoke(project_id: int, link_id: int, *, by: Actor) -> ShareLink | None:
    """Remove a link of a project: its address shows nothing any more, and is never given again. None: there is none."""
    link = ShareLink.objects.select_for_update().filter(project_id=project_id, pk=link_id).first()
    if link is not None:
        record([_entry(link, "revoked", {})], by=by)
        link.delete()
    return link


def _entry(link: ShareLink, action: str, changes: Changes) -> Entry:
    return Entry("share link", link.pk, str(link), action, link.project_id, changes, secret={"address"})


def _made(link: ShareLink) -> Changes:
    made = {
        "address": link.address,
        "is_public": link.is_public,
        "monitor": None if link.monitor is None else link.monitor.slug,
        "tags": list(link.tags),
        "environment": link.environment,
    }
    return {name: (None, value) for name, value in made.items() if value}
