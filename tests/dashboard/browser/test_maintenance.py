"""Maintenance in a real browser, as a person plans it."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]


def test_a_window_is_planned_with_a_preview_changed_and_deleted(new_context, monitor):
    page = new_context("editor", timezone_id="Europe/Vienna").new_page()
    page.goto(f"/projects/{monitor.project.slug}/")
    page.get_by_role("link", name="Maintenance", exact=True).click()
    page.get_by_text("No maintenance has been planned yet.").wait_for()
    page.get_by_role("link", name="Plan maintenance").click()
    assert page.get_by_label("Time zone").input_value() == "Europe/Vienna"
    preview = page.get_by_role("complementary", name="Preview")
    expect(preview).to_contain_text("all monitors 1 of 1 monitor")
    page.get_by_label("Name").fill("Friday upgrades")
    page.get_by_label("Tag").fill("db")
    expect(preview).to_contain_text("0 of 1 monitor")
    page.get_by_label("From").fill("2030-01-01T00:00")
    page.get_by_text("By a rule, again and again").click()
    page.get_by_label("Repeats").fill("0 22 * * 5")
    expect(preview).to_contain_text("it has neither now.")
    page.get_by_label("Or until").fill("23:30")
    expect(preview).to_contain_text("At 22:00, only on Friday (Europe/Vienna), until 23:30")
    expect(preview.get_by_role("listitem")).to_have_count(3)
    page.get_by_role("button", name="Plan").click()
    page.get_by_text("Friday upgrades is planned.").wait_for()

    page.get_by_role("link", name="Friday upgrades").click()
    assert page.get_by_label("Or until").input_value() == "23:30"
    page.get_by_label("Tag").fill("")
    page.get_by_label("Monitor").fill(monitor.slug)
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Friday upgrades is planned anew").wait_for()

    page.goto(f"/m/{monitor.project.slug}/{monitor.slug}/")
    expect(page.get_by_role("region", name="Maintenance")).to_contain_text("Friday upgrades")
    page.get_by_role("link", name="Maintenance windows").click()
    page.locator("summary", has_text="Friday upgrades").click()
    page.get_by_role("button", name="Yes, delete Friday upgrades").click()
    page.get_by_text("Friday upgrades was deleted.").wait_for()
    page.get_by_text("No maintenance has been planned yet.").wait_for()


def test_maintenance_begins_with_a_button_of_the_page_of_a_monitor(new_context, monitor):
    page = new_context("editor").new_page()
    page.goto(f"/m/{monitor.project.slug}/{monitor.slug}/")
    page.locator("summary", has_text="Maintenance").click()
    page.get_by_role("button", name="for 1 hour").click()
    page.get_by_text("is in maintenance from the next minute on").wait_for()
