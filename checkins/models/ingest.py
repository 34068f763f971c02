"""The processes that receive check-ins: when they listened, what they lost, how much came."""

from django.db import models
from django.db.models import Q

from checkins.node_facts import NodeFacts


class IngestNode(models.Model):
    """A process that receives check-ins, or did so. Its id is the one in its spool file, which a successor adopts.

    A row is one of:
    1. live: `left_at` and `dropped_at` are empty. The clock applies no minute that the watermark has not reached (P2).
    2. dropped: the clock saw it silent for too long at `dropped_at` and no longer waits for it. It is live again as
       soon as it reports; what it kept meanwhile is stored late.
    3. left: it stored everything and went away at `left_at`.

    `watermark`: all check-ins that this node received before it are committed. It never moves back.
    `batch` is the number of its newest committed batch, `spool_position` the newest entry of its spool that is
    committed, `spooled_count` how many entries waited in the spool when it was last seen (`seen_at`).
    `started_at`: since when its process listens without a break; until `seen_at` at least. A process that was replaced,
    or was frozen for a while, leaves a `ListeningSpan`.
    `silent_since` and `silence_seen_at` are the clock's: when it first and last checked the node since that last
    reported, less the time in which the clock could not check either.
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
            # A node may report the same twice.
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
