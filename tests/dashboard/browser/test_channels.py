"""Channels and routes in a real browser, as a person sets them up."""

import pytest
from playwright.sync_api import expect

from incidents.notifications.delivery import deliver
from lib.wallclock import utcnow

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]


def test_a_channel_is_added_and_tested_and_a_route_says_who_is_notified(new_context, monitor):
    page = new_context("owner", timezone_id="Europe/Vienna").new_page()
    page.goto(f"/projects/{monitor.project.slug}/")
    page.get_by_role("link", name="Channels and routes").click()
    page.get_by_text("There is no channel yet.").wait_for()
    page.get_by_role("link", name="Add a channel").click()
    page.get_by_role("link", name="E-mail").click()
    page.get_by_label("Name").fill("on call")
    page.get_by_label("Addresses").fill("nobody")
    page.get_by_role("button", name="Add").click()
    page.get_by_text("'nobody' is not an e-mail address.").wait_for()
    page.get_by_label("Addresses").fill("oncall@example.com")
    assert page.get_by_label("Time zone").input_value() == "Europe/Vienna"
    page.get_by_role("button", name="Add").click()
    page.get_by_text("on call was added.").wait_for()

    page.get_by_role("button", name="Send a test").click()
    page.get_by_text("The test is on its way").wait_for()
    deliver(utcnow=utcnow)
    page.get_by_text("oncall@example.com: accepted.").wait_for()

    page.get_by_role("link", name=monitor.project.name).click()
    page.get_by_role("link", name="Add a route").click()
    page.get_by_label("Name").fill("misses")
    page.get_by_text("1 of 1 environment of a monitor").wait_for()
    page.get_by_role("textbox", name="Conditions").fill("kind is missed\nmonitor like nothing-*")
    page.get_by_text("0 of 1 environment of a monitor").wait_for()
    page.get_by_role("textbox", name="Conditions").fill("kind is missed")
    page.get_by_label("on call").check()
    page.get_by_label("Escalation").fill("30 minutes: on call")
    page.get_by_role("button", name="Add").click()
    page.get_by_text("The route misses was stored.").wait_for()

    page.get_by_label("Monitor").fill(monitor.slug)
    preview = page.locator("#preview")
    expect(preview).to_contain_text("missed: oncall@example.com (route 'misses': kind is missed)")
    expect(preview).to_contain_text("not acknowledged after 30 minutes: on call")
    page.get_by_label("Failure").select_option("error")
    expect(preview).to_contain_text("error: nobody")
