"""Short ways of a person in a real browser: into a run, through an incident, to another schedule."""

from datetime import timedelta

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from tests import factories
from tests.dashboard.browser.conftest import problems_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]


@pytest.fixture
def address(monitor):
    return reverse("monitor", args=[monitor.project.slug, monitor.slug])


def test_a_run_is_opened_from_its_monitor_and_shows_the_end_of_what_it_printed(new_context, incident, monitor, address):
    body, size = b"file 8 copied\nno space left on device\n", 4_000
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=body, size_bytes=size)
    page = new_context("viewer", timezone_id="Europe/Vienna").new_page()
    page.goto(address)
    runs = page.get_by_role("region", name="Runs", exact=True)
    runs.get_by_role("row").filter(has_text="error").get_by_role("link").click()
    printed = page.get_by_role("region", name="What it printed")
    expect(printed).to_contain_text(f"error · the last {len(body)} of 4000 bytes")
    expect(printed.locator("pre")).to_have_text(body.decode())
    expect(page.get_by_role("region", name="Run", exact=True)).to_contain_text("1.5 seconds")
    page.get_by_role("link", name=monitor.name).click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_an_incident_is_commented_and_assigned_and_leads_to_an_earlier_one(new_context, incident):
    environment, issue = incident.monitor_environment, incident.issue
    environment.incidents.update(
        resolved_at=incident.started_at + timedelta(minutes=30),
        resolving_checkin=factories.CheckInFactory(monitor_environment=environment).pk,
        acknowledged_at=incident.started_at,
        acknowledged_by="berta",
    )
    newest = factories.IncidentFactory(
        monitor_environment=environment, issue=issue, started_at=incident.started_at + timedelta(days=7)
    )
    factories.MembershipFactory(project=environment.monitor.project, user__username="berta", role="responder")
    page = new_context("responder").new_page()
    page.goto(reverse("incident", args=[newest.pk]))
    page.get_by_label("Comment").fill("The disk is full.\nI delete old dumps.")
    page.get_by_role("button", name="Comment").click()
    happened = page.get_by_role("region", name="What happened")
    expect(happened.get_by_role("listitem").filter(has_text="comment")).to_contain_text("I delete old dumps.")
    expect(page.get_by_label("Comment")).to_have_value("")
    page.get_by_label("Assigned to").select_option("berta")
    page.get_by_role("button", name="Assign").click()
    expect(happened.get_by_role("listitem").filter(has_text="assigned")).to_contain_text("berta")
    expect(page.get_by_label("Assigned to").locator("option:checked")).to_have_text("berta")
    assert (problems_of(page), page.evaluate("violations")) == ([], [])

    like_it = page.get_by_role("region", name="Earlier incidents").get_by_role("listitem")
    expect(like_it).to_contain_text("· berta")
    like_it.get_by_role("link").click()
    page.wait_for_url(f"**{reverse('incident', args=[incident.pk])}")
    expect(page.locator("h1")).to_contain_text("resolved")


def test_a_schedule_is_changed_with_a_preview_while_typing_and_the_monitor_is_expected_by_it(
    new_context, monitor, address, time
):
    page = new_context("editor", timezone_id="Europe/Vienna").new_page()
    page.goto(address)
    page.get_by_role("link", name="Change it, or see what the check-ins suggest").click()
    preview = page.get_by_role("complementary", name="Next times")
    expect(preview).to_contain_text("Every 5 minutes (UTC)")
    page.get_by_label("Crontab").fill("0 25 * * *")
    expect(preview).to_contain_text("the field for the hour holds '25'")
    expect(preview.get_by_role("listitem")).to_have_count(0)
    page.get_by_label("Crontab").fill("30 14 * * 2")
    expect(preview).to_contain_text("At 14:30, only on Tuesday (UTC)")
    page.get_by_label("Time zone").fill("America/New_York")
    expect(preview).to_contain_text("At 14:30, only on Tuesday (America/New_York)")
    first = preview.get_by_role("listitem").first.locator("time").first.inner_text()
    assert "20:30" in first, "the reader's clock shows it"
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The schedule is now: At 14:30, only on Tuesday (America/New_York).").wait_for()
    expect(page.get_by_role("region", name="Schedule")).to_contain_text(f"Next expected: {first}")
    monitor.refresh_from_db()
    assert (monitor.crontab, monitor.timezone) == ("30 14 * * 2", "America/New_York")
