"""Valid rows for tests: ask for a state, and the columns that this state needs are filled in.

Every instant is counted from `NOW`, never from the wall clock. Say in the test what the test is about, and nothing
else: `CheckInFactory(status="missed")`, `MonitorFactory(interval=15, interval_unit="minute")`,
`IncidentFactory(resolved=True)`.
"""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from factory.declarations import LazyAttribute, LazyAttributeSequence, Maybe, SelfAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory
from factory.helpers import post_generation

from accounts.models import Invitation, Membership, Preferences
from audit.models import AuditEntry
from checkins.maintenance import note_windows
from checkins.messages import CheckInMessage, LogMessage
from checkins.models import (
    Attempt,
    CheckIn,
    CheckInLog,
    ClientLossReport,
    DeferredEnding,
    IngestNode,
    KeyUse,
    ListeningSpan,
    LostSpan,
    MinuteVolume,
    ProcessingError,
    RecentRuns,
    RunHour,
    WaitingCheckIn,
)
from clocktasks.models import AppliedTick, ClockIncident, HeldTick, ShardClock, Tick
from dashboard.models import SavedView, ShareLink
from incidents import explanation as evidence
from incidents.models import (
    Channel,
    Comment,
    Duty,
    Flapping,
    FollowUp,
    Incident,
    Issue,
    Message,
    Notification,
    Occurrence,
    Route,
    Storm,
    Unsubscription,
    WeeklyReport,
)
from incidents.thresholds import FailureKind, Reason
from monitors.changes import attach_config_snapshots
from monitors.expectation import expect_from_now, expect_nothing
from monitors.hot_rows import state_of
from monitors.models import Dependency, Environment, IngestKey, MaintenanceWindow, Monitor, MonitorEnvironment, Project
from monitors.sharding import shard_of
from tests.messages import make_message

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
"""A Monday. What "now" is in tests that do not say otherwise."""


class ProjectFactory(DjangoModelFactory[Project]):
    class Meta:
        model = Project

    name = Sequence(lambda n: f"Project {n}")
    slug = Sequence(lambda n: f"project-{n}")
    created_at = NOW


class UserFactory(DjangoModelFactory[User]):
    """An account without any right, and without a password."""

    class Meta:
        model = User

    username = Sequence(lambda n: f"person-{n}")


