"""The page of a monitor, and that of a run."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse

from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(monitor):
    return reverse("monitor", args=[monitor.project.slug, monitor.slug])


@pytest.fixture
def act(monitor):
    return reverse("act-on-monitor", args=[monitor.project.slug, monitor.slug])


def test_it_says_its_state_its_schedule_and_who_would_be_notified(as_role, address):
    page = words(as_role("viewer").get(address))
    assert "Reported an error at 10:00 UTC." in page
    assert "Every 5 minutes (UTC)" in page
    assert "any failure: nobody" in page


def test_older_runs_are_found_page_by_page(as_role, monitor, environment, address, monkeypatch):
    monkeypatch.setattr("dashboard.pages.monitor.views.RUNS_SHOWN", 2)
    monkeypatch.setattr("dashboard.pages.monitor.facts.RUNS_SHOWN", 2)
    at = [factories.NOW + timedelta(hours=number) for number in (1, 1, 2, 2, 3)]
    for moment in at:
        factories.CheckInFactory(monitor_environment=environment, status="ok", date_added=moment)
    client, seen, query = as_role("viewer"), [], ""
    while True:
        context = client.get(address + query).context
        seen += [run.checkin.pk for run in context["runs"]]
        if not context["older"]:
            break
        query = f"?before={context['older']}"
    assert seen == list(environment.checkins.order_by("-date_added", "-id").values_list("id", flat=True))
    assert "There are no older runs." in words(client.get(f"{address}?before=999999999"))
    for nothing in ("0", "x", "9" * 30):
        assert len(client.get(f"{address}?before={nothing}").context["runs"]) == 2


def test_an_environment_beyond_those_that_are_listed_has_its_page(as_role, monitor, environment, address, monkeypatch):
    monkeypatch.setattr("dashboard.pages.monitor.facts.ENVIRONMENTS_SHOWN", 1)
    other = factories.MonitorEnvironmentFactory(monitor=monitor, environment__name="zz")
    context = as_role("viewer").get(f"{address}?env=zz").context
    assert context["environment"] == other
    assert as_role("viewer").get(f"{address}?env=nothing").status_code == 404


def test_a_monitor_that_never_checked_in_says_so(as_role, monitor):
    new = factories.MonitorFactory(project=monitor.project)
    page = words(as_role("viewer").get(reverse("monitor", args=[new.project.slug, new.slug])))
    assert "No check-in has been received yet." in page


@pytest.mark.parametrize(("role", "is_seen"), [("responder", False), ("editor", True)])
def test_the_ping_address_is_for_editors(as_role, monitor, address, role, is_seen):
    assert (str(monitor.guid) in words(as_role(role).get(address))) == is_seen


@pytest.mark.parametrize(("role", "is_seen"), [("editor", False), ("owner", True)])
def test_the_key_of_the_project_is_for_owners(as_role, monitor, address, role, is_seen):
    key = factories.IngestKeyFactory(project=monitor.project)
    assert (key.public_key in words(as_role(role).get(address))) == is_seen


def test_an_environment_is_chosen_by_the_address(as_role, monitor, address):
    factories.MonitorEnvironmentFactory(
        monitor=monitor, environment__project=monitor.project, environment__name="a & b", status="active"
    )
    client = as_role("viewer")
    assert "No run has ended yet." in words(client.get(address, {"env": "a & b"}))
    assert client.get(address, {"env": "elsewhere"}).status_code == 404


def test_muting_one_environment_and_the_way_back(as_role, environment, act):
    client = as_role("responder")
    assert "is muted: nobody is notified." in words(
        client.post(act, {"do": "mute", "environment": environment.pk}, follow=True)
    )
    environment.refresh_from_db()
    assert environment.is_muted
    client.post(act, {"do": "unmute", "environment": environment.pk})
    environment.refresh_from_db()
    assert not environment.is_muted


def test_the_environment_of_another_monitor_is_not_muted(as_role, monitor, act):
    other = factories.MonitorEnvironmentFactory(monitor__project=monitor.project)
    page = words(as_role("responder").post(act, {"do": "mute", "environment": other.pk}, follow=True))
    other.refresh_from_db()
    assert not other.is_muted
    assert "There is no such environment." in page


def test_a_number_that_no_row_has_is_answered(as_role, act):
    page = words(as_role("responder").post(act, {"do": "mute", "environment": "9" * 5_000}, follow=True))
    assert "There is no such environment." in page


@pytest.mark.parametrize(("choice", "hours"), [("1h", 1), ("7d", 168)])
def test_a_snooze_lasts_as_long_as_was_chosen(as_role, monitor, act, choice, hours):
    as_role("responder").post(act, {"do": "snooze", "for": choice})
    monitor.refresh_from_db()
    assert abs(monitor.snoozed_until - utcnow() - timedelta(hours=hours)) < timedelta(minutes=1)


def test_a_snooze_of_a_length_that_there_is_not_is_refused(as_role, monitor, act):
    page = words(as_role("responder").post(act, {"do": "snooze", "for": "9y"}, follow=True))
    monitor.refresh_from_db()
    assert monitor.snoozed_until is None
    assert "'9y' is no length of a snooze; choose one of: 1h, 4h, 1d, 7d, morning." in page


def test_a_run_shows_what_it_printed_and_its_settings(as_role, incident, monitor):
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=b"<b>failed</b> at 3\x00")
    address = reverse("run", args=[monitor.project.slug, monitor.slug, incident.starting_checkin_id])
    response = as_role("viewer").get(address)
    assert "&lt;b&gt;failed&lt;/b&gt; at 3\ufffd" in response.content.decode()
    assert "max_runtime" in words(response)


def test_a_run_of_another_monitor_is_not_there(as_role, incident, monitor):
    other = factories.MonitorFactory(project=monitor.project)
    address = reverse("run", args=[monitor.project.slug, other.slug, incident.starting_checkin_id])
    assert as_role("viewer").get(address).status_code == 404


def test_the_number_of_statements_does_not_grow_with_the_runs(
    as_role, environment, address, django_assert_max_num_queries
):
    client = as_role("editor")
    for _ in range(20):
        factories.CheckInFactory(monitor_environment=environment, status="ok")
    with django_assert_max_num_queries(22):
        client.get(address)


def test_an_acknowledgement_that_has_run_out_counts_no_longer(as_role, incident, address):
    incident.acknowledged_at, incident.acknowledged_by = incident.opened_at, "ann"
    incident.save()
    assert as_role("viewer").get(address).context["is_acknowledged"]
    incident.acknowledged_until = utcnow()
    incident.save()
    assert not as_role("viewer").get(address).context["is_acknowledged"]


def test_how_long_runs_take_is_shown_with_a_chart(as_role, environment, address):
    factories.RecentRunsFactory(monitor_environment=environment, durations_ms=[1_000, 2_000, 61_000])
    page = as_role("viewer").get(address)
    assert "Median 2.0 s p95 1 min 1 s" in words(page)
    assert 'data-role="durations"' in page.content.decode()


def test_the_strip_is_zoomed_from_an_hour_to_90_days(as_role, monitor, environment):
    client, at = as_role("viewer"), utcnow()
    factories.RunHourFactory(
        monitor_environment=environment, hour=(at - timedelta(days=40)).replace(minute=0, second=0, microsecond=0), ok=3
    )
    address = reverse("monitor", args=[monitor.project.slug, monitor.slug])
    assert "3 ok" not in client.get(address).content.decode()
    page = client.get(address, {"range": "90d"}).content.decode()
    assert 'aria-label="last 90 days: 3 ok"' in page
    assert re.search('data-cells="[0-9]+ 86400 ,+h3,+"', page)
    assert "range=1h#strip" in page
