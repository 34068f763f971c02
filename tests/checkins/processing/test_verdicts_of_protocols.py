"""What a check-in means, told through the ways in that name no run: a ping, our REST API, a plain request of Sentry's.

D21 (what serves a slot), D22 (what begins a run), D23 (disabled), D24 (to the second), D25 and D39 (the limit).
Of what a check-in configures: D28 and D40.
"""

import json
from datetime import timedelta

import pytest

from checkins.editing import set_monitors_status
from checkins.models import CheckIn, ProcessingError
from checkins.processing.batch import take
from checkins.protocols.request import IngestRequest
from monitors.crontab import parse_crontab
from monitors.models import Monitor, MonitorEnvironment
from monitors.state import MonitorStatus
from tests.factories import NOW, IngestKeyFactory, MonitorFactory

pytestmark = pytest.mark.django_db

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def ping(key, monitor, status, at):
    path = f"/ping/{monitor.guid}" + {"in_progress": "/start", "ok": "", "error": "/fail"}[status]
    return IngestRequest(method="GET", path=path, query="", headers={}, body=b"", body_bytes=0, received_at=at)


def rest(key, monitor, status, at):
    body = json.dumps({"monitor": monitor.slug, "status": status}).encode()
    headers = {"authorization": f"Bearer {key.public_key}", "content-type": "application/json"}
    return IngestRequest(
        method="POST",
        path="/api/v1/checkins",
        query="",
        headers=headers,
        body=body,
        body_bytes=len(body),
        received_at=at,
    )


def sentry(key, monitor, status, at):
    path = f"/api/{key.project_id}/cron/{monitor.slug}/{key.public_key}/"
    return IngestRequest(
        method="GET", path=path, query=f"status={status}", headers={}, body=b"", body_bytes=0, received_at=at
    )


class Job:
    """A job every ten minutes with a maximum runtime of half an hour; calling it sends one word."""

    def __init__(self, say):
        self.say, self.key = say, IngestKeyFactory()
        self.monitor = MonitorFactory(project=self.key.project, slug="job", crontab="*/10 * * * *", checkin_margin=2)

    def __call__(self, status, after):
        take([self.say(self.key, self.monitor, status, NOW + after)], now=NOW + after)


@pytest.fixture(params=[ping, rest, sentry], ids=lambda request: request.__name__)
def job(request):
    return Job(request.param)


def runs():
    return [(c.status, c.date_added - NOW) for c in CheckIn.objects.order_by("date_added")]


def row():
    return MonitorEnvironment.objects.get()


def test_d22_each_start_after_a_slot_begins_a_run_and_those_between_are_heartbeats(job):
    for minutes in (0, 4, 10, 20):
        job("in_progress", minutes * MINUTE + SECOND)
    assert runs() == [("in_progress", minutes * MINUTE + SECOND) for minutes in (0, 10, 20)]
    first = CheckIn.objects.earliest("date_added")
    assert first.timeout_at == NOW + 34 * MINUTE + SECOND


def test_d22_a_last_word_belongs_to_the_newest_running_run(job):
    for status, after in [
        ("in_progress", SECOND),
        ("in_progress", 10 * MINUTE),
        ("ok", 11 * MINUTE),
        ("error", 12 * MINUTE),
    ]:
        job(status, after)
    assert runs() == [("error", SECOND), ("ok", 10 * MINUTE)]


def test_d21_the_end_of_an_earlier_run_serves_no_slot(job):
    job("in_progress", SECOND)
    job("ok", 10 * MINUTE + SECOND)
    assert row().pending_slot == NOW + 10 * MINUTE


def test_d23_the_end_of_a_run_of_a_disabled_monitor_is_stored_and_not_counted(job):
    job("in_progress", SECOND)
    set_monitors_status([job.monitor.id], MonitorStatus.DISABLED, now=NOW + MINUTE)
    job("error", 2 * MINUTE)
    assert runs() == [("error", SECOND)]
    assert (row().status, row().failure_streak, ProcessingError.objects.count()) == ("active", 0, 0)


@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_d23_a_disabled_monitor_takes_nothing_of_a_run_that_it_does_not_know(job, status):
    job("ok", SECOND)
    set_monitors_status([job.monitor.id], MonitorStatus.DISABLED, now=NOW + MINUTE)
    job(status, 2 * MINUTE)
    assert runs() == [("ok", SECOND)]
    assert ProcessingError.objects.get().kind == "MONITOR_DISABLED"


