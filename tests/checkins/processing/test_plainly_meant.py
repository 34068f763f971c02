"""What is plainly meant is taken, what is ignored is told once (D28); long names (D27) and empty parts (D33)."""

import json

import pytest

from checkins.messages import CheckInMessage, Source
from checkins.models import CheckIn, ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.retry import settle_parked
from checkins.protocols.fields import parse_checkin
from checkins.protocols.routes import find_route
from monitors.models import Monitor
from monitors.slugs import cut_slug, slugify
from tests.factories import NOW, MonitorFactory, ProjectFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db

LONG = "letter-send-not-signed-or-declined-reminder-notifications-0700"
OTHER = "letter-send-not-signed-or-declined-reminder-notifications-0800"
HOURLY = {"type": "crontab", "value": "0 * * * *"}


def send(project, name="job", config=None, *, status="ok", source=Source.SENTRY_ENVELOPE, **fields):
    payload = {"monitor_slug": name, "status": status, **fields}
    if config is not None:
        payload["monitor_config"] = config
    message = parse_checkin(payload, project_id=project.pk, received_at=NOW, source=source)
    [outcome] = receive([message], now=NOW)
    return outcome


def told(outcome):
    return [problem.message for problem in outcome.problems]


def test_d28_a_field_that_is_ignored_is_told_once_with_what_is_meant():
    project = ProjectFactory()
    config = {"schedule": {**HOURLY, "colour": "red"}, "check_in_margin": 5}
    first = told(send(project, config=config))
    assert first == [
        "monitor_config.check_in_margin 5 was left out: it is not known, checkin_margin is.",
        "monitor_config.schedule.colour 'red' was left out: it is not known, these are: type, value, unit, timezone.",
    ]
    assert told(send(project, config=config)) == []
    assert len(told(send(project, config={**config, "max_runtime": 7}))) == 2
    assert ProcessingError.objects.filter(kind="MONITOR_INVALID_CONFIG").exists()


def test_d28_a_zone_further_out_is_told_to_be_ignored():
    config = {"schedule": {**HOURLY, "timezone": "Europe/Berlin"}, "timezone": "America/New_York"}
    outcome = send(ProjectFactory(), config=config)
    assert told(outcome) == [
        "monitor_config.timezone 'America/New_York' was left out: the schedule names Europe/Berlin."
    ]
    assert Monitor.objects.get().timezone == "Europe/Berlin"


def test_d28_a_bad_zone_in_the_schedule_is_dropped_and_the_rest_taken():
    outcome = send(ProjectFactory(), config={"schedule": {**HOURLY, "timezone": "Mars/Olympus"}})
    assert "monitor_config.schedule.timezone 'Mars/Olympus' was left out" in told(outcome)[0]
    assert Monitor.objects.get().timezone == "UTC"


@pytest.mark.parametrize("exit_status", [0, 255, 32767, 32768, 256, -1, 3221225786, -(1 << 62)])
def test_d28_an_exit_status_is_kept_as_it_was(exit_status):
    monitor = MonitorFactory()
    receive([make_message("in_progress", monitor=monitor, run=1)], now=NOW)
    receive([make_message("error", monitor=monitor, run=1, exit_status=exit_status)], now=NOW)
    receive([make_message("error", monitor=monitor, run=1, duration_ms=5)], now=NOW)
    run = CheckIn.objects.get()
    assert (run.exit_status if run.wide_exit_status is None else run.wide_exit_status) == exit_status


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("//api/42/envelope/", "/api/42/envelope/"),
        ("/sentry//api/42/envelope/", "/sentry/api/42/envelope/"),
        ("/api//v1/checkins", "/api/v1/checkins"),
        ("/api/42//cron/job/0123456789abcdef0123456789abcdef/", "/api/42/cron/job/0123456789abcdef0123456789abcdef/"),
        ("/p//key/job", "/p/key/job"),
        ("//ping//key//backup-db", "/ping/key/backup-db"),
        ("/ping/5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a//start", "/ping/5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a/start"),
    ],
)
def test_d28_a_doubled_slash_is_one_in_every_protocol(path, protocol):
    assert find_route(path) == find_route(protocol) is not None


def test_a_name_without_a_letter_that_can_be_used_says_so():
    [message] = told(send(ProjectFactory(), "日次バックアップ"))
    assert "at least one letter of the Latin alphabet or digit; other letters are left out" in message


# --- Long names (D27) -------------------------------------------------------------------------------------------------


def test_d27_two_long_names_are_two_monitors():
    project = ProjectFactory()
    for name in (LONG, OTHER):
        send(project, name, {"schedule": HOURLY})
    assert sorted(Monitor.objects.values_list("slug", flat=True)) == sorted([slugify(LONG), slugify(OTHER)])
    assert all(slugify(slug) == slug and len(slug) == 50 for slug in Monitor.objects.values_list("slug", flat=True))


def test_d27_a_monitor_that_exists_goes_on_being_found_by_its_old_slug():
    """Made before this rule, when both names were one monitor: the name that made it keeps it."""
    old = MonitorFactory(slug=cut_slug(LONG), name=LONG)
    assert send(old.project, LONG).accepted
    assert send(old.project, LONG, {"schedule": HOURLY}).accepted
    assert CheckIn.objects.filter(monitor_environment__monitor=old).count() == 2
    assert send(old.project, OTHER, {"schedule": HOURLY}).created
    assert send(old.project, OTHER).accepted
    assert CheckIn.objects.filter(monitor_environment__monitor=old).count() == 2


def test_d27_an_old_monitor_that_a_person_named_is_found_too():
    old = MonitorFactory(slug=cut_slug(LONG), name="Reminders at seven")
    assert send(old.project, LONG).accepted
    assert CheckIn.objects.get().monitor_environment.monitor == old


# --- Empty parts (D33) ------------------------------------------------------------------------------------------------


def test_d33_an_empty_configuration_is_no_configuration():
    outcome = send(ProjectFactory(), config={})
    assert outcome.parked
    assert outcome.problems == []


def test_d33_a_check_in_that_lost_a_bad_part_is_parked_like_any_other():
    project = ProjectFactory()
    outcome = send(project, config={"schedule": "daily"}, duration="soon", check_in_id="1" * 32)
    assert outcome.parked
    assert [problem.field for problem in outcome.problems] == ["duration", "monitor_config.schedule"]
    assert ProcessingError.objects.count() == 2
    send(project, config={"schedule": HOURLY}, check_in_id="2" * 32)
    settle_parked(now=NOW)
    assert not WaitingCheckIn.objects.exists()
    assert CheckIn.objects.count() == 2
    assert sum(ProcessingError.objects.values_list("count", flat=True)) == 2


def test_the_configuration_of_a_message_can_be_parked_with_what_was_ignored():
    payload = {"monitor_slug": "job", "status": "ok", "monitor_config": {"schedule": HOURLY, "x": 1}}
    message = parse_checkin(payload, project_id=1, received_at=NOW, source=Source.REST)
    assert isinstance(message, CheckInMessage)
    assert message.config is not None
    assert [problem.field for problem in message.config_ignored] == ["monitor_config.x"]
    assert json.dumps(payload)
