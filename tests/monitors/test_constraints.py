"""The database says no: every named constraint fires for a row that just breaks it. Hot queries use their indexes."""

import json
from datetime import UTC, datetime, time, timedelta

import psycopg
import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction

from checkins.models import CheckIn, RunningCheckIn
from checkins.partitions import DEFAULT, existing_partitions, guid_index, is_guid_index
from checkins.processing.rows import OVERDUE_ENVIRONMENTS_SQL, overdue_environments
from incidents.models import Incident, MailOutage
from monitors.models import FormerRules, Housekeeping, MonitorEnvironment, ShardLayout
from tests import factories
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
OURS = ["audit", "monitors", "accounts", "incidents", "checkins", "clocktasks", "dashboard"]


def changed(factory, valid=None, **broken):
    """A valid row, of which one thing is then made wrong."""

    def violate():
        row = factory(**(valid or {}))
        type(row).objects.filter(pk=row.pk).update(**broken)

    return violate


def doubled(factory, *columns, **more):
    """Two valid rows that agree in the columns named."""

    def violate():
        first = factory(**more)
        factory(**{column: getattr(first, column) for column in columns}, **more)

    return violate


def second_digest():
    storm = factories.StormFactory()
    for _ in range(2):
        factories.MessageFactory(incident=None, storm=storm, kind="digest")


def second_open_incident():
    incident = factories.IncidentFactory()
    Incident.objects.create(
        monitor_environment=incident.monitor_environment,
        starting_checkin=incident.starting_checkin,
        started_at=NOW,
        opened_at=NOW,
    )


def another_occurrence_with_its_number():
    first = factories.OccurrenceFactory()
    row = first.incident.monitor_environment
    other = factories.CheckInFactory(monitor_environment=row, status="error")
    factories.OccurrenceFactory(incident=first.incident, number=first.number, checkin=other)


def environment(**broken):
    return changed(factories.MonitorEnvironmentFactory, **broken)


def check_in(status, **broken):
    return changed(factories.CheckInFactory, {"status": status}, **broken)


def twice_until_one_instant():
    monitor = factories.MonitorFactory()
    for _ in range(2):
        FormerRules.objects.create(monitor=monitor, until=NOW, config=monitor.config)


def window(valid=None, **broken):
    return changed(factories.MaintenanceWindowFactory, valid, **broken)


def window_of_a_monitor_and_a_tag():
    factories.MaintenanceWindowFactory(monitor=factories.MonitorFactory(), tag="a")


def depends_on_itself():
    monitor = factories.MonitorFactory()
    factories.DependencyFactory(downstream=monitor, upstream=monitor)


def share_link_of_both():
    link = factories.ShareLinkFactory()
    type(link).objects.filter(pk=link.pk).update(monitor=factories.MonitorFactory(project=link.project), tags=["shop"])


def second_channel_of_a_member():
    first = factories.PersonalChannelFactory()
    factories.PersonalChannelFactory(member=first.member, name="another")


def second_view_of_a_person():
    user = factories.UserFactory()
    for _ in range(2):
        factories.SavedViewFactory(project=None, user=user, name="night")


