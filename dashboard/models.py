"""What people keep of the pages: addresses that open without an account, and views of the wall."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from monitors.models import Monitor, Project

TITLE_CHARACTERS_MAX = 100
ADDRESS_CHARACTERS_MAX = 50
VIEW_NAME_CHARACTERS_MAX = 50


class ShareLink(models.Model):
    """An address that shows something of a project to everybody who knows it, until an owner revokes it.

    `kind` is what it shows: a status page, a badge, or the view for a TV. It is about `monitor`, or all monitors that
    have one of `tags`, or else the whole project; of these, if `environment` is set, only about that one. `address` is
    random, or, of a public status page, a name that a person chose. A revoked link has no row.
    """

    class Kind(models.TextChoices):
        STATUS = "status", "status page"
        BADGE = "badge", "badge"
        TV = "tv", "TV view"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="share_links")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    address = models.CharField(max_length=ADDRESS_CHARACTERS_MAX, unique=True)
    is_public = models.BooleanField(default=False)
    title = models.CharField(max_length=TITLE_CHARACTERS_MAX)
    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, related_name="share_links", null=True, blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    environment = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["status", "badge", "tv"]), name="share_link_kind_is_known"),
            models.CheckConstraint(
                condition=Q(monitor__isnull=True) | Q(tags=[]), name="share_link_of_a_monitor_or_of_tags"
            ),
            # 128 random bits, which nobody can choose; and a chosen address never looks like one.
            models.CheckConstraint(
                condition=Q(is_public=False, address__regex=r"^[0-9a-f]{32}$")
                | Q(is_public=True, kind="status", address__regex=r"^[a-z0-9](-?[a-z0-9]){2,29}$"),
                name="share_link_public_or_unguessable",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.title}"


class SavedView(models.Model):
    """A view of the wall with a name: filters, range and grouping, as the query of its address has them.

    It is a person's own (`user`), or all members of `project` see it. `dashboard.saved_views` changes the rows; their
    number is bounded for each person and each project.
    """

    # The unique constraints below serve look-ups by person and by project.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="views", null=True, blank=True, db_index=False
    )
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="views", null=True, blank=True, db_index=False
    )
    name = models.CharField(max_length=VIEW_NAME_CHARACTERS_MAX)
    query = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True, project__isnull=False) | Q(user__isnull=False, project__isnull=True),
                name="saved_view_of_a_person_or_a_project",
            ),
            models.CheckConstraint(condition=~Q(name=""), name="saved_view_has_a_name"),
            models.UniqueConstraint(
                fields=["user", "name"], condition=Q(user__isnull=False), name="saved_view_name_once_for_a_person"
            ),
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=Q(project__isnull=False),
                name="saved_view_name_once_in_a_project",
            ),
        ]

    def __str__(self) -> str:
        return self.name
