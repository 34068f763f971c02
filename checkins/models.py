"""What was heard: check-ins, the earlier words of retried runs, and what could not be used."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Func, Q

from checkins.messages import CheckInStatus, ProblemKind, Source
from checkins.node_facts import NodeFacts
from checkins.querysets import CheckInQuerySet
from monitors.models import ConfigSnapshot, Monitor, MonitorEnvironment, Project

DURATION_MS_MAX = 2_147_483_647


class CheckIn(models.Model):
    """One run of a job as the job reported it, or one made up by the clock (a miss).

    A row is one of:
    1. running (`in_progress`): `timeout_at` is set and the clock will look at it then.
    2. ended (`ok`, `error`): `error` may still become `ok` by a later word of the same run (D16).
    3. `timeout`: the deadline passed. If it ended later, `finished_status` and `finished_at` say how and when (D8).
    4. `missed`: made by the clock and dated at the slot that nothing served.
    5. `unknown`: nobody listened, or too little was heard, when it fell due at the tick `date_updated`. A run may still
       become ok or error; what stands for a slot is dated at it, as a miss is.
    `failed_at` is the instant at which it counted as a failure of its environment; empty if it never did. It stays if
    the run is told ok later. While `DeferredEnding` holds the word that it failed, it is empty still.

    `date_added` is the start (first message, never moves), `date_updated` the last change, `date_in_progress` when an
    opening message was received, `received_at` when the first message was received (for a miss: the tick).
    `project`, `monitor` and `shard` repeat what the monitor environment says, for the unique id, the admin's filters
    and the clock's index; `config` is a snapshot, which nothing deletes. They carry no foreign key check of their own:
    that would double the cost of every check-in. `repeat_key` recognises a last word without id that a client sends
    once more because it missed the answer.
    """

    guid = models.UUIDField()
    project = models.ForeignKey(Project, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    monitor = models.ForeignKey(Monitor, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    monitor_environment = models.ForeignKey(
        MonitorEnvironment, on_delete=models.CASCADE, related_name="checkins", db_index=False
    )
    shard = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in CheckInStatus})
    date_added = models.DateTimeField()
    date_updated = models.DateTimeField()
    date_in_progress = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField()
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
        choices={"disabled": "its monitor was disabled", "deleted": "its environment was being deleted"},
    )
    # Not positive: a check would be made of every row when the column is added.
    folded_count = models.IntegerField(
        default=0,
        db_default=0,
        help_text="Errors of the same minute, far above the limit, that counted and have no row (D39).",
    )
    # Null, not empty: set exactly with finished_at is a constraint.
    finished_status = models.CharField(  # noqa: DJ001
        max_length=10, null=True, blank=True, choices={"ok": "ok", "error": "error"}
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = CheckInQuerySet.as_manager()

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
            # The clock: which deadlines have passed in a shard.
            models.Index(fields=["shard", "timeout_at"], condition=Q(status="in_progress"), name="checkin_deadline"),
            # "The newest running one" for messages without an id.
            models.Index(
                fields=["monitor_environment", "-date_added"], condition=Q(status="in_progress"), name="checkin_running"
            ),
            # The history of an environment, newest first.
            models.Index(fields=["monitor_environment", "-date_added"], name="checkin_history"),
            # The failing run of an environment, when its threshold is reached.
            models.Index(
                fields=["monitor_environment", "failed_at"],
                condition=Q(failed_at__isnull=False),
                name="checkin_failures",
            ),
            # Whose check-ins a clock incident made unknown.
            models.Index(fields=["date_updated"], condition=Q(status="unknown"), name="checkin_unknown"),
            # Date ranges over everything, in the admin. Rows arrive almost in this order, so BRIN costs nothing.
            BrinIndex(fields=["date_added"], name="checkin_date_added_brin", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.date_added:%Y-%m-%d %H:%M:%S}"


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
    """An earlier final word of a run that was told again under the same id (D16: Celery retries a task so)."""

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


class WaitingCheckIn(models.Model):
    """A check-in that was acknowledged and is kept, but not applied yet.

    A row is one of:
    1. `monitor_unknown`: its monitor may come with the run's other message. It is applied then, or given up after the
       parking time (D17).
    2. `failed`: an unexpected error kept it from being applied. A person may try again (D14).
    `message` is the whole message, so that it can be applied as if it came now, with its own reception time.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="waiting_checkins")
    slug = models.CharField(max_length=50, blank=True)
    environment = models.CharField(max_length=64, blank=True)
    reason = models.CharField(
        max_length=20, choices={"monitor_unknown": "monitor unknown", "failed": "processing failed"}
    )
    error = models.TextField(blank=True)
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})
    received_at = models.DateTimeField()
    message = models.JSONField()

    class Meta:
        verbose_name = "waiting check-in"
        constraints = [
            models.CheckConstraint(
                condition=Q(reason="monitor_unknown", error="") | (Q(reason="failed") & ~Q(error="")),
                name="waiting_checkin_failed_exactly_with_an_error",
            ),
        ]
        indexes = [
            models.Index(
                fields=["project", "slug"], condition=Q(reason="monitor_unknown"), name="waiting_checkin_parked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slug} {self.received_at:%Y-%m-%d %H:%M:%S}"


class ClientLossReport(models.Model):
    """A client's own report that check-ins were lost on their way to us (D19): evidence of a false alarm.

    It names no monitor and no time of loss; it comes with the client's next message that gets through.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="loss_reports", db_index=False)
    reason = models.CharField(max_length=100)
    quantity = models.PositiveIntegerField()
    reported_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField()
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})

    class Meta:
        verbose_name = "client loss report"
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=1), name="loss_report_counts_at_least_one"),
        ]
        indexes = [models.Index(fields=["project", "received_at"], name="loss_report_history")]

    def __str__(self) -> str:
        return f"{self.quantity} lost: {self.reason}"


class ProcessingError(models.Model):
    """Something a client sent that could not be used, kept for the project's people: what, why, how often.

    One row a minute and kind for the same monitor and environment, with a count (D13), so that a flood stays readable.
    `payload` is the first of them. `monitor` is empty when the slug is not known.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="processing_errors", db_index=False)
    monitor = models.ForeignKey(
        Monitor, on_delete=models.SET_NULL, null=True, blank=True, related_name="processing_errors"
    )
    kind = models.CharField(max_length=50, choices={k.value: k.value for k in ProblemKind})
    slug = models.CharField(max_length=200, blank=True)
    environment = models.CharField(max_length=200, blank=True)
    field = models.CharField(max_length=100, blank=True)
    value = models.TextField(blank=True)
    message = models.TextField()
    source = models.CharField(max_length=20, choices={s.value: s.value.replace("_", " ") for s in Source})
    minute = models.DateTimeField()
    first_received_at = models.DateTimeField()
    last_received_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=1)
    payload = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "slug", "environment", "kind", "field", "minute"],
                name="processing_error_once_a_minute_and_kind",
            ),
            models.CheckConstraint(condition=Q(count__gte=1), name="processing_error_counts_at_least_one"),
        ]
        indexes = [models.Index(fields=["-last_received_at"], name="processing_error_newest")]

    def __str__(self) -> str:
        return f"{self.kind} {self.slug}"


