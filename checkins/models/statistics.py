"""What is counted of runs: one row for each environment and hour, and the newest durations of each environment."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from monitors.models import MonitorEnvironment


class RunHour(models.Model):
    """The runs of one environment that began within one hour (UTC), counted by how they ended.

    Written by triggers of the check-ins, in the statement that changes these: so it always says what a count of the
    check-ins would say, and stays when those are dropped. Runs in progress are not counted yet. Durations are those of
    the runs that ended ok and whose duration is known; `off_limits` counts those that broke a limit (D44).

    The hour comes first in the key: what an hour writes lies together, and so does what housekeeping removes.
    No count has a check: PostgreSQL would make it of the difference that an update adds, which may be negative.
    """

    pk = models.CompositePrimaryKey("hour", "monitor_environment")
    hour = models.DateTimeField()
    # Rows of a deleted environment go when their time has come: nobody searches for them, so no index is kept for it.
    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    ok = models.IntegerField(default=0, db_default=0)
    error = models.IntegerField(default=0, db_default=0)
    missed = models.IntegerField(default=0, db_default=0)
    timeout = models.IntegerField(default=0, db_default=0)
    unknown = models.IntegerField(default=0, db_default=0)
    off_limits = models.IntegerField(default=0, db_default=0)
    durations = models.IntegerField(default=0, db_default=0)
    duration_sum_ms = models.BigIntegerField(default=0, db_default=0)
    duration_max_ms = models.IntegerField(null=True, blank=True)

    class Meta:
        verbose_name = "hour of runs"
        verbose_name_plural = "hours of runs"

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M}"


class RecentRuns(models.Model):
    """The newest 100 durations of runs that ended ok, and the newest 100 delays of their starts, oldest first, in ms.

    In the order in which the ends counted (D29). A delay is the time from the slot to the start of its run, and is
    negative if that came early (D12). Percentiles are of these: `checkins.recent`.
    """

    monitor_environment = models.OneToOneField(
        MonitorEnvironment,
        on_delete=models.CASCADE,
        related_name="recent_runs",
        db_constraint=False,
        primary_key=True,
    )
    durations_ms = ArrayField(models.IntegerField(), default=list)
    delays_ms = ArrayField(models.IntegerField(), default=list)

    class Meta:
        verbose_name = "recent runs"
        verbose_name_plural = "recent runs"

    def __str__(self) -> str:
        return f"{len(self.durations_ms)} durations"
