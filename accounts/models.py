"""The members of projects, who was invited, and what people prefer. Accounts are Django's own (`auth_user`)."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from accounts.roles import Role
from monitors.models import Project


class Membership(models.Model):
    """What a person is in a project. Administrators of the instance (superusers) need none.

    `accounts.services` changes the rows: a project that has an owner keeps one.
    """

    # The unique constraint below serves look-ups by project.
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships", db_index=False)
    # Not with their account: a project would lose its only owner unnoticed, and the audit log would not show it.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices={role.value: role.value for role in Role})
    added_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="membership_once_per_project_and_user"),
            models.CheckConstraint(
                condition=Q(role__in=[role.value for role in Role]), name="membership_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}"


class Invitation(models.Model):
    """An open invitation to a project, by mail. It is gone when it was accepted or withdrawn: a link works once.

    `accounts.invitations` changes the rows; their number is bounded for each project.
    """

    # The unique constraint below serves look-ups by project.
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="invitations", db_index=False)
    # In small letters.
    address = models.EmailField()
    role = models.CharField(max_length=10, choices={role.value: role.value for role in Role})
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "address"], name="invitation_once_per_project_and_address"),
            models.CheckConstraint(
                condition=Q(role__in=[role.value for role in Role]), name="invitation_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.address


class Preferences(models.Model):
    """What a person prefers, on pages and in messages. Who never chose anything has no row.

    `timezone` and `language` are those of the browser while they are empty; without `email` it is the address of the
    account. `email` was confirmed by a link in a mail to it; until then the address is `unconfirmed_email`.
    From `quiet_from` to `quiet_until`, by the clocks of `timezone`, the person is notified only of what is critical.
    `without_single_keys`: pages have no shortcuts of a single character.

    `incidents.notifications.personal` changes the rows: the channels of the person follow them.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preferences", primary_key=True
    )
    timezone = models.CharField(max_length=64, blank=True)
    language = models.CharField(max_length=10, blank=True)
    email = models.EmailField(blank=True)
    # With a default in the database: during an upgrade older processes write rows without it.
    unconfirmed_email = models.EmailField(blank=True, default="", db_default="")
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    # An older version does not know the column.
    without_single_keys = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name_plural = "preferences"
        constraints = [
            models.CheckConstraint(
                condition=Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False)
                & ~Q(quiet_from=F("quiet_until"))
                & ~Q(timezone=""),
                name="preferences_quiet_hours_have_two_ends_and_a_zone",
            ),
        ]

    def __str__(self) -> str:
        return f"preferences of {self.user}"
