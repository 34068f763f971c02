"""Runs as jobs reported them, or as the clock made them up, and what belongs to one run."""

from datetime import datetime

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Func, Q

from checkins.messages import CheckInStatus, Source
from monitors.models import ConfigSnapshot, MonitorEnvironment, Project

DURATION_MS_MAX = 2_147_483_647


class CheckIn(models.Model):
    """One run of a job as the job reported it, or one made up by the clock (a miss).

    A row is one of:
    1. running (`in_progress`): `timeout_at` is set and the clock will check it then.
    2. ended (`ok`, `error`): `error` may still become `ok` by a later word of the same run (D16).
    3. `timeout`: the deadline passed. If it ended later, `finished_status` and `finished_at` say how and when (D8).
    4. `missed`: made by the clock and dated at the slot that nothing served.
    5. `unknown`: nobody listened, or too little was received, when it fell due at the tick `date_updated`. A run may
       still become ok or error; what stands for a slot is dated at it, as a miss is. `unknown_because` says why if that
       is another reason; of an `error` it says why it does not count.
    `failed_at` is the instant at which it counted as a failure of its environment; empty if it never did. It stays if
    the run is reported ok later. While `DeferredEnding` holds the word that it failed, it is empty still.

    `date_added` is the start (first message, never moves), `date_updated` the last change, `date_in_progress` when an
    opening message was received, `received_at` when the first message was received (for a miss: the tick), which is
    stored as `received_later_at` where it is not the start.
    `project` and `shard` repeat what the monitor environment says, for the unique id, the admin's filter
    and the clock's index; `config` is a snapshot, which nothing deletes. They carry no foreign key check of their own:
    that would double the cost of every check-in. `repeat_key` recognises a last word without id that a client sends
    once more because it missed the answer.
    """

    guid = models.UUIDField()
    project = models.ForeignKey(Project, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.CASCADE, related_name="checkins", db_index=False
    )
    shard = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in CheckInStatus})
    date_added = models.DateTimeField()
    date_updated = models.DateTimeField()
    date_in_progress = models.DateTimeField(null=True, blank=True)
    received_later_at = models.DateTimeField(db_column="received_at", null=True, blank=True)
    expected_time = models.DateTimeField(null=True, blank=True)
    timeout_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.BigIntegerField(null=True, blank=True)
    trace_id = models.UUIDField(null=True, blank=True)
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})
    config = models.ForeignKey(
        ConfigSnapshot, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    exit_status = models.PositiveSmallIntegerField(null=True, blank=True)
    # What does not fit there: a signal as -9, Windows' 3221225786. Widening the column would write every row anew.
    wide_exit_status = models.BigIntegerField(null=True, blank=True)
    repeat_key = models.UUIDField(null=True, blank=True, editable=False)
    failed_at = models.DateTimeField(null=True, blank=True)
    # Null, not empty: while nothing else says why, it is that we were deaf. A check would be made of every row.
    unknown_because = models.CharField(  # noqa: DJ001
        max_length=10,
        null=True,
        blank=True,
        choices={
            "disabled": "its monitor was disabled",
            "deleted": "its environment was being deleted",
            "maintained": "it was in maintenance",
        },
    )
    # Null, not 0: hardly any row has one. Not positive: a check would be made of every row when the column is added.
    folded_count = models.IntegerField(
        null=True,
        blank=True,
        help_text="Errors of the same minute, far above the limit, that counted and have no row (D39).",
    )
    # Null, not empty: set exactly with finished_at is a constraint.
    finished_status = models.CharField(  # noqa: DJ001
        max_length=10, null=True, blank=True, choices={"ok": "ok", "error": "error"}
    )
    finished_at = models.DateTimeField(null=True, blank=True)
    # Null for nearly every row. No check, which would be made of every row when the column is added.
    limit_broken = models.CharField(  # noqa: DJ001
        max_length=20,
        null=True,
        blank=True,
        choices={
            "slow": "too slow",
            "fast": "too fast",
            "overlap": "overlapping",
            "slow_counted": "too slow, a failure",
            "fast_counted": "too fast, a failure",
            "overlap_counted": "overlapping, a failure",
        },
        help_text="The limit of its monitor that it broke although it ended ok, and whether that counts (D44).",
    )

    class Meta:
        verbose_name = "check-in"
        constraints = [
            # D9, an id is its project's own, is a unique index of each partition, see `checkins.partitions`.
            models.CheckConstraint(
                condition=Q(status__in=["in_progress", "ok", "error", "missed", "timeout", "unknown"]),
                name="checkin_status_is_known",
            ),
            # A deadline exists exactly while the run is in progress.
            models.CheckConstraint(
                condition=Q(status="in_progress", timeout_at__isnull=False)
                | (~Q(status="in_progress") & Q(timeout_at__isnull=True)),
                name="checkin_deadline_exactly_while_in_progress",
            ),
            models.CheckConstraint(
                condition=Q(duration_ms__isnull=True) | Q(duration_ms__gte=0, duration_ms__lte=DURATION_MS_MAX),
                name="checkin_duration_in_range",
            ),
            # Only failures count as failures (D5), and what was one may have ended ok later (D16).
            models.CheckConstraint(
                condition=Q(failed_at__isnull=True) | Q(status__in=["error", "missed", "timeout", "ok"]),
                name="checkin_counted_only_as_a_failure",
            ),
            # D8: how a run ended after its deadline, which the clock may be just about to apply.
            models.CheckConstraint(
                condition=Q(finished_status__isnull=True, finished_at__isnull=True)
                | Q(
                    status__in=["in_progress", "timeout"],
                    finished_status__isnull=False,  # null is not in the list, but would not be false either
                    finished_status__in=["ok", "error"],
                    finished_at__isnull=False,
                ),
                name="checkin_late_finish_only_after_its_deadline",
            ),
            # A miss belongs to the slot that it is dated at.
            models.CheckConstraint(
                condition=~Q(status="missed") | Q(expected_time__isnull=False, date_added=models.F("expected_time")),
                name="checkin_missed_is_dated_at_its_slot",
            ),
        ]
        indexes = [
            # No index names a column that the end of a run changes: so it is written beside its start, and in no index.
            # The history of an environment, newest first.
            models.Index(fields=["monitor_environment", "-date_added"], name="checkin_history"),
            # The failing run of an environment, when its threshold is reached.
            models.Index(
                fields=["monitor_environment", "failed_at"],
                condition=Q(failed_at__isnull=False),
                name="checkin_failures",
            ),
            # Date ranges over everything, in the admin. Rows arrive almost in this order, so BRIN costs nothing.
            BrinIndex(fields=["date_added"], name="checkin_date_added_brin", autosummarize=True),
            # Whose check-ins a clock incident made unknown. A BRIN index may name what changes (PostgreSQL 16).
            BrinIndex(fields=["date_updated"], name="checkin_date_updated_brin", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.date_added:%Y-%m-%d %H:%M:%S}"

    @property
    def received_at(self) -> datetime:
        """When the first message was received, which is when the run began unless that is stored."""
        return self.date_added if self.received_later_at is None else self.received_later_at

    @received_at.setter
    def received_at(self, at: datetime) -> None:
        self.received_later_at = at


class RunningCheckIn(models.Model):
    """A check-in in progress, by what it is looked for: written by triggers of the check-ins.

    Few rows, of runs that go on now, beside a history that grows: whoever looks for one looks in one place, not in each
    day's, and the end of a run changes no index of its day.

    `timeout_at` is when the clock has to check the run: at its deadline, or later if that is in a maintenance window,
    which the clock writes when it gets there.
    """

    checkin = models.OneToOneField(
        CheckIn, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, primary_key=True
    )
    # The start, which says in which day's partition the check-in is.
    date_added = models.DateTimeField()
    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    shard = models.SmallIntegerField()
    timeout_at = models.DateTimeField()

    class Meta:
        verbose_name = "check-in in progress"
        verbose_name_plural = "check-ins in progress"
        indexes = [
            # The clock: which deadlines have passed in a shard.
            models.Index(fields=["shard", "timeout_at"], name="checkin_deadline"),
            # "The newest running one" for messages without an id.
            models.Index(fields=["monitor_environment", "-date_added"], name="checkin_running"),
        ]

    def __str__(self) -> str:
        return f"{self.checkin_id} until {self.timeout_at:%Y-%m-%d %H:%M:%S}"


class DeferredEnding(models.Model):
    """The end of a run that is stored and not counted yet: the clock has first to apply what was due before it (D29).

    Rows come with their check-in and go when they are counted, in the order of reception; see
    `checkins.processing.counting`. They hold what counting needs, under the configuration that held at the reception.
    """

    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.CASCADE, related_name="deferred_endings", db_index=False
    )
    # With its start, which says in which day's partition it is. The row above is the check.
    checkin = models.ForeignKey(
        CheckIn, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    guid = models.UUIDField()
    verdict = models.CharField(max_length=10, choices={"ok": "ok", "failed": "failed"})
    started_at = models.DateTimeField()
    received_at = models.DateTimeField()
    expected_time = models.DateTimeField(null=True, blank=True)
    trace_id = models.UUIDField(null=True, blank=True)
    exit_status = models.BigIntegerField(null=True, blank=True)
    log_tail = models.TextField(null=True, blank=True)  # noqa: DJ001 - null, not empty: nothing was sent
    duration_ms = models.BigIntegerField(null=True, blank=True)
    # Whether a message reported its start: else it was reported as a whole. And whether it was received in a
    # maintenance window, where no limit counts. An older version does not know the columns.
    is_begun = models.BooleanField(default=False, db_default=False)
    is_maintained = models.BooleanField(default=False, db_default=False)
    config = models.ForeignKey(
        ConfigSnapshot, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(verdict__in=["ok", "failed"]), name="deferred_ending_verdict_is_known"),
        ]
        indexes = [
            models.Index(fields=["monitor_environment", "received_at", "id"], name="deferred_ending_in_order"),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} {self.received_at:%Y-%m-%d %H:%M:%S}"


class Attempt(models.Model):
    """An earlier final word of a run that was reported again under the same id (D16: Celery retries a task so)."""

    checkin = models.ForeignKey(CheckIn, on_delete=models.CASCADE, related_name="attempts", db_constraint=False)
    status = models.CharField(max_length=10, choices={"ok": "ok", "error": "error"})
    received_at = models.DateTimeField()
    duration_ms = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["received_at", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=["ok", "error"]), name="attempt_status_is_final"),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.received_at:%Y-%m-%d %H:%M:%S}"


class CheckInLog(models.Model):
    """What a job sent along with a message: the last part of its output, as it came.

    It belongs to the run with its `guid` in this environment; without one it is a note beside the runs. `status` is
    what the message said; empty if it was output only.
    """

    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.CASCADE, related_name="logs", db_index=False
    )
    guid = models.UUIDField(null=True, blank=True)
    status = models.CharField(
        max_length=20, blank=True, choices={"in_progress": "in progress", "ok": "ok", "error": "error"}
    )
    received_at = models.DateTimeField()
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})
    body = models.BinaryField()
    size_bytes = models.BigIntegerField()

    class Meta:
        verbose_name = "check-in log"
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["", "in_progress", "ok", "error"]), name="checkin_log_status_is_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    size_bytes__gte=Func("body", function="octet_length", output_field=models.BigIntegerField())
                ),
                name="checkin_log_is_a_part_of_what_was_sent",
            ),
        ]
        indexes = [models.Index(fields=["monitor_environment", "received_at"], name="checkin_log_history")]

    def __str__(self) -> str:
        return f"log {self.received_at:%Y-%m-%d %H:%M:%S}"
