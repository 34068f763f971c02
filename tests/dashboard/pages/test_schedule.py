"""The schedule of a monitor: learned from its check-ins when a person says so, or typed."""

from datetime import timedelta

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from dashboard.pages.schedule.learned import load_learned
from lib.wallclock import utcnow
from monitors.models import Monitor
from monitors.schedule import LEARNING_CRONTAB
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def learner(monitor):
    """A monitor of the project that learns its schedule."""
    return factories.MonitorFactory(project=monitor.project, name="Backup", slug="backup", crontab=LEARNING_CRONTAB)


@pytest.fixture
def reported(learner):
    """Let the job of the learner report so many times, every five minutes, each run taking a minute."""

    def report(count):
        environment = factories.MonitorEnvironmentFactory(monitor=learner, last_ok_at=factories.NOW)
        for number in range(count):
            at = factories.NOW.replace(minute=0, second=7, microsecond=0) + number * 5 * MINUTE
            factories.CheckInFactory(monitor_environment=environment, date_added=at, duration_ms=60_000)
        return environment

    return report


@pytest.fixture
def address(learner):
    return reverse("monitor", args=[learner.project.slug, learner.slug])


@pytest.fixture
def schedule(learner):
    return reverse("edit-schedule", args=[learner.project.slug, learner.slug])


def test_a_new_monitor_may_learn_its_schedule(as_role, monitor):
    numbers = {"checkin_margin": "5", "max_runtime": "30", "failure_threshold": "1", "recovery_threshold": "1"}
    typed = {"project": monitor.project_id, "name": "Backup", "schedule_type": "learn", "timezone": "Europe/Vienna"}
    page = as_role("editor").post("/new/", typed | numbers, follow=True)
    made = Monitor.objects.get(slug="backup")
    assert (made.schedule().is_learning, made.timezone) == (True, "Europe/Vienna")
    assert "Learning: no schedule yet" in words(page)
    assert "Not enough yet: 0 of 5 check-ins." in words(page)
    assert "Next times" not in words(page)


def test_while_it_is_chosen_the_form_says_what_happens(as_role):
    page = words(as_role("viewer").get("/new/schedule", {"schedule_type": "learn", "timezone": "UTC"}))
    assert "Learning: no schedule yet Nothing is expected, so nothing is missed" in page
    assert "After 5 or more check-ins" in page


def test_few_check_ins_are_not_enough_yet(as_role, reported, address):
    environment = reported(3)
    factories.CheckInFactory(monitor_environment=environment, status="missed", date_added=factories.NOW + 90 * MINUTE)
    assert "Not enough yet: 3 of 5 check-ins." in words(as_role("viewer").get(address))


def test_five_check_ins_give_a_proposal_with_its_evidence_which_is_not_applied_by_itself(
    as_role, reported, address, learner
):
    reported(6)
    page = words(as_role("viewer").get(address))
    assert "Every 5 minutes (UTC)" in page
    assert "6 check-ins served 6 of 6 times." in page
    assert "They cover less than a day" in page
    assert "Editors of the project can use it." in page
    assert "Use it" not in page
    learner.refresh_from_db()
    assert learner.schedule().is_learning


def test_an_editor_uses_it_and_the_audit_log_says_so(as_role, reported, address, schedule, learner):
    reported(6)
    client = as_role("editor")
    shown = client.get(address)
    assert "Use it" in words(shown)
    page = client.post(schedule, shown.context["learned"].fields | {"seen": learner.config_id}, follow=True)
    assert "The schedule is now: Every 5 minutes (UTC)." in words(page)
    learner.refresh_from_db()
    assert (learner.crontab, learner.checkin_margin, learner.max_runtime) == ("*/5 * * * *", 1, 5)
    entry = AuditEntry.objects.get(kind="monitor", object_id=learner.pk, action="changed")
    assert entry.source == "page"
    log = words(client.get(reverse("audit-log", args=[learner.project.slug])))
    assert "not known yet: it is learned" in log
    assert LEARNING_CRONTAB not in log


def test_to_change_it_the_form_opens_with_it(as_role, reported, schedule):
    reported(6)
    client = as_role("editor")
    query = client.get(schedule).context["learned"].query
    form = client.get(f"{schedule}?{query}").context["form"]
    assert (form["schedule_type"].value(), form["crontab"].value()) == ("crontab", "*/5 * * * *")
    assert form["checkin_margin"].value() == "1"


def test_the_form_changes_the_schedule_of_any_monitor_and_back_to_learning(as_role, monitor):
    schedule = reverse("edit-schedule", args=[monitor.project.slug, monitor.slug])
    client = as_role("editor")
    typed = {"schedule_type": "interval", "interval": "2", "interval_unit": "hour", "timezone": "Europe/Vienna"}
    numbers = {"checkin_margin": "7", "max_runtime": "30"}
    client.post(schedule, typed | numbers | {"seen": monitor.config_id})
    monitor.refresh_from_db()
    assert (monitor.interval, monitor.interval_unit, monitor.crontab, monitor.checkin_margin) == (2, "hour", None, 7)
    typed = {"schedule_type": "learn", "timezone": "Europe/Vienna"}
    client.post(schedule, typed | numbers | {"seen": monitor.config_id})
    monitor.refresh_from_db()
    assert monitor.schedule().is_learning
    assert client.get(schedule).context["form"]["schedule_type"].value() == "learn"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"crontab": "61 * * * *"}, "crontab"),
        ({"crontab": LEARNING_CRONTAB}, "crontab"),
        ({"schedule_type": "learn", "timezone": "Mars/Olympus"}, "timezone"),
        ({"checkin_margin": "0"}, "checkin_margin"),
        ({"seen": ""}, "seen"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field(as_role, learner, schedule, changes, field):
    typed = {"schedule_type": "crontab", "crontab": "0 * * * *", "checkin_margin": "5", "max_runtime": "5"}
    response = as_role("editor").post(schedule, typed | {"seen": learner.config_id} | changes)
    assert (response.status_code, field in response.context["form"].errors) == (422, True)
    learner.refresh_from_db()
    assert learner.schedule().is_learning


def test_settings_that_somebody_changed_meanwhile_are_shown_before_they_are_replaced(
    as_role, learner, schedule, monitor
):
    typed = {"schedule_type": "crontab", "crontab": "0 * * * *", "checkin_margin": "5", "max_runtime": "5"}
    client = as_role("editor")
    refused = client.post(schedule, typed | {"seen": monitor.config_id})
    assert "Somebody changed the settings meanwhile. They are now: Learning: no schedule yet." in words(refused)
    client.post(schedule, typed | {"seen": refused.context["form"]["seen"].value()})
    learner.refresh_from_db()
    assert learner.crontab == "0 * * * *"


def test_a_copy_learns_too_and_a_run_says_that_its_schedule_was_not_known(as_role, reported, learner):
    environment = reported(1)
    client = as_role("editor")
    assert client.get("/new/", {"copy": learner.pk}).context["form"]["schedule_type"].value() == "learn"
    run = environment.checkins.get()
    page = words(client.get(reverse("run", args=[learner.project.slug, learner.slug, run.pk])))
    assert "not known yet: it is learned" in page


def test_all_check_ins_are_read_with_one_statement(reported, learner, django_assert_num_queries):
    environment = reported(12)
    with django_assert_num_queries(1):
        learned = load_learned(learner, environment, now=utcnow(), language="de")
    assert (learned.text, learned.count) == ("Alle 5 Minuten (UTC)", 12)
