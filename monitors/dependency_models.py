"""The table of dependencies between monitors; `monitors.dependencies` changes it."""

from django.db import models
from django.db.models import F, Q


class Dependency(models.Model):
    """A monitor (`downstream`) that cannot work while another one of its project (`upstream`) fails.

    People are not notified of its failure while they have been notified of the other one's. There are no cycles.
    """

    # The unique constraint below serves look-ups by downstream.
    downstream = models.ForeignKey(
        "monitors.Monitor", on_delete=models.CASCADE, related_name="dependencies", db_index=False
    )
    upstream = models.ForeignKey("monitors.Monitor", on_delete=models.CASCADE, related_name="dependents")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "dependencies"
        constraints = [
            models.UniqueConstraint(fields=["downstream", "upstream"], name="dependency_once"),
            models.CheckConstraint(condition=~Q(downstream=F("upstream")), name="dependency_on_another_monitor"),
        ]

    def __str__(self) -> str:
        return f"{self.downstream} depends on {self.upstream}"
