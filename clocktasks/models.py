"""The ledger of ticks, and how far each shard has come."""

from django.db import models
from django.db.models import Func, Q, Value

from clocktasks.clock import TaskKind
from clocktasks.volume import VolumeClass, VolumeDecision
from lib.texts import Text


class Tick(models.Model):
    """One minute of the clock. The ledger has no gaps: every minute between two rows has a row.

    A row may stand for many minutes that are alike: all from `covers_from`, the beginning of the first one, to `at`
    (empty: the one minute before `at`). It is set once nothing could be received for a week (`SUMMARISED_AFTER`), so
    that years in which the machine was off or its clock wrong are one row.

    1. written (`dispatched_at`): all check-ins received before it are stored.
    2. decided (`decided_at`): the minute may be applied. Until then the decision about the volume of check-ins is
       `abnormal` or `recovering`, and shards stop before it (D4).
    3. finished: every shard has applied it (`finished_at`; the counts are final).

    About the minute that ends at `at`: `is_listened` is whether check-ins could be received (D2), `volume` how many
    messages came (empty if none could), `deviation_percent` how far that is from the expected volume (empty if too
    little is known to expect one), and `volume_class` the class of that minute alone.
    """

    at = models.DateTimeField(primary_key=True)
    covers_from = models.DateTimeField(null=True, blank=True)
    dispatched_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    is_listened = models.BooleanField(default=True)
    volume = models.PositiveIntegerField(null=True, blank=True)
    deviation_percent = models.FloatField(null=True, blank=True)
    volume_class = models.CharField(
        max_length=10, choices={c.value: c.value for c in VolumeClass}, default=VolumeClass.NORMAL.value
    )
    decision = models.CharField(
        max_length=10, choices={d.value: d.value for d in VolumeDecision}, default=VolumeDecision.NORMAL.value
    )
    missed_count = models.PositiveIntegerField(default=0)
    timeout_count = models.PositiveIntegerField(default=0)
    unknown_count = models.PositiveIntegerField(default=0)

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
            models.CheckConstraint(
                condition=Q(covers_from__isnull=True) | Q(covers_from__lt=models.F("at")),
                name="tick_covers_a_minute_at_least",
            ),
            models.CheckConstraint(
                condition=Q(decision__in=["normal", "incident"], decided_at__isnull=False)
                | Q(decision__in=["abnormal", "recovering"], decided_at__isnull=True, finished_at__isnull=True),
                name="tick_decided_exactly_when_final",
            ),
            models.CheckConstraint(
                condition=Q(volume_class__in=["normal", "abnormal", "incident"]), name="tick_volume_class_is_known"
            ),
            # A volume that was not counted is not zero.
            models.CheckConstraint(
                condition=Q(is_listened=True) | Q(volume__isnull=True, deviation_percent__isnull=True),
                name="tick_deaf_has_no_volume",
            ),
        ]
        indexes = [
            models.Index(fields=["at"], condition=Q(finished_at__isnull=True), name="tick_unfinished"),
            models.Index(fields=["at"], condition=Q(decided_at__isnull=True), name="tick_undecided"),
            # The few minutes in which what falls due becomes unknown.
            models.Index(fields=["at"], condition=Q(is_listened=False) | Q(decision="incident"), name="tick_deaf"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class HeldTick(models.Model):
    """A minute that waited for ingest nodes longer than usual: since when that is known, and the reason at that time.

    Its tick is written when all of them have passed it, or were dropped. One row for each minute: the tick task that
    writes it logs the wait and goes on polling.
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
    kind = models.CharField(max_length=10, choices={k.value: k.value for k in TaskKind})
    position = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["shard", "kind"], name="shard_clock_one_per_shard_and_kind"),
            models.CheckConstraint(
                condition=Q(kind__in=["missed", "timeout", "unknown"]), name="shard_clock_kind_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"shard {self.shard} {self.kind} at {self.position:%Y-%m-%d %H:%M}"


class AppliedTick(models.Model):
    """A tick that changed something in a shard: how many check-ins it marked. The unique key is P4's last guard."""

    shard = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=10, choices={k.value: k.value for k in TaskKind})
    tick = models.DateTimeField()
    marked_count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tick", "shard", "kind"], name="applied_tick_exactly_once"),
            models.CheckConstraint(condition=Q(marked_count__gte=1), name="applied_tick_marked_something"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.tick:%Y-%m-%d %H:%M} in shard {self.shard}"


class ClockIncident(models.Model):
    """A time in which nothing, or far too little, was received: one summary instead of many false alarms (D2, D4).

    From the beginning of its first minute (`started_at`) to the end of its last one (`ended_at`; empty while it goes
    on). `unknown_count` check-ins of `environment_count` monitor environments became unknown; both are empty until the
    last of its ticks is finished (`summarised_at`). `told_at` is when people were notified, once: after the summary, or
    while it is ongoing if that takes long. Empty if it made nothing unknown, or there are no recipients.
    """

    class Cause(models.TextChoices):
        DEAF = "deaf", Text("nobody listened")
        VOLUME = "volume", Text("far fewer check-ins than usual")

    cause = models.CharField(max_length=10, choices=Cause.choices)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    summarised_at = models.DateTimeField(null=True, blank=True)
    unknown_count = models.PositiveIntegerField(null=True, blank=True)
    environment_count = models.PositiveIntegerField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(Value(1), condition=Q(ended_at__isnull=True), name="clock_incident_one_at_a_time"),
            models.UniqueConstraint(fields=["started_at"], name="clock_incident_once_per_minute"),
            models.CheckConstraint(condition=Q(cause__in=["deaf", "volume"]), name="clock_incident_cause_is_known"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(ended_at__gt=models.F("started_at")),
                name="clock_incident_ends_after_its_start",
            ),
            models.CheckConstraint(
                condition=Q(
                    summarised_at__isnull=True,
                    unknown_count__isnull=True,
                    environment_count__isnull=True,
                )
                | Q(
                    ended_at__isnull=False,
                    summarised_at__isnull=False,
                    unknown_count__isnull=False,
                    environment_count__isnull=False,
                ),
                name="clock_incident_summarised_after_its_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_cause_display()} since {self.started_at:%Y-%m-%d %H:%M}"
