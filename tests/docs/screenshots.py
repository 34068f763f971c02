"""The pictures of the documentation: `make screenshots` draws them anew, with chromium.

pytest runs this file only if it is named, since it writes into `docs/images`. What is shown are values and rows made
here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit.entries import Actor, Source
from dashboard.demo.fill import fill
from dashboard.report.words import write_report
from incidents.handling import acknowledge
from incidents.models import Incident, Message
from incidents.notifications import delivery
from incidents.notifications.alert import Event
from incidents.notifications.channels.mail import page
from incidents.notifications.channels.mail_text import content
from lib.wallclock import utcnow
from monitors.models import Monitor
from tests.dashboard.report.test_words import FACTS
from tests.docs.pages import DOCS
from tests.e2e.browser import Browser, chromium, running_browser
from tests.factories import (
    CheckInLogFactory,
    EnvironmentFactory,
    IncidentFactory,
    MonitorEnvironmentFactory,
    MonitorFactory,
    NotificationFactory,
    OccurrenceFactory,
    ProjectFactory,
)
from tests.incidents.notifications.channels.alerts import alert, incident, many

IMAGES = DOCS / "images"
HEIGHT_MAX = 2_000
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 11, 29, 23, tzinfo=UTC)
"""Midnight in Berlin."""


@pytest.fixture
def browser(tmp_path) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("chromium is not installed")
    with running_browser(program, tmp_path / "profile", {"HOME": str(tmp_path), "TZ": "UTC"}) as started:
        yield started


def shoot(browser: Browser, url: str, name: str, *, width: int, height_max: int = HEIGHT_MAX) -> None:
    """Store a picture of all of a page, or of its upper part."""

    def resize(height: int) -> None:
        view = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.call("Emulation.setDeviceMetricsOverride", **view)
        browser.call("Runtime.evaluate", expression=DRAWN, awaitPromise=True)

    browser.call("Emulation.setScrollbarsHidden", hidden=True)
    resize(height_max)  # Rows of the wall have no height before they have been in view.
    browser.open(url)
    resize(height_max)
    resize(100)
    resize(min(int(browser.evaluate("document.documentElement.scrollHeight")), height_max))
    browser.screenshot(IMAGES / name)
    # The server of the tests has no stream of events.
    assert [complaint for complaint in browser.complaints if "/events" not in complaint] == []


def shoot_mail(browser: Browser, html: str, name: str, folder: Path) -> None:
    file = folder / "mail.html"
    file.write_text(html)
    shoot(browser, file.as_uri(), name, width=640)


def test_a_mail_about_an_incident(browser, tmp_path):
    reason = (
        "Reported an error at 03:10 Europe/Berlin, 9 minutes after its start. It failed 3 times in a row, since "
        "2026-11-26 03:09 Europe/Berlin. Last ok 2026-11-25 03:00, took 41 seconds."
    )
    facts = incident(kind="error", reason=reason, explanation={"kind": "error", "exit_status": 2})
    shown = alert(Event.OPENED, incidents=(facts,), reason=reason, unsubscribe_url="https://w.example/u/x")
    shoot_mail(browser, page(content(shown)), "mail-incident.png", tmp_path)


def test_a_mail_about_a_storm(browser, tmp_path):
    reason = "Expected at 03:00 Europe/Berlin (at 03:00), ten minutes of margin, no check-in by 03:10."
    incidents = many(Event.OPENED, 6, reason=reason)
    shown = alert(Event.DIGEST, incidents=incidents, omitted=54, reason="Since 03:10 Europe/Berlin.")
    shoot_mail(browser, page(content(shown)), "mail-storm.png", tmp_path)


def test_a_weekly_report(browser, tmp_path):
    shoot_mail(browser, page(write_report(FACTS)), "mail-weekly-report.png", tmp_path)


@pytest.mark.django_db(transaction=True)
def test_the_page_of_an_incident(browser, live_server, settings, mailoutbox):
    settings.ALERT_EMAIL_TO, settings.ALLOWED_HOSTS = ["ops@example.com"], ["*"]
    project = ProjectFactory(name="Operations", slug="ops")
    monitor = MonitorFactory(project=project, name="Nightly backup", slug="nightly-backup", crontab="0 3 * * *")
    environment = MonitorEnvironmentFactory(
        monitor=monitor, environment=EnvironmentFactory(project=project), status="error"
    )
    now = utcnow()
    shown = IncidentFactory(monitor_environment=environment, started_at=now - HOUR)
    OccurrenceFactory(incident=shown)
    CheckInLogFactory(checkin=shown.starting_checkin, status="error", body=b"dumping\ntar: no space left\nexit 2\n")
    NotificationFactory(incident=shown, created_at=now - HOUR)
    delivery.deliver(utcnow=lambda: now - HOUR)
    assert Message.objects.get().status == "sent"
    ada = User.objects.create_superuser("ada")
    at = now - HOUR / 2
    acknowledge(shown.guid, by=Actor(name="ada", source=Source.ADMIN, at=at, id=ada.pk), via="the admin", now=at)
    delivery.deliver(utcnow=lambda: at)
    client = Client()
    client.force_login(ada)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    browser.call("Network.setCookie", name=settings.SESSION_COOKIE_NAME, value=cookie, url=live_server.url)
    shoot(
        browser,
        f"{live_server.url}/admin/incidents/incident/{shown.pk}/change/",
        "admin-incident.png",
        width=1_400,
    )


@pytest.mark.django_db(transaction=True)
def test_the_pages(browser, live_server, settings):
    settings.ALERT_EMAIL_TO, settings.ALLOWED_HOSTS = ["ops@example.com"], ["*"]
    person = User.objects.create_superuser("ada")
    fill(utcnow().replace(second=0, microsecond=0))
    client = Client()
    client.force_login(person)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    browser.call("Network.setCookie", name=settings.SESSION_COOKIE_NAME, value=cookie, url=live_server.url)
    shown = Incident.objects.get(resolved_at=None, monitor_environment__monitor__slug="nightly-backup")
    for name, address in {
        "page-now": "/",
        "page-wall": "/wall/?range=7d",
        "page-monitor": "/m/shop/import-feed/",
        "page-incident": f"/i/{shown.pk}/",
    }.items():
        shoot(browser, f"{live_server.url}{address}", f"{name}.png", width=1_280, height_max=900)
    monitor = Monitor.objects.get(slug="import-feed")
    address = reverse("admin:monitors_monitor_change", args=[monitor.pk])
    shoot(browser, f"{live_server.url}{address}", "admin-monitor.png", width=1_400, height_max=1_000)
