"""What a screen reader reads out when it changes: its node stays, of a new one nothing would be read."""

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from dashboard.shared.kept import RENEW_SECONDS
from lib.wallclock import utcnow
from monitors.models import MonitorEnvironment
from tests import factories
from tests.dashboard.shared.conftest import clock as clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]
EVENT = "document.dispatchEvent(new Event('visibilitychange'))"


def watch(page: Page, selector: str) -> None:
    """Note the node, and whatever is added to it."""
    page.locator(selector).evaluate(
        """node => {
            node.isTheSame = true;
            window.said = [];
            new MutationObserver(() => said.push(node.textContent.trim())).observe(
                node, {childList: true, characterData: true, subtree: true});
        }"""
    )


def was_said(page: Page, selector: str) -> list[str]:
    assert page.locator(selector).evaluate("node => Boolean(node.isTheSame)")
    return page.evaluate("said")


def test_now_says_when_something_has_changed_and_nothing_otherwise(new_context, incident):
    page = new_context("viewer").new_page()
    page.goto("/")
    page.wait_for_load_state("networkidle")
    watch(page, "#state")
    for _ in range(2):
        page.evaluate("delete document.documentElement.dataset.refreshed")
        page.evaluate(EVENT)
        page.locator("html[data-refreshed]").wait_for()
    assert was_said(page, "#state") == []
    other = factories.IncidentFactory(
        monitor_environment__monitor__project=incident.monitor_environment.monitor.project
    )
    factories.OccurrenceFactory(incident=other)
    page.evaluate(EVENT)
    expect(page.locator("#state")).to_have_text("2 jobs need a person")
    expect(page.get_by_role("link", name=other.monitor_environment.monitor.name)).to_be_visible()
    assert was_said(page, "#state") == ["2 jobs need a person"]


def test_a_monitor_says_its_state_and_details_stay_open(new_context, environment, monitor):
    page = new_context("editor").new_page()
    page.goto(reverse("monitor", args=[monitor.project.slug, monitor.slug]))
    page.wait_for_load_state("networkidle")
    page.get_by_text("Next times").click()
    watch(page, "#state")
    environment.incidents.update(resolved_at=utcnow(), resolving_checkin=factories.CheckInFactory().pk)
    MonitorEnvironment.objects.filter(monitor=monitor).update(
        status="ok", last_ok_at=utcnow(), pending_slot=None, next_checkin=None, next_checkin_latest=None
    )
    page.evaluate(EVENT)
    expect(page.locator("#state")).to_have_text("ok")
    assert was_said(page, "#state") == ["ok"]
    summary = page.get_by_text("Next times")
    assert summary.evaluate("summary => summary.parentNode.open")
    expect(summary).to_be_focused()


def test_a_status_page_says_when_something_fails_no_more(browser, live_server, environment, clock):
    link = factories.ShareLinkFactory(project=environment.monitor.project, kind="status")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{live_server.url}/s/{link.address}/")
        page.get_by_text("1 of 1 fails").wait_for()
        watch(page, "#verdict")
        environment.incidents.update(resolved_at=utcnow(), resolving_checkin=factories.CheckInFactory().pk)
        MonitorEnvironment.objects.filter(pk=environment.pk).update(status="ok", last_checkin=utcnow())
        factories.TickFactory(at=utcnow().replace(second=0, microsecond=0))
        clock.now += RENEW_SECONDS
        page.evaluate(EVENT)
        page.get_by_text("Everything works").wait_for()
        assert was_said(page, "#verdict") == ["Everything works"]