RULE = {"crontab": "0 3 * * *"}
INTERVAL = {"interval": 5, "interval_unit": "minute"}
ERROR = {"status": "error"}
VIOLATIONS = [
    ("applied_tick_exactly_once", "the same tick", doubled(factories.AppliedTickFactory, "tick")),
    ("applied_tick_marked_something", "nothing", changed(factories.AppliedTickFactory, marked_count=0)),
    ("deferred_ending_verdict_is_known", "nothing", changed(factories.DeferredEndingFactory, verdict="nothing")),
    ("audit_entry_source_is_known", "email", changed(factories.AuditEntryFactory, source="email")),
    ("invitation_once_per_project_and_address", "twice", doubled(factories.InvitationFactory, "project", "address")),
    ("invitation_role_is_known", "king", changed(factories.InvitationFactory, role="king")),
    ("saved_view_has_a_name", "none", changed(factories.SavedViewFactory, name="")),
    ("saved_view_name_once_in_a_project", "twice", doubled(factories.SavedViewFactory, "project", "name")),
    ("saved_view_name_once_for_a_person", "twice", second_view_of_a_person),
    ("saved_view_of_a_person_or_a_project", "of nobody", changed(factories.SavedViewFactory, project=None)),
    ("share_link_kind_is_known", "a wall", changed(factories.ShareLinkFactory, kind="wall")),
    ("share_link_of_a_monitor_or_of_tags", "both", share_link_of_both),
    ("share_link_public_or_unguessable", "public at random", changed(factories.ShareLinkFactory, is_public=True)),
    ("share_link_public_or_unguessable", "a short one", changed(factories.ShareLinkFactory, address="abc")),
    ("membership_once_per_project_and_user", "twice", doubled(factories.MembershipFactory, "project", "user")),
    (
        "preferences_quiet_hours_have_two_ends_and_a_zone",
        "no zone",
        changed(factories.PreferencesFactory, timezone=""),
    ),
    (
        "preferences_quiet_hours_have_two_ends_and_a_zone",
        "one end",
        changed(factories.PreferencesFactory, quiet_until=None),
    ),
    ("membership_role_is_known", "king", changed(factories.MembershipFactory, role="king")),
    ("attempt_status_is_final", "missed", changed(factories.AttemptFactory, status="missed")),
    ("checkin_counted_only_as_a_failure", "in progress", check_in("in_progress", failed_at=NOW)),
    ("checkin_counted_only_as_a_failure", "unknown", check_in("unknown", failed_at=NOW)),
    ("checkin_deadline_exactly_while_in_progress", "running without", check_in("in_progress", timeout_at=None)),
    ("checkin_deadline_exactly_while_in_progress", "ended with", check_in("ok", timeout_at=NOW)),
    ("checkin_deadline_exactly_while_in_progress", "timed out with", check_in("timeout", timeout_at=NOW)),
    ("checkin_duration_in_range", "negative", check_in("ok", duration_ms=-1)),
    ("checkin_duration_in_range", "too long", check_in("ok", duration_ms=2_147_483_648)),
    (
        guid_index(DEFAULT),
        "the same id on the same day",
        doubled(factories.CheckInFactory, "guid", "monitor_environment"),
    ),
    (
        "checkin_late_finish_only_after_its_deadline",
        "ended in time",
        check_in("ok", finished_status="ok", finished_at=NOW),
    ),
    ("checkin_late_finish_only_after_its_deadline", "when, not how", check_in("timeout", finished_at=NOW)),
    ("checkin_late_finish_only_after_its_deadline", "how, not when", check_in("timeout", finished_status="ok")),
    (
        "checkin_late_finish_only_after_its_deadline",
        "as a miss",
        check_in("timeout", finished_status="missed", finished_at=NOW),
    ),
    ("checkin_log_is_a_part_of_what_was_sent", "more", changed(factories.CheckInLogFactory, size_bytes=14)),
    ("checkin_log_status_is_known", "missed", changed(factories.CheckInLogFactory, status="missed")),
    ("checkin_missed_is_dated_at_its_slot", "no slot", check_in("missed", expected_time=None)),
    ("checkin_missed_is_dated_at_its_slot", "another date", check_in("missed", date_added=NOW + MINUTE)),
    ("checkin_status_is_known", "late", changed(factories.CheckInFactory, status="late")),
    ("environment_name_not_empty", "empty", changed(factories.EnvironmentFactory, name="")),
    (
        "environment_name_unique_in_project",
        "the same name",
        lambda: changed(
            factories.EnvironmentFactory,
            {"project": factories.EnvironmentFactory().project, "name": "b"},
            name="production",
        )(),
    ),
    ("held_tick_noticed_after_it", "before it", changed(factories.HeldTickFactory, noticed_at=NOW - 9999 * MINUTE)),
    ("incident_one_open_per_monitor_environment", "a second", second_open_incident),
    (
        "incident_resolved_exactly_by_a_checkin",
        "open by one",
        changed(factories.IncidentFactory, {"resolved": True}, resolved_at=None),
    ),
    (
        "incident_resolved_exactly_by_a_checkin",
        "resolved by none",
        changed(factories.IncidentFactory, {"resolved": True}, resolving_checkin=None),
    ),
    ("ingest_key_is_32_lower_case_hex_digits", "31", changed(factories.IngestKeyFactory, public_key="a" * 31)),
    ("ingest_key_is_32_lower_case_hex_digits", "upper", changed(factories.IngestKeyFactory, public_key="A" * 32)),
    ("ingest_key_is_32_lower_case_hex_digits", "dash", changed(factories.IngestKeyFactory, public_key="a" * 31 + "-")),
    (
        "ingest_node_counts_from_zero",
        "batch",
        changed(factories.IngestNodeFactory, batch=-1),
    ),
    (
        "ingest_node_counts_from_zero",
        "position",
        changed(factories.IngestNodeFactory, spool_position=-1),
    ),
    (
        "ingest_node_counts_from_zero",
        "spooled",
        changed(factories.IngestNodeFactory, spooled_count=-1),
    ),
    (
        "ingest_node_dropped_only_when_silent",
        "live",
        changed(factories.IngestNodeFactory, dropped_at=NOW),
    ),
    (
        "ingest_node_dropped_only_when_silent",
        "left",
        changed(factories.IngestNodeFactory, {"state": "left"}, dropped_at=NOW),
    ),
    (
        "ingest_node_left_with_an_empty_spool",
        "spooled",
        changed(factories.IngestNodeFactory, {"state": "left"}, spooled_count=1),
    ),
    (
        "ingest_node_left_with_an_empty_spool",
        "silent",
        changed(factories.IngestNodeFactory, {"state": "silent"}, left_at=NOW),
    ),
    (
        "ingest_node_silence_has_begin_and_end",
        "no end",
        changed(factories.IngestNodeFactory, {"state": "silent"}, silence_seen_at=None),
    ),
    (
        "ingest_node_silence_has_begin_and_end",
        "no begin",
        changed(factories.IngestNodeFactory, {"state": "silent"}, silent_since=None),
    ),
    (
        "ingest_node_silence_has_begin_and_end",
        "backwards",
        changed(factories.IngestNodeFactory, {"state": "silent"}, silent_since=NOW + 9 * MINUTE),
    ),
    (
        "ingest_node_watermark_not_in_the_future",
        "a minute",
        changed(factories.IngestNodeFactory, watermark=NOW + MINUTE),
    ),
    (
        "issue_fingerprint_unique_in_project",
        "the same fingerprint",
        doubled(factories.IssueFactory, "monitor_environment", "fingerprint"),
    ),
    ("issue_resolved_exactly_when_dated", "no date", changed(factories.IssueFactory, status="resolved")),
    (
        "issue_resolved_exactly_when_dated",
        "nobody",
        changed(factories.IssueFactory, {"status": "resolved"}, resolved_by=None),
    ),
    (
        "issue_resolved_exactly_when_dated",
        "still dated",
        changed(factories.IssueFactory, {"status": "resolved"}, status="unresolved"),
    ),
    (
        "issue_resolved_exactly_when_dated",
        "archived and dated",
        changed(factories.IssueFactory, {"status": "resolved"}, status="archived"),
    ),
    ("key_use_counts_from_zero", "less", changed(factories.KeyUseFactory, used=-1)),
    (
        "key_use_once_a_period",
        "the same period",
        doubled(factories.KeyUseFactory, "project_id", "key_id", "budget", "since", "stripe"),
    ),
    ("loss_report_counts_at_least_one", "none", changed(factories.ClientLossReportFactory, quantity=0)),
    ("monitor_crontab_xor_interval", "both", changed(factories.MonitorFactory, **INTERVAL)),
    ("monitor_crontab_xor_interval", "neither", changed(factories.MonitorFactory, crontab=None)),
    ("monitor_crontab_xor_interval", "the wrong one", changed(factories.MonitorFactory, schedule_type="interval")),
    ("monitor_crontab_xor_interval", "nought", changed(factories.MonitorFactory, INTERVAL, interval=0)),
    ("monitor_crontab_xor_interval", "no count", changed(factories.MonitorFactory, INTERVAL, interval=None)),
    ("monitor_crontab_xor_interval", "no unit", changed(factories.MonitorFactory, INTERVAL, interval_unit=None)),
    ("monitor_crontab_xor_interval", "no such unit", changed(factories.MonitorFactory, INTERVAL, interval_unit="moon")),
    ("monitor_environment_anchor_complete", "no day", environment(anchor_at=NOW, anchor_day=None)),
    ("monitor_environment_anchor_complete", "no instant", environment(anchor_at=None, anchor_day=5)),
    ("monitor_environment_anchor_complete", "day 0", environment(anchor_at=NOW, anchor_day=0)),
    ("monitor_environment_anchor_complete", "day 32", environment(anchor_at=NOW, anchor_day=32)),
    (
        "monitor_environment_being_deleted_expects_nothing",
        "still expecting",
        environment(status="pending_deletion"),
    ),
    ("former_rules_unique_until", "two edits at one instant", twice_until_one_instant),
    (
        "housekeeping_is_one_row",
        "another",
        lambda: Housekeeping.objects.create(id=2, reached=NOW, looked_at=NOW, apart_for=MINUTE),
    ),
    ("monitor_environment_spans_summed_up", "with an anchor", environment(spans=[], anchor_at=NOW, anchor_day=5)),
    (
        "monitor_environment_spans_summed_up",
        "nothing waits",
        environment(spans=[], pending_slot=None, next_checkin=None, next_checkin_latest=None),
    ),
    ("monitor_environment_expected_times_together", "no deadline", environment(next_checkin_latest=None)),
    ("monitor_environment_expected_times_together", "no pointer", environment(pending_slot=None)),
    ("monitor_environment_expected_times_together", "no next", environment(next_checkin=None)),
    ("monitor_environment_expected_times_together", "next in the past", environment(next_checkin=NOW + 4 * MINUTE)),
    ("monitor_environment_expected_times_together", "no margin", environment(next_checkin_latest=NOW + 5 * MINUTE)),
    ("monitor_environment_one_streak_at_a_time", "both", environment(failure_streak=1, failure_streak_started_at=NOW)),
    (
        "monitor_environment_one_streak_at_a_time",
        "no start",
        changed(factories.MonitorEnvironmentFactory, ERROR, failure_streak_started_at=None),
    ),
    (
        "monitor_environment_one_streak_at_a_time",
        "a start of nothing",
        environment(failure_streak_started_at=NOW),
    ),
    (
        "monitor_environment_served_ahead_of_a_slot",
        "no pointer",
        changed(factories.MonitorEnvironmentFactory, {"status": "active"}, served_ahead=[]),
    ),
    ("monitor_environment_status_is_known", "late", environment(status="late")),
    (
        "monitor_environment_unique",
        "the same pair",
        doubled(factories.MonitorEnvironmentFactory, "monitor", "environment"),
    ),
    ("monitor_margin_in_range", "0", changed(factories.MonitorFactory, checkin_margin=0)),
    ("monitor_margin_in_range", "28 days and a minute", changed(factories.MonitorFactory, checkin_margin=40_321)),
    ("monitor_max_runtime_in_range", "0", changed(factories.MonitorFactory, max_runtime=0)),
    ("monitor_max_runtime_in_range", "7 days and a minute", changed(factories.MonitorFactory, max_runtime=10_081)),
    ("monitor_slug_not_empty", "empty", changed(factories.MonitorFactory, slug="")),
    ("monitor_slug_unique_in_project", "the same slug", doubled(factories.MonitorFactory, "project", "slug")),
    ("monitor_status_is_known", "late", changed(factories.MonitorFactory, status="late")),
    ("monitor_thresholds_in_range", "no failure", changed(factories.MonitorFactory, failure_threshold=0)),
    ("monitor_thresholds_in_range", "721 failures", changed(factories.MonitorFactory, failure_threshold=721)),
    ("monitor_thresholds_in_range", "no ok", changed(factories.MonitorFactory, recovery_threshold=0)),
    ("monitor_thresholds_in_range", "721 oks", changed(factories.MonitorFactory, recovery_threshold=721)),
    (
        "monitor_was_disabled_from_and_to",
        "a beginning without an end",
        changed(factories.MonitorFactory, was_disabled_at=factories.NOW),
    ),
    (
        "notification_once_per_transition_and_channel",
        "the same transition",
        doubled(factories.NotificationFactory, "incident"),
    ),
    ("occurrence_once_per_failed_checkin", "the same check-in", doubled(factories.OccurrenceFactory, "incident")),
    ("occurrence_numbered_once", "the same number", another_occurrence_with_its_number),
    ("processing_error_counts_at_least_one", "none", changed(factories.ProcessingErrorFactory, count=0)),
    (
        "processing_error_once_a_minute_and_kind",
        "the same kind",
        doubled(factories.ProcessingErrorFactory, "project", "slug"),
    ),
    ("shard_clock_kind_is_known", "hourly", changed(factories.ShardClockFactory, kind="hourly")),
    (
        "shard_clock_one_per_shard_and_kind",
        "the same shard",
        lambda: changed(factories.ShardClockFactory, {"shard": factories.ShardClockFactory().shard + 1}, shard=0)(),
    ),
    (
        "waiting_checkin_failed_exactly_with_an_error",
        "parked with an error",
        changed(factories.WaitingCheckInFactory, error="ValueError: 7"),
    ),
    (
        "waiting_checkin_failed_exactly_with_an_error",
        "failed without one",
        changed(factories.WaitingCheckInFactory, reason="failed"),
    ),
    (
        "waiting_checkin_failed_exactly_with_an_error",
        "another reason",
        changed(factories.WaitingCheckInFactory, reason="late"),
    ),
    ("clock_incident_cause_is_known", "tired", changed(factories.ClockIncidentFactory, cause="tired")),
    (
        "clock_incident_ends_after_its_start",
        "at once",
        lambda: changed(factories.ClockIncidentFactory, {"started_at": NOW}, ended_at=NOW)(),
    ),
    (
        "clock_incident_once_per_minute",
        "the same minute",
        lambda: factories.ClockIncidentFactory.create_batch(2, started_at=NOW),
    ),
    (
        "clock_incident_one_at_a_time",
        "two that go on",
        lambda: factories.ClockIncidentFactory.create_batch(2, ended_at=None),
    ),
    (
        "clock_incident_summarised_after_its_end",
        "still going on",
        changed(factories.ClockIncidentFactory, ended_at=None),
    ),
    (
        "clock_incident_summarised_after_its_end",
        "no count",
        changed(factories.ClockIncidentFactory, unknown_count=None),
    ),
    (
        "listening_span_ends_after_its_start",
        "backwards",
        changed(factories.ListeningSpanFactory, {"since": NOW}, until=NOW - MINUTE),
    ),
    (
        "lost_span_ends_after_its_start",
        "backwards",
        changed(factories.LostSpanFactory, until=NOW - MINUTE),
    ),
    ("lost_span_told_once", "the same", doubled(factories.LostSpanFactory, "until")),
    ("minute_volume_counts_at_least_one", "none", changed(factories.MinuteVolumeFactory, count=0)),
    ("minute_volume_once_per_minute_and_node", "the same", doubled(factories.MinuteVolumeFactory, "minute")),
    ("shard_layout_count_in_range", "none", lambda: ShardLayout.objects.create(count=0)),
    ("shard_layout_count_in_range", "too many", lambda: ShardLayout.objects.create(count=1025)),
    ("shard_layout_is_one_row", "another", lambda: ShardLayout.objects.create(id=2, count=16)),
    ("tick_deaf_has_no_volume", "a volume", changed(factories.TickFactory, is_listened=False, volume=0)),
    (
        "tick_deaf_has_no_volume",
        "a deviation",
        changed(factories.TickFactory, is_listened=False, deviation_percent=-100.0),
    ),
    ("tick_decided_exactly_when_final", "no instant", changed(factories.TickFactory, decided_at=None)),
    (
        "tick_decided_exactly_when_final",
        "pending and decided",
        changed(factories.TickFactory, decision="abnormal", finished_at=None),
    ),
    (
        "tick_decided_exactly_when_final",
        "pending and finished",
        changed(factories.TickFactory, decision="recovering", decided_at=None),
    ),
    (
        "message_finished_exactly_when_dated",
        "sent, not when",
        changed(factories.MessageFactory, status="sent", finished_at=None),
    ),
    ("message_finished_exactly_when_dated", "waiting and over", changed(factories.MessageFactory, finished_at=NOW)),
    (
        "message_is_about_an_incident_a_storm_or_the_instance",
        "neither",
        changed(factories.MessageFactory, incident=None),
    ),
    (
        "message_is_about_an_incident_a_storm_or_the_instance",
        "no storm",
        changed(factories.MessageFactory, kind="digest"),
    ),
    ("message_once_per_storm_kind_and_number", "the same again", second_digest),
    ("storm_of_a_tick_names_it", "no tick", changed(factories.StormFactory, tick=None)),
    ("storm_of_a_tick_names_it", "not of a tick", changed(factories.StormFactory, cause="errors")),
    ("channel_of_a_member_is_personal", "ordinary", changed(factories.PersonalChannelFactory, is_personal=False)),
    ("channel_of_a_member_is_personal", "a chat", changed(factories.PersonalChannelFactory, kind="slack")),
    ("channel_one_for_each_member", "two", second_channel_of_a_member),
    ("channel_quiet_hours_have_two_ends", "one", changed(factories.ChannelFactory, quiet_from=time(22))),
    (
        "channel_quiet_hours_have_two_ends",
        "the same",
        changed(factories.ChannelFactory, quiet_from=time(22), quiet_until=time(22)),
    ),
    ("channel_name_unique_in_project", "the same again", doubled(factories.ChannelFactory, "project", "name")),
    ("mail_outage_is_one_row", "another", lambda: MailOutage.objects.create(id=2, began_at=NOW, failed_at=NOW)),
    ("channel_probed_exactly_while_open", "closed", changed(factories.ChannelFactory, probe_at=NOW)),
    ("channel_probed_exactly_while_open", "open", changed(factories.ChannelFactory, open_since=NOW)),
    ("weekly_report_hour_is_of_a_day", "24", changed(factories.WeeklyReportFactory, hour=24)),
    ("weekly_report_weekday_is_known", "7", changed(factories.WeeklyReportFactory, weekday=7)),
    (
        "unsubscription_once_per_channel_address_and_topic",
        "the same again",
        doubled(factories.UnsubscriptionFactory, "channel", "address", "topic"),
    ),
    (
        "route_one_fallback_in_project",
        "two",
        doubled(factories.RouteFactory, "project", is_fallback=True),
    ),
    ("route_name_unique_in_project", "the same again", doubled(factories.RouteFactory, "project", "name")),
    (
        "duty_once_per_notification_recipient_and_number",
        "the same again",
        doubled(factories.DutyFactory, "notification", "recipient", "message"),
    ),
    (
        "follow_up_once_per_incident_kind_and_route",
        "the same again",
        doubled(factories.FollowUpFactory, "incident", "kind", "route"),
    ),
    (
        "incident_acknowledged_exactly_when_dated",
        "by somebody, never",
        changed(factories.IncidentFactory, acknowledged_by="anna"),
    ),
    (
        "message_once_per_recipient_kind_and_number",
        "the same again",
        doubled(factories.MessageFactory, "incident", "recipient", "kind"),
    ),
    ("flapping_once_at_a_time", "the same again", doubled(factories.FlappingFactory, "monitor_environment")),
    ("dependency_once", "the same again", doubled(factories.DependencyFactory, "downstream", "upstream")),
    ("dependency_on_another_monitor", "on itself", depends_on_itself),
    ("monitor_severity_is_known", "bad", changed(factories.MonitorFactory, severity="bad")),
    ("maintenance_window_name_not_empty", "empty", window(name="")),
    ("maintenance_window_ends_after_its_start", "no length", window(ends_at=NOW)),
    ("maintenance_window_of_whole_minutes", "begins within one", window(starts_at=NOW + timedelta(seconds=1))),
    ("maintenance_window_of_whole_minutes", "ends within one", window(ends_at=NOW + timedelta(seconds=61))),
    ("maintenance_window_once_or_by_a_rule", "once without an end", window(ends_at=None)),
    ("maintenance_window_once_or_by_a_rule", "once with a length", window(minutes=5)),
    ("maintenance_window_once_or_by_a_rule", "neither length nor end", window(RULE, minutes=None)),
    ("maintenance_window_once_or_by_a_rule", "length and end", window(RULE, until=time(7, 0))),
    ("maintenance_window_once_or_by_a_rule", "no length", window(RULE, minutes=0)),
    ("maintenance_window_once_or_by_a_rule", "more than a week", window(RULE, minutes=10_081)),
    ("maintenance_window_of_a_monitor_or_a_tag", "both", window_of_a_monitor_and_a_tag),
    (
        "notification_sent_after_it_was_addressed",
        "sent, not addressed",
        changed(factories.NotificationFactory, sent_at=NOW, addressed_at=None),
    ),
    ("tick_covers_a_minute_at_least", "none", changed(factories.TickFactory, at=NOW, covers_from=NOW)),
    ("tick_volume_class_is_known", "loud", changed(factories.TickFactory, volume_class="loud")),
    ("tick_is_a_whole_minute", "a second", changed(factories.TickFactory, at=NOW + timedelta(seconds=1))),
    ("tick_is_a_whole_minute", "a microsecond", changed(factories.TickFactory, at=NOW + timedelta(microseconds=1))),
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "violate"), [pytest.param(name, violate, id=f"{name}: {case}") for name, case, violate in VIOLATIONS]
)
def test_the_constraint_fires(name, violate):
    with pytest.raises(IntegrityError) as caught:
        violate()
    cause = caught.value.__cause__
    assert isinstance(cause, psycopg.Error)
    assert cause.diag.constraint_name == name


