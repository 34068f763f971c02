"""The main job with real processes and real clients: what should have checked in and did not is found, and seen.

One Watchclock lives through the whole module, under `make run`'s supervisor, with its own PostgreSQL, Valkey, web
process, Celery worker and Celery beat. Its clock runs sixty times as fast as the wall clock. Its jobs are Python
processes with sentry-sdk, which know nothing but the DSN. Everything happens at once, so tests wait for their own job.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from django.conf import settings

from incidents.notifications.letters import why
from tests.e2e.browser import chromium, running_browser
from tests.e2e.pages import AdminReader, Page
from tests.e2e.watchclock import (
    VIRTUAL_START,
    Watchclock,
    own_environment,
    running_watchclock,
)
from tests.waiting import PATIENCE_SECONDS, wait_until

# One worker runs them all and starts the shared instance once.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("main_job")]

DAILY = {"schedule": {"type": "interval", "value": 1, "unit": "day"}}
EVERY_FIVE_MINUTES = {
    "schedule": {"type": "crontab", "value": "*/5 * * * *"},
    "timezone": "Europe/Vienna",
    "checkin_margin": 1,
}
# The job checks in about every two minutes. Its margin is for a loaded machine: it is 15 s long outside.
EVERY_THREE_MINUTES = {"schedule": {"type": "interval", "value": 3, "unit": "minute"}, "checkin_margin": 15}
STOP_SECONDS_MAX = 60
"""It takes ten at most where nobody else uses the machine."""
MINUTE = timedelta(minutes=1)

CHECKINS = """
    SELECT checkin.*, coalesce(received_at, date_added) AS received_at FROM checkins_checkin AS checkin
      JOIN monitors_monitorenvironment AS live ON live.id = monitor_environment_id
      JOIN monitors_monitor AS monitor ON monitor.id = live.monitor_id
     WHERE slug = %(slug)s ORDER BY date_added
"""
ENVIRONMENTS = """
    SELECT live.*, monitor.schedule_type, crontab, interval, interval_unit
      FROM monitors_monitorenvironment AS live JOIN monitors_monitor AS monitor ON monitor.id = monitor_id
     WHERE slug = %(slug)s AND (%(status)s::text IS NULL OR live.status = %(status)s)
"""
INCIDENTS = """
    SELECT incident.* FROM incidents_incident AS incident
      JOIN monitors_monitorenvironment AS live ON live.id = monitor_environment_id
      JOIN monitors_monitor AS monitor ON monitor.id = monitor_id WHERE slug = %(slug)s ORDER BY incident.id
"""
ISSUES = "SELECT * FROM incidents_issue WHERE monitor_environment_id = %(environment)s"
OCCURRENCES = "SELECT * FROM incidents_occurrence WHERE incident_id = %(incident)s ORDER BY id"
ALARMED = """
    SELECT DISTINCT slug FROM incidents_incident
      JOIN monitors_monitorenvironment AS live ON live.id = monitor_environment_id
      JOIN monitors_monitor AS monitor ON monitor.id = monitor_id
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> Iterator[Watchclock]:
    with running_watchclock(tmp_path_factory.mktemp("main-job")) as watchclock:
        yield watchclock


@pytest.fixture(scope="module")
def watchclock(started) -> Watchclock:
    """A Watchclock that takes check-ins and ticks."""
    wait_until_it_lives(started)
    return started


def wait_until_it_lives(watchclock: Watchclock) -> None:
    watchclock.wait_until(
        lambda: watchclock.check_in("hello", status="ok", monitor_config=DAILY) == 202, "a check-in is accepted"
    )
    watchclock.wait_for_rows("the clock ticks", "SELECT FROM clocktasks_tick WHERE finished_at IS NOT NULL")


