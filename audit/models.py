"""The audit log: one table, which refers to no other, so that an entry outlives what it is about."""

from django.db import models
from django.db.models import Q

from audit.entries import NAME_CHARACTERS_MAX, WORD_CHARACTERS_MAX, Source


class AuditEntry(models.Model):
    """One change of one object by somebody (columns: `audit.entries.Entry` and `Actor`). Never edited.

    Ids are those at that time. They have no foreign keys: accounts, projects and objects are deleted.
    """

    at = models.DateTimeField()
    actor_id = models.BigIntegerField(null=True, blank=True)
    actor_name = models.CharField(max_length=NAME_CHARACTERS_MAX)
    source = models.CharField(max_length=10, choices={source.value: source.value for source in Source})
    project_id = models.BigIntegerField(null=True, blank=True)
    kind = models.CharField(max_length=WORD_CHARACTERS_MAX)
    object_id = models.BigIntegerField(null=True, blank=True)
    object_name = models.CharField(max_length=NAME_CHARACTERS_MAX)
    action = models.CharField(max_length=WORD_CHARACTERS_MAX)
    changes = models.JSONField(default=dict)

    class Meta:
        db_table = "audit_entry"
        verbose_name_plural = "audit entries"
        constraints = [
            models.CheckConstraint(
                condition=Q(source__in=[source.value for source in Source]), name="audit_entry_source_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["at"], name="audit_entry_oldest"),
            models.Index(fields=["project_id", "id"], name="audit_entry_of_project"),
            models.Index(fields=["kind", "object_id", "id"], name="audit_entry_of_object"),
        ]

    def __str__(self) -> str:
        return f"{self.object_name} {self.action} by {self.actor_name}"