class MembershipFactory(DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    project = SubFactory(ProjectFactory)
    user = SubFactory(UserFactory)
    role = "viewer"
    added_at = NOW


class PreferencesFactory(DjangoModelFactory[Preferences]):
    """Somebody with a time zone, and a night without notifications."""

    class Meta:
        model = Preferences

    user = SubFactory(UserFactory)
    timezone = "Europe/Vienna"
    quiet_from = time(22)
    quiet_until = time(7)


class InvitationFactory(DjangoModelFactory[Invitation]):
    class Meta:
        model = Invitation

    project = SubFactory(ProjectFactory)
    address = Sequence("someone{}@example.com".format)
    role = "viewer"
    expires_at = NOW + timedelta(days=7)


class AuditEntryFactory(DjangoModelFactory[AuditEntry]):
    """Somebody changed the margin of a monitor in the admin."""

    class Meta:
        model = AuditEntry

    at = NOW
    actor_id = 1
    actor_name = "anna"
    source = "admin"
    project_id = 1
    kind = "monitor"
    object_id = 1
    object_name = "backup"
    action = "changed"
    changes = LazyAttribute(lambda _: {"checkin_margin": [1, 5]})


class IngestKeyFactory(DjangoModelFactory[IngestKey]):
    class Meta:
        model = IngestKey

    project = SubFactory(ProjectFactory)
    public_key = Sequence(lambda n: f"{n:032x}")
    label = "tests"
    created_at = NOW


class MonitorFactory(DjangoModelFactory[Monitor]):
    """Every five minutes in UTC. Give `interval` and `interval_unit` for an interval instead."""

    class Meta:
        model = Monitor

    project = SubFactory(ProjectFactory)
    slug = Sequence(lambda n: f"job-{n}")
    name = LazyAttribute(lambda monitor: monitor.slug)
    schedule_type = LazyAttribute(lambda monitor: "crontab" if monitor.interval is None else "interval")
    crontab = LazyAttribute(lambda monitor: "*/5 * * * *" if monitor.interval is None else None)
    interval = None
    interval_unit = None
    created_at = NOW

    @classmethod
    def _create(cls, model_class: type[Monitor], **kwargs: Any) -> Monitor:
        monitor = model_class(**kwargs)
        attach_config_snapshots([monitor])
        monitor.save(force_insert=True)
        return monitor


class DependencyFactory(DjangoModelFactory[Dependency]):
    class Meta:
        model = Dependency

    downstream = SubFactory("tests.factories.MonitorFactory")
    upstream = SubFactory("tests.factories.MonitorFactory", project=SelfAttribute("..downstream.project"))
    created_at = NOW


class MaintenanceWindowFactory(DjangoModelFactory[MaintenanceWindow]):
    """An hour from `NOW` on, for all of the project. With `crontab`, each occurrence lasts `minutes` (30)."""

    class Meta:
        model = MaintenanceWindow

    project = SubFactory(ProjectFactory)
    name = "move to new hosts"
    starts_at = NOW
    ends_at = LazyAttribute(lambda window: None if window.crontab else window.starts_at + timedelta(hours=1))
    crontab = ""
    minutes = LazyAttribute(lambda window: 30 if window.crontab and window.until is None else None)
    until = None
    created_at = NOW

    @classmethod
    def _create(cls, model_class: type[MaintenanceWindow], **kwargs: Any) -> MaintenanceWindow:
        window = super()._create(model_class, **kwargs)
        note_windows(window.project_id)
        return window


class EnvironmentFactory(DjangoModelFactory[Environment]):
    """The project's environment of that name: the same row if it exists."""

    class Meta:
        model = Environment
        django_get_or_create = ("project", "name")

    project = SubFactory(ProjectFactory)
    name = "production"


class MonitorEnvironmentFactory(DjangoModelFactory[MonitorEnvironment]):
    """An environment that heard from its job at `last_checkin` (NOW) and expects it again by its schedule.

    `status="active"` is one that heard nothing yet. `status="error"` alone has no incident: see `IncidentFactory`.
    """

    class Meta:
        model = MonitorEnvironment

    monitor = SubFactory(MonitorFactory)
    environment = SubFactory(EnvironmentFactory, project=SelfAttribute("..monitor.project"))
    status = "ok"
    is_muted = SelfAttribute("monitor.is_muted")
    shard = LazyAttribute(lambda row: shard_of(row.monitor.id, settings.CLOCK_SHARDS))
    last_checkin = LazyAttribute(lambda row: NOW if row.status in ("ok", "error") else None)
    last_ok_at = LazyAttribute(lambda row: row.last_checkin if row.status == "ok" else None)
    ok_streak = LazyAttribute(lambda row: int(row.status == "ok"))
    failure_streak = LazyAttribute(lambda row: int(row.status == "error"))
    failure_streak_started_at = LazyAttribute(lambda row: row.last_checkin if row.failure_streak else None)
    created_at = NOW

    @classmethod
    def _create(cls, model_class: type[MonitorEnvironment], **kwargs: Any) -> MonitorEnvironment:
        row = model_class(**kwargs)
        state = state_of(row)
        if row.monitor.status == "active" and row.last_checkin is not None:
            state = expect_from_now(state, row.monitor.rules(), now=row.last_checkin)
        else:
            state = expect_nothing(state)
        # What the test asked for stays as it is.
        for column in ("pending_slot", "next_checkin", "next_checkin_latest"):
            if column not in kwargs:
                setattr(row, column, getattr(state, column))
        if state.anchor is not None and "anchor_at" not in kwargs:
            row.anchor_at, row.anchor_day = state.anchor.at, state.anchor.day
        row.save(force_insert=True)
        return row


def _checkin_id(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"watchclock:test:{number}")


class CheckInFactory(DjangoModelFactory[CheckIn]):
    """A check-in in the given status (ok), which started, or was expected, at `date_added` (NOW)."""

    class Meta:
        model = CheckIn
        skip_postgeneration_save = True

    class Params:
        runtime = LazyAttribute(lambda row: timedelta(minutes=row.monitor_environment.monitor.max_runtime))

    guid = Sequence(_checkin_id)
    monitor_environment = SubFactory(MonitorEnvironmentFactory)
    project = SelfAttribute("monitor_environment.monitor.project")
    shard = SelfAttribute("monitor_environment.shard")
    config = SelfAttribute("monitor_environment.monitor.config")
    status = "ok"
    date_added = NOW
    expected_time = LazyAttribute(lambda row: row.date_added if row.status == "missed" else None)
    duration_ms = LazyAttribute(lambda row: 1_500 if row.status in ("ok", "error") else None)
    date_in_progress = LazyAttribute(
        lambda row: row.date_added if row.status in ("in_progress", "timeout", "unknown") else None
    )
    date_updated = LazyAttribute(lambda row: row.date_added + (row.runtime if row.status == "timeout" else timedelta()))
    received_at = LazyAttribute(
        lambda row: (
            row.date_added + timedelta(minutes=row.monitor_environment.monitor.checkin_margin)
            if row.status == "missed"
            else row.date_added
        )
    )
    timeout_at = LazyAttribute(lambda row: row.date_added + row.runtime if row.status == "in_progress" else None)
    failed_at = LazyAttribute(
        lambda row: {"error": row.received_at, "missed": row.received_at, "timeout": row.date_updated}.get(row.status)
    )
    source = LazyAttribute(lambda row: "clock" if row.status == "missed" else "sentry_envelope")

    @post_generation
    def environment_knows_the_deadline(self, create: bool, extracted: object, **kwargs: object) -> None:
        environment, deadline = self.monitor_environment, self.timeout_at
        known = environment.first_timeout_at
        if create and deadline is not None and (known is None or deadline < known):
            environment.first_timeout_at = deadline
            environment.save(update_fields=["first_timeout_at"])


class AttemptFactory(DjangoModelFactory[Attempt]):
    class Meta:
        model = Attempt

    checkin = SubFactory(CheckInFactory)
    status = "error"
    received_at = NOW
    duration_ms = 900


class DeferredEndingFactory(DjangoModelFactory[DeferredEnding]):
    """An ok that the clock has to come to first."""

    class Meta:
        model = DeferredEnding

    checkin = SubFactory(CheckInFactory)
    monitor_environment = SelfAttribute("checkin.monitor_environment")
    guid = SelfAttribute("checkin.guid")
    config = SelfAttribute("checkin.config")
    started_at = SelfAttribute("checkin.date_added")
    verdict = "ok"
    received_at = NOW


class RecentRunsFactory(DjangoModelFactory[RecentRuns]):
    """Three runs of a second."""

    class Meta:
        model = RecentRuns

    monitor_environment = SubFactory(MonitorEnvironmentFactory)
    durations_ms = LazyAttribute(lambda _: [1_000, 1_000, 1_000])


class RunHourFactory(DjangoModelFactory[RunHour]):
    """The hour of NOW, in which one run ended ok."""

    class Meta:
        model = RunHour

    monitor_environment = SubFactory(MonitorEnvironmentFactory)
    hour = NOW
    ok = 1


class CheckInLogFactory(DjangoModelFactory[CheckInLog]):
    """What a job printed: a note, or with `checkin` the log of a run's last word (in_progress, ok, error)."""

    class Meta:
        model = CheckInLog

    class Params:
        checkin = None

    monitor_environment = LazyAttribute(
        lambda row: row.checkin.monitor_environment if row.checkin else MonitorEnvironmentFactory()
    )
    guid = LazyAttribute(lambda row: row.checkin and row.checkin.guid)
    status = LazyAttribute(lambda row: row.checkin.status if row.checkin else "")
    received_at = NOW
    source = "healthchecks"
    body = b"3 files copied\n"
    size_bytes = LazyAttribute(lambda row: len(row.body))


class WaitingCheckInFactory(DjangoModelFactory[WaitingCheckIn]):
    """A message that is parked until its monitor comes; with an `error`, one that an unexpected error kept back.

    Give `sent` for a message of your own.
    """

    class Meta:
        model = WaitingCheckIn

    class Params:
        sent: CheckInMessage | LogMessage | None = None

    project = SubFactory(ProjectFactory)
    slug = Sequence(lambda n: f"unknown-{n}")
    environment = "production"
    error = ""
    reason = LazyAttribute(lambda row: "failed" if row.error else "monitor_unknown")
    source = "sentry_envelope"
    received_at = NOW
    message = LazyAttribute(lambda row: _kept(row.sent or _message_of(row)))


def _message_of(row: Any) -> CheckInMessage:
    fields = {"slug": row.slug, "raw_slug": row.slug, "environment": row.environment, "project_id": row.project.id}
    return make_message("ok", at=row.received_at, run=1, **fields)


def _kept(message: CheckInMessage | LogMessage) -> dict[str, Any]:
    return {"type": type(message).__name__, "fields": msgspec.to_builtins(message)}


class ClientLossReportFactory(DjangoModelFactory[ClientLossReport]):
    """One check-in that a client says it lost on its way."""

    class Meta:
        model = ClientLossReport

    project = SubFactory(ProjectFactory)
    reason = "network_error"
    quantity = 1
    reported_at = SelfAttribute("received_at")
    received_at = NOW
    source = "sentry_envelope"


class ProcessingErrorFactory(DjangoModelFactory[ProcessingError]):
    """A check-in whose slug no monitor has. Give `monitor` for an error of a known one."""

    class Meta:
        model = ProcessingError

    project = LazyAttribute(lambda row: row.monitor.project if row.monitor else ProjectFactory())
    monitor = None
    kind = "MONITOR_NOT_FOUND"
    slug = LazyAttributeSequence(lambda row, n: row.monitor.slug if row.monitor else f"unknown-{n}")
    environment = "production"
    message = "No monitor has this slug, and the check-in brought no usable configuration to create it."
    source = "sentry_envelope"
    minute = NOW
    first_received_at = NOW
    last_received_at = NOW
    payload = LazyAttribute(lambda row: {"monitor_slug": row.slug, "status": "ok"})


class KeyUseFactory(DjangoModelFactory[KeyUse]):
    class Meta:
        model = KeyUse

    project_id = Sequence(lambda n: n + 1)
    key_id = 1
    budget = "monitors"
    since = NOW
    stripe = 0
    used = 1


class IssueFactory(DjangoModelFactory[Issue]):
    """The one issue of a monitor environment, in the given status (unresolved)."""

    class Meta:
        model = Issue

    monitor_environment = SubFactory(MonitorEnvironmentFactory, status="error")
    project = SelfAttribute("monitor_environment.monitor.project")
    fingerprint = LazyAttribute(lambda row: f"crons:{row.monitor_environment.id}")
    title = LazyAttribute(lambda row: evidence.title(row.monitor_environment.monitor.name))
    status = "unresolved"
    first_seen_at = NOW
    last_seen_at = NOW
    resolved_at = LazyAttribute(lambda row: NOW if row.status == "resolved" else None)
    resolved_by = LazyAttribute(lambda row: "recovery" if row.status == "resolved" else None)


class IncidentFactory(DjangoModelFactory[Incident]):
    """An open incident of a failing environment, with its issue; `resolved=True` for one that an ok check-in ended."""

    class Meta:
        model = Incident

    class Params:
        resolved = False

    guid = Sequence(lambda n: uuid.uuid5(uuid.NAMESPACE_URL, f"watchclock:test:incident:{n}"))
    monitor_environment = Maybe(
        "resolved",
        yes_declaration=SubFactory(MonitorEnvironmentFactory, status="ok"),
        no_declaration=SubFactory(MonitorEnvironmentFactory, status="error"),
    )
    issue = SubFactory(
        IssueFactory,
        monitor_environment=SelfAttribute("..monitor_environment"),
        status=LazyAttribute(lambda row: "resolved" if row.factory_parent.resolved else "unresolved"),
    )
    started_at = NOW
    opened_at = SelfAttribute("started_at")
    starting_checkin = SubFactory(
        CheckInFactory,
        monitor_environment=SelfAttribute("..monitor_environment"),
        date_added=SelfAttribute("..started_at"),
        status="error",
    )
    resolved_at = LazyAttribute(lambda row: row.started_at + timedelta(minutes=30) if row.resolved else None)
    resolving_checkin = Maybe(
        "resolved",
        yes_declaration=SubFactory(
            CheckInFactory,
            monitor_environment=SelfAttribute("..monitor_environment"),
            date_added=SelfAttribute("..resolved_at"),
            status="ok",
        ),
        no_declaration=None,
    )


class OccurrenceFactory(DjangoModelFactory[Occurrence]):
    """The occurrence of an incident's starting check-in. Give `checkin` for a later one of the same incident."""

    class Meta:
        model = Occurrence

    incident = SubFactory(IncidentFactory)
    number = Sequence(lambda n: n + 1_000)  # None that a test gives to another one of the same incident.
    issue = SelfAttribute("incident.issue")
    checkin = SelfAttribute("incident.starting_checkin")
    title = SelfAttribute("incident.issue.title")
    failure_reason = LazyAttribute(lambda row: evidence.failure_reason([FailureKind(row.checkin.status)]))
    subtitle = LazyAttribute(lambda row: evidence.subtitle(row.failure_reason))
    environment = SelfAttribute("incident.monitor_environment.environment.name")
    detected_at = SelfAttribute("checkin.received_at")
    occurred_at = SelfAttribute("checkin.date_added")
    run_checkin_guids = LazyAttribute(lambda row: [row.checkin.guid])
    explanation = LazyAttribute(
        lambda row: evidence.explain(
            kind=FailureKind(row.checkin.status),
            reason=Reason.THRESHOLD_REACHED,
            rules=row.incident.monitor_environment.monitor.rules(),
            state=state_of(row.incident.monitor_environment),
            started_at=row.checkin.date_added,
            expected_time=row.checkin.expected_time,
            deadline=None,
            tick=row.checkin.received_at if row.checkin.source == "clock" else None,
            received_at=row.checkin.received_at,
        )
    )


class StormFactory(DjangoModelFactory[Storm]):
    """Many openings by one tick, told to the channel together."""

    class Meta:
        model = Storm

    cause = "tick"
    tick = NOW
    project = SubFactory(ProjectFactory)
    channel = SubFactory("tests.factories.ChannelFactory", project=SelfAttribute("..project"))
    recipient = LazyAttribute(lambda row: str(row.channel.guid))
    created_at = NOW


class FlappingFactory(DjangoModelFactory[Flapping]):
    """An environment that flaps, with its incident."""

    class Meta:
        model = Flapping

    monitor_environment = SelfAttribute("incident.monitor_environment")
    incident = SubFactory(IncidentFactory, resolved=True)
    started_at = NOW
    change_count = 6
    run_count = 7
    opening_count = 4


class NotificationFactory(DjangoModelFactory[Notification]):
    class Meta:
        model = Notification

    incident = SubFactory(IncidentFactory)
    transition = "opened"
    channel = "email"
    created_at = NOW


class MessageFactory(DjangoModelFactory[Message]):
    """A mail about the opening of an incident that is due. `status="sent"` is one that was sent at NOW."""

    class Meta:
        model = Message

    incident = SubFactory(IncidentFactory)
    kind = "opened"
    recipient = "oncall@example.com"
    idempotency_key = Sequence(lambda n: uuid.uuid5(uuid.NAMESPACE_URL, f"watchclock:test:message:{n}"))
    created_at = NOW
    due_at = SelfAttribute("created_at")
    finished_at = LazyAttribute(lambda row: None if row.status == "waiting" else NOW)
    status = "waiting"


class ChannelFactory(DjangoModelFactory[Channel]):
    """A channel of a project that sends to a web address; nothing is sent unless delivery runs."""

    class Meta:
        model = Channel

    project = SubFactory(ProjectFactory)
    kind = "slack"
    name = Sequence(lambda n: f"channel {n}")
    created_at = NOW
    changed_at = NOW


class PersonalChannelFactory(ChannelFactory):
    """The channel of a member, who has an address."""

    class Meta:
        model = Channel

    member = SubFactory(MembershipFactory, user__email=LazyAttribute(lambda user: f"{user.username}@example.com"))
    project = SelfAttribute("member.project")
    kind = "email"
    is_personal = True
    name = LazyAttribute(lambda channel: f"@{channel.member.user}")


class UnsubscriptionFactory(DjangoModelFactory[Unsubscription]):
    class Meta:
        model = Unsubscription

    channel = SubFactory(ChannelFactory, kind="email")
    address = "oncall@example.com"
    unsubscribed_at = NOW


class WeeklyReportFactory(DjangoModelFactory[WeeklyReport]):
    """Mondays at 8 in UTC, to `ops@example.com`."""

    class Meta:
        model = WeeklyReport

    project = SubFactory(ProjectFactory)
    channel = SubFactory(
        ChannelFactory, project=SelfAttribute("..project"), kind="email", values={"to": "ops@example.com"}
    )
    changed_at = NOW


class RouteFactory(DjangoModelFactory[Route]):
    """A route that catches everything; `to` are its channels."""

    class Meta:
        model = Route
        skip_postgeneration_save = True

    project = SubFactory(ProjectFactory)
    name = Sequence(lambda n: f"route {n}")
    position = Sequence(lambda n: n)
    changed_at = NOW

    @post_generation
    def to(self, create: bool, channels: Iterable[Channel] | None, **_: object) -> None:
        """Name its channels."""
        if create and channels:
            self.channels.add(*channels)


class DutyFactory(DjangoModelFactory[Duty]):
    class Meta:
        model = Duty

    notification = SubFactory(NotificationFactory)
    incident = SelfAttribute("notification.incident")
    message = SubFactory(MessageFactory, incident=SelfAttribute("..incident"))
    recipient = SelfAttribute("message.recipient")
    reason = "no route catches it: ALERT_EMAIL_TO"
    created_at = NOW


class FollowUpFactory(DjangoModelFactory[FollowUp]):
    """A reminder that is due at NOW."""

    class Meta:
        model = FollowUp

    incident = SubFactory(IncidentFactory)
    kind = "reminder"
    route = "everything"
    plan = LazyAttribute(lambda _: {"hours": 4, "recipients": [["ops@example.com", None]]})
    due_at = NOW


class CommentFactory(DjangoModelFactory[Comment]):
    class Meta:
        model = Comment

    issue = SubFactory(IssueFactory)
    author_name = "anna"
    text = "The disk is full."
    created_at = NOW


class TickFactory(DjangoModelFactory[Tick]):
    class Meta:
        model = Tick

    at = Sequence(lambda n: NOW + timedelta(minutes=n))
    dispatched_at = SelfAttribute("at")
    decided_at = SelfAttribute("dispatched_at")
    finished_at = SelfAttribute("at")


class HeldTickFactory(DjangoModelFactory[HeldTick]):
    class Meta:
        model = HeldTick

    at = Sequence(lambda n: NOW + timedelta(minutes=n))
    noticed_at = LazyAttribute(lambda row: row.at + timedelta(seconds=6))
    reason = "ingest node web-1 pid 12 has stored its check-ins up to 09:59:58"


class ListeningSpanFactory(DjangoModelFactory[ListeningSpan]):
    """Somebody who has listened all the time, unless told otherwise."""

    class Meta:
        model = ListeningSpan

    node_id = uuid.UUID(int=4711)
    since = datetime(1970, 1, 1, tzinfo=UTC)
    until = datetime(2200, 1, 1, tzinfo=UTC)


class LostSpanFactory(DjangoModelFactory[LostSpan]):
    class Meta:
        model = LostSpan

    node_id = uuid.UUID(int=4711)
    since = NOW
    until = NOW


class MinuteVolumeFactory(DjangoModelFactory[MinuteVolume]):
    class Meta:
        model = MinuteVolume

    node_id = uuid.UUID(int=4711)
    minute = Sequence(lambda n: NOW + timedelta(minutes=n))
    count = 1


class ClockIncidentFactory(DjangoModelFactory[ClockIncident]):
    """A summarised outage; with `ended_at=None` one that goes on."""

    class Meta:
        model = ClockIncident

    cause = "deaf"
    started_at = Sequence(lambda n: NOW + timedelta(hours=n))
    ended_at = LazyAttribute(lambda row: row.started_at + timedelta(minutes=5))
    summarised_at = SelfAttribute("ended_at")
    unknown_count = LazyAttribute(lambda row: None if row.summarised_at is None else 7)
    environment_count = LazyAttribute(lambda row: None if row.summarised_at is None else 3)


class IngestNodeFactory(DjangoModelFactory[IngestNode]):
    """A process that was heard of at NOW. Its `state`: live, silent (for a minute), dropped or left."""

    class Meta:
        model = IngestNode

    class Params:
        state = "live"

    id = Sequence(lambda n: uuid.UUID(int=n + 1))
    host = "web-1"
    pid = Sequence(lambda n: 100 + n)
    started_at = NOW - timedelta(hours=1)
    seen_at = NOW
    watermark = SelfAttribute("seen_at")
    silent_since = LazyAttribute(lambda row: NOW if row.state in ("silent", "dropped") else None)
    silence_seen_at = LazyAttribute(lambda row: row.silent_since and row.silent_since + timedelta(minutes=1))
    dropped_at = LazyAttribute(lambda row: row.silence_seen_at if row.state == "dropped" else None)
    left_at = LazyAttribute(lambda row: NOW if row.state == "left" else None)


class ShardClockFactory(DjangoModelFactory[ShardClock]):
    class Meta:
        model = ShardClock
        django_get_or_create = ("shard", "kind")

    shard = 0
    kind = "missed"
    position = NOW


class AppliedTickFactory(DjangoModelFactory[AppliedTick]):
    class Meta:
        model = AppliedTick

    shard = 0
    kind = "missed"
    tick = Sequence(lambda n: NOW + timedelta(minutes=n))
    marked_count = 3


class ShareLinkFactory(DjangoModelFactory[ShareLink]):
    """A status page of a whole project, at an address that nobody can guess."""

    class Meta:
        model = ShareLink

    project = SubFactory(ProjectFactory)
    kind = "status"
    address = Sequence(lambda n: f"{n:032x}")
    title = "Jobs"
    created_at = NOW


class SavedViewFactory(DjangoModelFactory[SavedView]):
    """A view of the wall that is shared with a project; of a person alone with `user`, and no project."""

    class Meta:
        model = SavedView

    project = SubFactory(ProjectFactory)
    name = Sequence(lambda n: f"view {n}")
    query = "state=failing"
    created_at = NOW