@pytest.fixture(scope="module")
def jobs(watchclock) -> dict[str, Any]:
    """All jobs with the SDK, started at once."""
    dsn = watchclock.instance()["dsn"]
    broker = {"SENTRY_DSN": dsn, "BROKER_URL": settings.REDIS_URL, "KEY_PREFIX": f"shop-{watchclock.process.pid}:"}
    celery = ("-m", "celery", "-A", "celery_app")
    started = {
        "celery-worker": watchclock.start(
            "celery-worker", *celery, "worker", "--concurrency", "1", "--without-mingle", "--loglevel", "INFO", **broker
        ),
        "silent": watchclock.report("sync-calendar", EVERY_FIVE_MINUTES, "ok"),
        "raising": watchclock.start("send-invoices", "functions.py", dsn, "send_invoices"),
        "hanging": watchclock.start("rebuild-index", "functions.py", dsn, "rebuild_index"),
        "heartbeat": watchclock.start("heartbeat", "heartbeat.py", dsn, "heartbeat", json.dumps(EVERY_THREE_MINUTES)),
        "decorated": watchclock.start("back-up", "functions.py", dsn, "back_up"),
        "captured": watchclock.report("export-orders", DAILY, "in_progress", "ok"),
    }
    # A task that waits for a worker which is still starting would count as running, and time out.
    watchclock.wait_until(lambda: " ready." in started["celery-worker"].said(), "the jobs' Celery worker is ready")
    schedule = watchclock.home.parent / "celery-beat-schedule"
    started["celery-beat"] = watchclock.start(
        "celery-beat", *celery, "beat", "--schedule", str(schedule), "--pidfile=", "--loglevel", "INFO", **broker
    )
    return started


@pytest.fixture(scope="module")
def admin(watchclock) -> AdminReader:
    """A person's session in the admin, logged in with what `make run` printed."""
    instance = watchclock.instance()
    reader = AdminReader(instance["admin_url"])
    reader.log_in(instance["admin_user"], instance["admin_password"])
    return reader


# --- Check-ins that go well -------------------------------------------------------------------------------------------


def test_a_new_instance_takes_check_ins_and_lives_in_the_virtual_time_of_all_its_processes(watchclock):
    (checkin, *_) = watchclock.rows(CHECKINS, slug="hello")
    assert VIRTUAL_START < checkin["received_at"] < VIRTUAL_START + timedelta(days=1)  # the web process
    (tick,) = watchclock.rows("SELECT min(at) AS first, max(finished_at) AS finished FROM clocktasks_tick")
    assert VIRTUAL_START < tick["first"] < tick["finished"] < VIRTUAL_START + timedelta(days=1)  # beat and worker