@pytest.mark.django_db
def test_what_stands_just_inside_the_limits_is_accepted():
    for limits in (
        {"checkin_margin": 1, "max_runtime": 1, "failure_threshold": 1, "recovery_threshold": 1},
        {"checkin_margin": 40_320, "max_runtime": 10_080, "failure_threshold": 720, "recovery_threshold": 720},
    ):
        factories.MonitorFactory(**limits)
    for duration_ms in (0, 2_147_483_647):
        factories.CheckInFactory(duration_ms=duration_ms)


def test_every_named_constraint_has_a_row_that_breaks_it():
    named = {
        constraint.name
        for app in OURS
        for model in apps.get_app_config(app).get_models()
        for constraint in model._meta.constraints
    }
    assert named | {guid_index(DEFAULT)} == {name for name, _, _ in VIOLATIONS}


@pytest.mark.django_db
@pytest.mark.parametrize("day", [pytest.param(NOW.date(), id="default"), pytest.param(None, id="a day of its own")])
def test_d9_the_database_keeps_an_id_unique_within_a_day_and_not_over_days(day):
    """Over days the batch that holds the environment looks it up: see tests/checkins/test_partitions.py."""
    if day is None:
        day = (existing_partitions() or [])[0].since
    noon = datetime.combine(day, time(12), UTC)
    run = factories.CheckInFactory(date_added=noon)
    same_id = {"guid": run.guid, "monitor_environment": run.monitor_environment}
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        factories.CheckInFactory(**same_id, date_added=noon + timedelta(hours=11))
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert is_guid_index(caught.value.__cause__.diag.constraint_name)
    factories.CheckInFactory(**same_id, date_added=noon + timedelta(days=1))