class KeyUse(models.Model):
    """What an ingest key has used of one of its budgets in an hour or a day that began at `since` (D38).

    `key_id` 0 stands for the addresses of the project's monitors. Keys may be deleted meanwhile, so nothing is referred
    to. The sum over the `stripe`s counts, see `checkins.processing.budgets`.
    """

    project_id = models.BigIntegerField()
    key_id = models.BigIntegerField()
    budget = models.CharField(max_length=20)
    since = models.DateTimeField()
    stripe = models.PositiveSmallIntegerField()
    used = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project_id", "key_id", "budget", "since", "stripe"], name="key_use_once_a_period"
            ),
            models.CheckConstraint(condition=Q(used__gte=0), name="key_use_counts_from_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.used} {self.budget} since {self.since:%Y-%m-%d %H:%M}"


class IngestNode(models.Model):
    """A process that takes check-ins, or took them. Its id is the one in its spool file, which a successor adopts.

    A row is one of:
    1. live: `left_at` and `dropped_at` are empty. The clock applies no minute that the watermark has not reached (P2).
    2. dropped: the clock saw it silent for too long at `dropped_at` and no longer waits for it. It is live again as
       soon as it is heard of; what it kept meanwhile is stored late.
    3. left: it stored everything and went away at `left_at`.

    `watermark`: all check-ins that this node received before it are committed. It never moves back.
    `batch` is the number of its newest committed batch, `spool_position` the newest entry of its spool that is
    committed, `spooled_count` how many entries waited in the spool when it was last heard of (`seen_at`).
    `started_at`: since when its process listens without a break; until `seen_at` at least. A process that was replaced,
    or was frozen for a while, leaves a `ListeningSpan`.
    `silent_since` and `silence_seen_at` are the clock's: its first and its newest look at the node since it was last
    heard of, less the time in which the clock could not look either.
    """

    id = models.UUIDField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    watermark = models.DateTimeField()
    batch = models.BigIntegerField(default=0)
    spool_position = models.BigIntegerField(default=0)
    spooled_count = models.BigIntegerField(default=0)
    silent_since = models.DateTimeField(null=True, blank=True)
    silence_seen_at = models.DateTimeField(null=True, blank=True)
    dropped_at = models.DateTimeField(null=True, blank=True)
    left_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            # A node cannot vouch for the future: what it will have received then is not stored (P2).
            models.CheckConstraint(
                condition=Q(watermark__lte=models.F("seen_at")), name="ingest_node_watermark_not_in_the_future"
            ),
            models.CheckConstraint(
                condition=Q(batch__gte=0, spool_position__gte=0, spooled_count__gte=0),
                name="ingest_node_counts_from_zero",
            ),
            # Silence is seen from its first look to its newest, or there is none.
            models.CheckConstraint(
                condition=Q(silent_since__isnull=True, silence_seen_at__isnull=True)
                | Q(
                    silent_since__isnull=False,
                    silence_seen_at__isnull=False,
                    silent_since__lte=models.F("silence_seen_at"),
                ),
                name="ingest_node_silence_has_begin_and_end",
            ),
            # Only silence drops a node, and a node that left is neither silent nor dropped.
            models.CheckConstraint(
                condition=Q(dropped_at__isnull=True) | Q(silent_since__isnull=False, left_at__isnull=True),
                name="ingest_node_dropped_only_when_silent",
            ),
            # P1: nobody leaves check-ins behind, and nobody waits for one who left.
            models.CheckConstraint(
                condition=Q(left_at__isnull=True) | Q(spooled_count=0, silent_since__isnull=True),
                name="ingest_node_left_with_an_empty_spool",
            ),
        ]

    def __str__(self) -> str:
        return str(self.facts())

    def facts(self) -> NodeFacts:
        """Return what others than the node itself need of this row."""
        signs = self.seen_at, self.watermark, self.spooled_count, self.dropped_at, self.left_at
        return NodeFacts(self.id, self.host, self.pid, *signs)


