"""What time does: the ledger of ticks and how far each shard has come."""

from django.db import models
from django.db.models import Func, Q, Value


class Tick(models.Model):
    """One minute of the clock. The ledger has no gaps: every minute between two rows has a row.

    1. written: the minute may be applied (`dispatched_at`).
    2. finished: every shard has applied it (`finished_at`; the counts are final).
    """

    at = models.DateTimeField(primary_key=True)
    dispatched_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    missed_count = models.PositiveIntegerField(default=0)
    timeout_count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            # A tick is a whole minute. (`at__second` would cut the fraction of a second off.)
            models.CheckConstraint(
                condition=Q(
                    at=Func(
                        Value("minute"), "at", Value("UTC"), function="date_trunc", output_field=models.DateTimeField()
                    )
                ),
                name="tick_is_a_whole_minute",
            ),
        ]
        indexes = [models.Index(fields=["at"], condition=Q(finished_at__isnull=True), name="tick_unfinished")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class HeldTick(models.Model):
    """A minute that waited for ingest nodes longer than usual: since when that is known, and what the reason was then.

    Its tick is written when all of them have passed it, or were dropped. One row for each minute: whoever writes it
    says so in the log, and goes on looking.
    """

    at = models.DateTimeField(primary_key=True)
    noticed_at = models.DateTimeField()
    reason = models.TextField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(noticed_at__gte=models.F("at")), name="held_tick_noticed_after_it"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class ShardClock(models.Model):
    """How far one kind of clock task has come in one shard: every tick up to and including `position` is applied (P4).

    The row is locked while a tick is applied, and moves in the transaction of the tick's effects.
    """

    shard = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=10, choices={"missed": "missed", "timeout": "timeout"})
    position = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["shard", "kind"], name="shard_clock_one_per_shard_and_kind"),
            models.CheckConstraint(condition=Q(kind__in=["missed", "timeout"]), name="shard_clock_kind_is_known"),
        ]

    def __str__(self) -> str:
        return f"shard {self.shard} {self.kind} at {self.position:%Y-%m-%d %H:%M}"


class AppliedTick(models.Model):
    """A tick that changed something in a shard: how many check-ins it marked. The unique key is P4's last guard."""

    shard = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=10, choices={"missed": "missed", "timeout": "timeout"})
    tick = models.DateTimeField()
    marked_count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tick", "shard", "kind"], name="applied_tick_exactly_once"),
            models.CheckConstraint(condition=Q(marked_count__gte=1), name="applied_tick_marked_something"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.tick:%Y-%m-%d %H:%M} in shard {self.shard}"
