"""What the installation has one of, each in a table with one row."""

from django.db import models
from django.db.models import Q

from monitors.sharding import SHARDS_MAX


class ShardLayout(models.Model):
    """The number of shards of the environments: one row, created when a shard is first needed.

    Creating environments locks it; a change also moves all rows that have a shard (`manage.py change_shards`).
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    count = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            # A second row could contradict the first.
            models.CheckConstraint(condition=Q(id=1), name="shard_layout_is_one_row"),
            models.CheckConstraint(
                condition=Q(count__gte=1, count__lte=SHARDS_MAX), name="shard_layout_count_in_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.count} shards"


class Housekeeping(models.Model):
    """Housekeeping's own time: one row (columns: `monitors.housetime.HouseTime`)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    reached = models.DateTimeField()
    looked_at = models.DateTimeField()
    apart_for = models.DurationField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="housekeeping_is_one_row"),
        ]

    def __str__(self) -> str:
        return f"{self.reached:%Y-%m-%d %H:%M}"
