"""What is kept of noisy and of long-broken environments, so that people are notified of them once."""

from django.db import models
from django.db.models import Q

from incidents.models.incidents import Incident
from monitors.models import MonitorEnvironment


class Flapping(models.Model):
    """A time in which an environment changed between ok and failing too often, until `ended_at`.

    People are notified of it with the opening of `incident`. Until it has settled, the end of that incident and later
    openings are held. The counts are those of the beginning: the changes in its last runs, and the incidents of a day.
    """

    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    incident = models.OneToOneField(Incident, on_delete=models.CASCADE, related_name="flapping")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    change_count = models.PositiveSmallIntegerField()
    run_count = models.PositiveSmallIntegerField()
    opening_count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            # Also finds whether an environment flaps.
            models.UniqueConstraint(
                fields=["monitor_environment"], condition=Q(ended_at__isnull=True), name="flapping_once_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.monitor_environment} since {self.started_at:%Y-%m-%d %H:%M}"


class LongBroken(models.Model):
    """An incident that is open for weeks: when people were notified of that, and when its environment was muted."""

    incident = models.OneToOneField(Incident, on_delete=models.CASCADE, related_name="long_broken")
    told_at = models.DateTimeField()
    muted_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.incident}"