# --- Plans of the hot queries (P7) ------------------------------------------------------------------------------------

ROWS = 5_000


@pytest.fixture
def many_environments(db):
    """Thousands of environments in 16 shards with a few check-ins each; few are due, few have a running one."""
    first = factories.MonitorEnvironmentFactory(shard=0)
    checkin = factories.CheckInFactory(monitor_environment=first)
    project_id, monitor_id, environment_id = first.monitor.project_id, first.monitor_id, first.environment_id
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO monitors_environment (project_id, name)
            SELECT %s, 'env-' || n FROM generate_series(1, %s) AS n
            """,
            [project_id, ROWS],
        )
        cursor.execute(
            """
            INSERT INTO monitors_monitorenvironment (monitor_id, environment_id, status, is_muted, shard, last_checkin,
                   pending_slot, next_checkin, next_checkin_latest, failure_streak, ok_streak, limit_count, created_at)
            SELECT %(monitor)s, id, 'ok', false, id %% 16, %(now)s, at, at, at + interval '1 minute', 0, 1, 0, %(now)s
              FROM (SELECT id, %(now)s::timestamptz + interval '1 minute' * (id %% 1000) AS at
                      FROM monitors_environment WHERE id <> %(environment)s) AS e
            """,
            {"monitor": monitor_id, "environment": environment_id, "now": NOW},
        )
        cursor.execute(
            """
            INSERT INTO checkins_checkin (guid, project_id, monitor_environment_id, shard, status, source,
                   date_added, date_updated, received_at, timeout_at, config_id, failed_at)
            SELECT gen_random_uuid(), %(project)s, id, shard,
                   CASE WHEN n = 0 AND id / 16 %% 10 = 0 THEN 'in_progress' WHEN n = 1 THEN 'error' ELSE 'ok' END,
                   'sentry_envelope', at, at, at,
                   CASE WHEN n = 0 AND id / 16 %% 10 = 0 THEN at + interval '1 minute' * (id %% 1000) END, %(config)s,
                   CASE WHEN n = 1 THEN at END
              FROM (SELECT *, %(now)s::timestamptz - interval '1 minute' * n AS at
                      FROM monitors_monitorenvironment, generate_series(0, 4) AS n) AS rows
            """,
            {"project": project_id, "config": checkin.config_id, "now": NOW},
        )
        cursor.execute("ANALYZE")
    return first


def plan_of(sql, parameters=()):
    """The names of the indexes that a statement uses, and the tables that it reads from end to end."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        [[answer]] = cursor.fetchall()
    plan = answer if isinstance(answer, list) else json.loads(answer)
    indexes, scanned, nodes = set(), set(), [plan[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Index Name" in node:
            indexes.add(node["Index Name"])
        if node["Node Type"] == "Seq Scan":
            scanned.add(node["Relation Name"])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname, parent.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
            " JOIN pg_class parent ON parent.oid = inhparent WHERE child.relkind = 'i'"
        )
        parents = dict(cursor.fetchall())
        # The coming days are empty, and the planner knows: to read them from end to end is the quickest.
        empty = set()
        for name in scanned:
            cursor.execute(f"SELECT EXISTS (SELECT FROM {name})")  # noqa: S608
            if cursor.fetchone() == (False,):
                empty.add(name)
    return {parents.get(name, name) for name in indexes}, scanned - empty


def plan_of_queryset(queryset):
    return plan_of(*queryset.query.sql_with_params())


def test_p7_what_is_due_in_a_shard_is_found_by_its_index(many_environments):
    rows = MonitorEnvironment.objects.in_shard(3).due_at(NOW + 5 * MINUTE).order_by("id").values_list("id", flat=True)
    assert len(rows) > 0
    assert plan_of_queryset(rows) == ({"monenv_due"}, set())


def test_p7_deadlines_that_have_passed_are_found_by_their_index(many_environments):
    assert len(overdue_environments(2, NOW + 20 * MINUTE)) > 0
    assert plan_of(OVERDUE_ENVIRONMENTS_SQL, [2, NOW + 20 * MINUTE]) == ({"checkin_deadline"}, set())


def test_p7_the_earliest_deadlines_of_the_shards_cost_no_table(many_environments):
    from clocktasks.ledger import write_ticks
    from clocktasks.shards import SHARD_STATES_SQL

    write_ticks(NOW, now=NOW)
    indexes, scanned = plan_of(SHARD_STATES_SQL, {"shard": None})
    assert {"monenv_due", "checkin_deadline"} <= indexes
    assert scanned <= {"clocktasks_shardclock"}


def test_p7_the_newest_running_check_in_of_an_environment_is_found_by_an_index(many_environments):
    rows = RunningCheckIn.objects.filter(monitor_environment=many_environments).order_by("-date_added")[:1]
    assert plan_of_queryset(rows) == ({"checkin_running"}, set())


def test_p7_the_failures_of_an_environment_are_found_by_their_index(many_environments):
    rows = CheckIn.objects.filter(monitor_environment=many_environments, failed_at__isnull=False).order_by("-failed_at")
    indexes, scanned = plan_of_queryset(rows[:2])
    assert (indexes <= {"checkin_failures", "checkin_history"}, len(indexes), scanned) == (True, 1, set())


def test_p7_a_check_in_is_found_by_its_id(many_environments):
    guid = CheckIn.objects.values_list("guid", flat=True)[0]
    rows = CheckIn.objects.filter(project_id=many_environments.monitor.project_id, guid=guid)
    indexes, scanned = plan_of_queryset(rows)
    assert ({name for name in indexes if not is_guid_index(name)}, scanned) == (set(), set())
    assert guid_index(DEFAULT) in indexes


def test_p7_the_hot_row_has_no_index_but_those_that_it_needs():
    """An update is HOT as long as it changes no indexed column: what every check-in changes must not be indexed."""
    indexed = {
        column
        for index in MonitorEnvironment._meta.indexes
        for column in [*index.fields, *([] if index.condition is None else ["next_checkin_latest"])]
    } | {field.name for field in MonitorEnvironment._meta.get_fields() if getattr(field, "db_index", False)}
    assert not indexed & {"status", "last_checkin", "failure_streak", "ok_streak", "next_checkin", "limit_count"}


@pytest.mark.django_db(transaction=True)
def test_p7_an_update_that_changes_no_expected_time_is_hot():
    with connection.cursor() as cursor:
        cursor.execute("VACUUM monitors_monitorenvironment")  # Rows of other tests take no room in the pages.
    ids = [factories.MonitorEnvironmentFactory().id for _ in range(5)]
    before = hot_updates()
    for count in range(1, 4):
        MonitorEnvironment.objects.filter(id__in=ids).update(limit_count=count, last_checkin=NOW + count * MINUTE)
    updated, hot = (after - earlier for after, earlier in zip(hot_updates(), before, strict=True))
    assert (updated, hot) == (15, 15)


def hot_updates():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'monitors_monitorenvironment'"
        )
        return cursor.fetchone()