class ListeningSpan(models.Model):
    """A time in which an ingest node listened, from `since` to `until`, and which is over (D2).

    The span that goes on is in the node's own row. Together they say of every minute whether somebody listened.
    """

    node_id = models.UUIDField()
    since = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(until__gte=models.F("since")), name="listening_span_ends_after_its_start"
            ),
        ]
        indexes = [models.Index(fields=["until"], name="listening_span_newest")]

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d %H:%M:%S} to {self.until:%Y-%m-%d %H:%M:%S}"


class LostSpan(models.Model):
    """A time in which an ingest node received check-ins that its damaged spool has lost: both ends included (D43).

    Whoever listened then, what fell due is unknown: the check-in may have been among them.
    """

    node_id = models.UUIDField()
    since = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(until__gte=models.F("since")), name="lost_span_ends_after_its_start"),
            # A node may tell the same twice.
            models.UniqueConstraint(fields=["until", "since", "node_id"], name="lost_span_told_once"),
        ]

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d %H:%M:%S} to {self.until:%Y-%m-%d %H:%M:%S}"


class MinuteVolume(models.Model):
    """How many messages a node received in a minute and stored: what the clock judges sudden silence by (D3).

    The ledger takes over the sum, see `clocktasks.models.Tick.volume`; the rows are needed for no longer than that.
    """

    minute = models.DateTimeField()
    node_id = models.UUIDField()
    count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["minute", "node_id"], name="minute_volume_once_per_minute_and_node"),
            models.CheckConstraint(condition=Q(count__gte=1), name="minute_volume_counts_at_least_one"),
        ]

    def __str__(self) -> str:
        return f"{self.count} at {self.minute:%Y-%m-%d %H:%M}"