@pytest.mark.parametrize(("seconds", "status"), [(1799, "ok"), (1800, "in_progress")])
def test_d24_a_run_is_allowed_its_maximum_runtime_to_the_second(job, seconds, status):
    job("in_progress", 50 * SECOND)
    job("ok", (50 + seconds) * SECOND)
    assert CheckIn.objects.earliest("date_added").status == status


def test_d25_the_end_of_a_run_is_taken_above_the_limit(job):
    for second in range(8):
        job("in_progress", second * SECOND)
    job("ok", 9 * SECOND)
    assert runs() == [("ok", timedelta(0))]
    assert ProcessingError.objects.get().kind == "MONITOR_ENVIRONMENT_RATELIMITED"


def test_d39_an_error_far_above_the_limit_still_fails_the_environment(job):
    job("ok", timedelta(0))
    MonitorEnvironment.objects.update(limit_minute=NOW, limit_count=60)
    job("error", SECOND)
    job("error", 2 * SECOND)
    assert (row().status, row().failure_streak) == ("error", 2)
    assert [run.folded_count for run in CheckIn.objects.filter(status="error")] == [1]


# --- configurations, over the ways in that can carry one --------------------------------------------------------------


def rest_config(key, slug, config):
    body = json.dumps({"monitor": slug, "status": "ok", "monitor_config": config}).encode()
    return "/api/v1/checkins", {"authorization": f"Bearer {key.public_key}", "content-type": "application/json"}, body


def plain_config(key, slug, config):
    body = json.dumps({"status": "ok", "monitor_config": config}).encode()
    return f"/api/{key.project_id}/cron/{slug}/{key.public_key}/", {"content-type": "application/json"}, body


def envelope_config(key, slug, config):
    item = json.dumps(
        {"check_in_id": "0" * 32, "monitor_slug": slug, "status": "ok", "monitor_config": config}
    ).encode()
    header = json.dumps({"type": "check_in", "length": len(item)}).encode()
    auth = {"x-sentry-auth": f"Sentry sentry_key={key.public_key}, sentry_version=7"}
    return f"/api/{key.project_id}/envelope/", auth, b"{}\n" + header + b"\n" + item


@pytest.fixture(params=[rest_config, plain_config, envelope_config], ids=lambda request: request.__name__)
def write(request):
    """How to write a check-in with a configuration: address, headers and body."""
    return request.param


def configure(write, key, config):
    path, headers, body = write(key, "job", config)
    sent = IngestRequest(
        method="POST", path=path, query="", headers=headers, body=body, body_bytes=len(body), received_at=NOW
    )
    take([sent], now=NOW)


@pytest.mark.parametrize(
    ("schedule", "crontab", "timezone"),
    [
        ({"type": "crontab", "value": "0 22 * * 1-5 America/Chicago"}, "0 22 * * 1-5", "America/Chicago"),
        ({"type": "crontab", "value": "CRON_TZ=Asia/Tokyo 0 5 * * fri-mon"}, "0 5 * * fri-mon", "Asia/Tokyo"),
        ({"type": "crontab", "value": "@midnight", "timezone": "Europe/Vienna"}, "@midnight", "Europe/Vienna"),
    ],
)
def test_d28_a_zone_is_taken_wherever_it_plainly_stands(write, schedule, crontab, timezone):
    configure(write, IngestKeyFactory(), {"schedule": schedule, "checkin_margin": 5.0, "max_runtime": "60"})

    monitor = Monitor.objects.get()
    assert (monitor.timezone, monitor.checkin_margin, monitor.max_runtime) == (timezone, 5, 60)
    assert parse_crontab(monitor.crontab) == parse_crontab(crontab)
    assert not ProcessingError.objects.exists()


def test_d40_a_locked_monitor_refuses_a_configuration_and_takes_the_check_in(write):
    key = IngestKeyFactory()
    monitor = MonitorFactory(project=key.project, slug="job", crontab="*/10 * * * *", is_config_locked=True)

    configure(write, key, {"schedule": {"type": "crontab", "value": "0 0 1 1 *"}, "failure_threshold": 700})

    monitor.refresh_from_db()
    assert (monitor.crontab, monitor.failure_threshold) == ("*/10 * * * *", 1)
    assert [run.status for run in CheckIn.objects.all()] == ["ok"]
    assert ProcessingError.objects.get().kind == "MONITOR_CONFIG_LOCKED"
