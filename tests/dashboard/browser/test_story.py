"""The life of a job in a real browser, as a person sees it: created, waited for, missed, acknowledged, recovered."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from checkins.processing.batch import take
from checkins.protocols.request import IngestRequest
from incidents.notifications.delivery import deliver
from lib.wallclock import utcnow
from tests import factories
from tests.clocktasks.shards import tick_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def incident(db):
    """One of another job that is over, so that the story begins with nothing to do."""
    return factories.IncidentFactory(resolved=True, monitor_environment__monitor__status="disabled")


def ping(address: str) -> None:
    """What the edge hands on of a request for a ping address; that it gets there is tested without a browser."""
    path = urlsplit(address).path
    request = IngestRequest(method="GET", path=path, query="", headers={}, body=b"", body_bytes=0, received_at=utcnow())
    [answer] = take([request], now=utcnow())
    assert (answer.status, answer.body) == (200, b"OK")


def notified(page: Page) -> list[str]:
    """The rows of the table of who was notified, from its first to its last word."""
    page.reload()
    rows = page.get_by_role("region", name="Who was notified").locator("tbody tr")
    return [" ".join(row.inner_text().split()) for row in rows.all()]


def test_a_job_is_created_missed_acknowledged_and_recovers(new_context, monitor, time, mailoutbox):
    channel = factories.ChannelFactory(
        project=monitor.project, kind="email", name="on call", values={"to": "oncall@example.com"}
    )
    factories.RouteFactory(project=monitor.project, to=[channel], name="all")
    tick_until(time.now)
    page = new_context("editor", timezone_id="Europe/Vienna").new_page()

    # A person creates the monitor, and the page waits.
    page.goto("/")
    page.get_by_role("heading", name="Nothing needs a person").wait_for()
    page.get_by_role("link", name="New monitor").click()
    page.get_by_label("Name").fill("Nightly backup")
    page.get_by_label("Crontab").fill("*/10 * * * *")
    page.get_by_label("Margin in minutes").fill("3")
    page.get_by_role("button", name="Create").click()
    page.get_by_text("No check-in has been received yet.").wait_for()
    [address] = re.findall(r"https?://\S+/ping/[0-9a-f-]+", page.locator("#snippet-1").inner_text())

    # The job says that it is done, and the page turns green by itself.
    time.now += MINUTE
    ping(address)
    page.get_by_text("All is well.").wait_for()
    expect(page.get_by_role("region", name="Schedule")).to_contain_text("Next expected: 11:10")

    # It is missed when its margin is over, and no minute before.
    time.now = factories.NOW + 12 * MINUTE
    assert tick_until(time.now) == 0
    page.get_by_role("link", name="Now").click()
    page.get_by_role("heading", name="Nothing needs a person").wait_for()
    time.now += MINUTE
    assert tick_until(time.now) == 1
    page.reload()
    page.get_by_role("heading", name="1 job needs a person").wait_for()
    expect(page.get_by_role("listitem").filter(has_text="Nightly backup")).to_contain_text(
        "Expected at 11:10 Europe/Vienna (every 10 minutes), three minutes of margin, no check-in by 11:13."
    )

    # Somebody is notified, and the page of the incident says who and with which result.
    page.get_by_role("link", name="Nightly backup").click()
    page.wait_for_url("**/i/*/")
    deliver(utcnow=utcnow)
    assert notified(page) == ["opened on call · oncall@example.com route 'all' catches everything sent 11:13"]
    assert [mail.to for mail in mailoutbox] == [["oncall@example.com"]]

    # The person looks after it.
    time.now += MINUTE
    page.get_by_role("button", name="Acknowledge Nightly backup").click()
    page.get_by_role("button", name="Withdraw the acknowledgement").wait_for()
    page.get_by_role("link", name="Now").click()
    page.get_by_role("heading", name="1 job fails, and somebody looks after it").wait_for()
    page.get_by_role("link", name="Nightly backup").click()
    page.wait_for_url("**/i/*/")

    # The job works again: the incident is resolved, who was notified hears of it, and nothing is left to do.
    time.now += MINUTE
    ping(address)
    tick_until(time.now)
    deliver(utcnow=utcnow)
    assert [row.split()[0] for row in notified(page)] == ["opened", "resolved"]
    expect(page.locator("h1")).to_contain_text("resolved")
    expect(page.get_by_role("region", name="What happened")).to_contain_text("acknowledged")
    page.get_by_role("link", name="Now").click()
    page.get_by_role("heading", name="Nothing needs a person").wait_for()
    expect(page.get_by_text("Nightly backup")).to_be_hidden()
    assert page.evaluate("violations") == []