def test_the_curl_line_that_make_run_prints_checks_in_and_makes_its_monitor(watchclock):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    watchclock.wait_until(lambda: "Ctrl-C stops it." in watchclock.said(), "the supervisor greets")
    said = watchclock.said()
    printed = said[said.index("curl ") : said.index("Ctrl-C")].strip()

    pasted = subprocess.run(
        ["sh", "-c", f"{printed} --silent --show-error --fail --max-time 60"],
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert pasted.returncode == 0, pasted.stderr
    (checkin, *_) = watchclock.rows(CHECKINS, slug="my-first-job")
    assert (checkin["status"], checkin["source"]) == ("ok", "sentry_http")
    (environment,) = watchclock.rows(ENVIRONMENTS, slug="my-first-job", status=None)
    assert environment["crontab"] == "*/5 * * * *"


@pytest.mark.parametrize("slug", ["export-orders", "back-up"], ids=["capture_checkin", "monitor decorator"])
def test_a_run_reported_by_the_sdk_is_one_check_in_that_ends_ok(watchclock, jobs, slug):
    (environment,) = watchclock.wait_for_rows(f"{slug} is ok", ENVIRONMENTS, slug=slug, status="ok")

    (checkin,) = watchclock.rows(CHECKINS, slug=slug)
    assert (checkin["status"], checkin["source"]) == ("ok", "sentry_envelope")
    assert checkin["date_in_progress"] is not None
    assert checkin["duration_ms"] is not None
    assert (environment["interval"], environment["interval_unit"]) == (1, "day")


@pytest.mark.parametrize(
    ("slug", "schedule"),
    [
        ("nightly-report", {"schedule_type": "crontab", "crontab": "0 4 * * *"}),
        ("daily-cleanup", {"schedule_type": "interval", "interval": 1, "interval_unit": "day"}),
    ],
    ids=["crontab", "interval"],
)
def test_celery_beat_and_worker_report_one_run_of_a_scheduled_task_between_them(watchclock, jobs, slug, schedule):
    (environment,) = watchclock.wait_for_rows(f"{slug} is ok", ENVIRONMENTS, slug=slug, status="ok")

    (checkin,) = watchclock.rows(CHECKINS, slug=slug)
    assert checkin["status"] == "ok"
    assert checkin["date_in_progress"] is not None  # from beat
    assert checkin["duration_ms"] is not None  # from the worker
    assert schedule.items() <= environment.items()


def test_a_healthy_job_is_never_accused_and_the_sdk_sends_nothing_that_is_not_understood(watchclock, jobs):
    def long_observed() -> bool:
        heard = [checkin["received_at"] for checkin in watchclock.rows(CHECKINS, slug="heartbeat")]
        (clock,) = watchclock.rows("SELECT min(position) AS position FROM clocktasks_shardclock")
        # Three slots of its own, each of which the clock has passed.
        return len(heard) > 3 and clock["position"] - heard[0] > 10 * MINUTE

    watchclock.wait_until(long_observed, "the heartbeat was heard and watched for ten minutes")

    assert {checkin["status"] for checkin in watchclock.rows(CHECKINS, slug="heartbeat")} == {"ok"}
    assert {row["slug"] for row in watchclock.rows(ALARMED)} <= {*(job.slug for job in FAILING), "my-first-job"}
    assert watchclock.rows("SELECT kind, message, payload FROM checkins_processingerror") == []


def test_the_clock_leaves_no_minute_out(watchclock, jobs):
    def ledger() -> dict[str, Any]:
        (row,) = watchclock.rows("SELECT count(*) AS ticks, min(at) AS first, max(at) AS last FROM clocktasks_tick")
        return row

    watchclock.wait_until(lambda: ledger()["ticks"] > 5, "there are five ticks")

    assert (seen := ledger())["ticks"] == (seen["last"] - seen["first"]) / MINUTE + 1


# --- Jobs that fail, from the wire to the admin -----------------------------------------------------------------------


class FailingJob:
    """What is known beforehand about a job that fails."""

    def __init__(self, slug: str, kind: str, check: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
        self.slug, self.kind, self.check = slug, kind, check
        self.failure_reason = {
            "error": "The job reported an error",
            "missed": "No check-in came in time",
            "timeout": "The job did not finish in time",
        }[kind]
        self.title = f"Job failing: {slug}"


def was_missed_at_the_slot_after_its_check_in(explanation: dict[str, Any], environment: dict[str, Any]) -> None:
    heard = environment["last_checkin"]
    slot = heard.replace(minute=heard.minute - heard.minute % 5, second=0, microsecond=0) + 5 * MINUTE
    assert at(explanation["expected_at"]) == slot
    assert explanation["expected_at_local"] == (slot + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S+01:00")
    assert at(explanation["deadline_at"]) == at(explanation["tick"]) == slot + MINUTE
    assert at(explanation["last_ok_at"]) == heard
    assert explanation["schedule"] == "Every 5 minutes (Europe/Vienna)"


def ran_longer_than_it_may(explanation: dict[str, Any], environment: dict[str, Any]) -> None:
    started = environment["last_checkin"]
    assert at(explanation["started_at"]) == started
    deadline = at(explanation["deadline_at"])
    assert started < deadline <= started + MINUTE
    # Never before. A check-in that a busy machine stores late may meet the tick after it.
    assert deadline <= at(explanation["tick"])
    assert explanation["max_runtime_minutes"] == 1


def said_so_itself(explanation: dict[str, Any], environment: dict[str, Any]) -> None:
    assert at(explanation["received_at"]) == environment["failure_streak_started_at"]
    assert explanation["tick"] is None  # No clock was needed.


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


FAILING = (
    FailingJob("sync-calendar", "missed", was_missed_at_the_slot_after_its_check_in),
    FailingJob("rebuild-index", "timeout", ran_longer_than_it_may),
    FailingJob("send-invoices", "error", said_so_itself),
)


@pytest.mark.parametrize(
    "job", FAILING, ids=["a silent job is missed", "a hanging job times out", "a raising job fails at once"]
)
def test_a_failing_job_opens_an_incident_and_an_issue_that_people_see_and_an_ok_resolves(watchclock, jobs, admin, job):
    (environment,) = watchclock.wait_for_rows(f"{job.slug} fails", ENVIRONMENTS, slug=job.slug, status="error")

    (incident,) = watchclock.rows(INCIDENTS, slug=job.slug)
    assert incident["resolved_at"] is None
    (issue,) = watchclock.rows(ISSUES, environment=environment["id"])
    assert (issue["id"], issue["title"], issue["status"]) == (incident["issue_id"], job.title, "unresolved")
    occurrence, *_ = watchclock.rows(OCCURRENCES, incident=incident["id"])
    assert occurrence["checkin_id"] == incident["starting_checkin_id"]
    assert occurrence["failure_reason"] == job.failure_reason
    assert occurrence["subtitle"] == f"{job.failure_reason}."
    assert occurrence["environment"] == "production"
    explanation = occurrence["explanation"]
    assert (explanation["kind"], explanation["reason"]) == (job.kind, "threshold_reached")
    job.check(explanation, environment)

    read_failure(admin, job, occurrence)

    recovery = watchclock.report(job.slug, DAILY, "ok")
    watchclock.wait_for_rows(f"{job.slug} recovers", ENVIRONMENTS, slug=job.slug, status="ok")
    assert recovery.process.wait(PATIENCE_SECONDS) == 0, recovery.said()

    (incident,) = watchclock.rows(INCIDENTS, slug=job.slug)
    checkins = watchclock.rows(CHECKINS, slug=job.slug)
    assert incident["resolving_checkin_id"] == checkins[-1]["id"]
    (issue,) = watchclock.rows(ISSUES, environment=environment["id"])
    assert (issue["status"], issue["resolved_by"]) == ("resolved", "recovery")
    failed = [checkin for checkin in checkins if checkin["failed_at"] is not None]
    occurrences = watchclock.rows(OCCURRENCES, incident=incident["id"])
    assert [row["checkin_id"] for row in occurrences] == [row["id"] for row in failed]
    assert issue["occurrence_count"] == len(failed)

    read_recovery(admin, job)


def read_failure(admin: AdminReader, job: FailingJob, recorded: dict[str, Any]) -> None:
    """Go the way of a person who wants to know what is wrong: list, monitor, incident, issue, occurrence."""
    monitors = admin.get(f"monitors/monitor/?q={job.slug}")
    assert f"{job.slug} failing" in monitors.text
    monitor = admin.follow(monitors, job.slug, under="/admin/monitors/monitor/")
    assert "Open incidents" in monitor.text
    incident = admin.follow(monitor, "open", under="/admin/incidents/incident/")
    assert "State open" in incident.text
    issue = admin.follow(incident, job.title, under="/admin/incidents/issue/")
    assert "Status unresolved" in issue.text
    for page in (incident, issue):
        assert job.title in page.text
        assert why(recorded["explanation"]) in page.text
        assert page.address_of(job.slug, under="/admin/monitors/monitor/") in monitor.url
    # A silent job goes on being missed meanwhile: the page may show newer ones above it.
    sentence = why(recorded["explanation"])
    occurrence = admin.follow(issue, sentence, under=f"/admin/incidents/occurrence/{recorded['id']}/")
    assert sentence in occurrence.text
    assert f"What happened {job.kind}" in occurrence.text
    explanation = recorded["explanation"]
    assert explanation["schedule"] in occurrence.text
    if explanation["expected_at"]:
        expected = f"{at(explanation['expected_at']) + timedelta(hours=1):%Y-%m-%d %H:%M} Europe/Vienna"
        assert f"Expected {expected}" in occurrence.text
        assert expected in incident.text
        assert expected in issue.text
    assert_links_to_a_check_in(admin, occurrence, job)


def assert_links_to_a_check_in(admin: AdminReader, page: Page, job: FailingJob) -> None:
    (address,) = {url for _, url in page.links if url.startswith("/admin/checkins/checkin/") and "change" in url}
    checkin = admin.get(address)
    assert job.slug in checkin.text
    assert job.kind in checkin.text


def read_recovery(admin: AdminReader, job: FailingJob) -> None:
    monitor = admin.follow(admin.get(f"monitors/monitor/?q={job.slug}"), job.slug, under="/admin/monitors/monitor/")
    assert not [url for _, url in monitor.links if "/incidents/incident/" in url and "/change/" in url]
    issue = admin.follow(admin.get(f"incidents/issue/?q={job.slug}"), job.title, under="/admin/incidents/issue/")
    assert "Status resolved" in issue.text
    assert "Resolved by recovery" in issue.text
    incident = admin.follow(issue, "resolved", under="/admin/incidents/incident/")
    assert "State resolved" in incident.text


SCROLLED_SIDEWAYS = """
    [...document.querySelectorAll("*")]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
        .map(e => `${e.tagName} ${e.scrollWidth} > ${e.clientWidth}`)
"""


def test_a_browser_draws_the_admin_without_complaint(watchclock, jobs, tmp_path):
    program = chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    watchclock.wait_for_rows("a job has failed", INCIDENTS, slug="send-invoices")
    instance = watchclock.instance()
    with running_browser(program, tmp_path / "profile", own_environment()) as browser:
        browser.open(instance["admin_url"])
        browser.evaluate(f"document.querySelector('[name=login]').value = {json.dumps(instance['admin_user'])}")
        browser.evaluate(f"document.querySelector('[name=password]').value = {json.dumps(instance['admin_password'])}")
        browser.leave_by("document.querySelector('[name=password]').form.submit()")
        assert browser.evaluate("location.pathname") == "/admin/"

        browser.call("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
        browser.call("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
        browser.open(instance["admin_url"])  # From now on the reader's zone is known.
        for path, words in {
            "monitors/monitor/": "send-invoices",
            "incidents/incident/": "send-invoices",
            "incidents/issue/": "Job failing: send-invoices",
        }.items():
            browser.open(instance["admin_url"] + path)
            assert words in browser.text()
            assert browser.evaluate(SCROLLED_SIDEWAYS) == [], "it does not fit 1440 pixels"
            assert browser.screenshot(tmp_path / "page.png").startswith(b"\x89PNG")
        browser.leave_by("[...document.links].find(a => a.innerText.includes('Job failing: send-invoices')).click()")

        assert "Fingerprint" in browser.text()
        assert "Reported an error at" in browser.text()
        assert browser.complaints == []


# --- The end ----------------------------------------------------------------------------------------------------------


def test_sigterm_ends_every_process_in_a_bounded_time(tmp_path):
    with running_watchclock(tmp_path) as watchclock:
        wait_until_it_lives(watchclock)
        pids = watchclock.instance()["pids"]
        processes = watchclock.processes()
        programs = {"nursery", "web", "worker", "worker-2", "delivery", "beat"}
        assert pids.keys() == {"supervisor", "postgres", "valkey", *programs}
        assert set(pids.values()) < {process.pid for process in processes}  # The web has children of its own.
        groups = {os.getpgid(process.pid) for process in processes}

        asked_at = time.monotonic()
        watchclock.process.send_signal(signal.SIGTERM)

        assert watchclock.process.wait(PATIENCE_SECONDS) == 0, watchclock.said()
        wait_until(lambda: still_alive(groups) == [], "all have ended")
        assert time.monotonic() - asked_at < STOP_SECONDS_MAX
        assert watchclock.instance()["pids"] == {}


def still_alive(groups: set[int]) -> list[psutil.Process]:
    """The processes of these groups. What has ended and was not yet collected by its parent is not among them."""
    alive = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive
