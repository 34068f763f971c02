"""Status pages and badges in a real browser: an owner shares, a stranger watches, the owner revokes."""

from datetime import timedelta

import pytest
from django.urls import reverse

from dashboard.shared.kept import RENEW_SECONDS
from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.browser.conftest import WATCH_VIOLATIONS, problems_of
from tests.dashboard.browser.test_pages import LOOKS
from tests.dashboard.shared.conftest import clock as clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]


@pytest.fixture
def address(monitor):
    return reverse("share-links", args=[monitor.project.slug])


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_clean(new_context, address, monitor, look):
    now = utcnow().replace(second=0, microsecond=0)
    factories.MaintenanceWindowFactory(project=monitor.project, starts_at=now + timedelta(days=1))
    for name in ("archive", "a job with a long name that has no room beside its strip"):
        factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name=name, status="ok")
    links = {
        kind: factories.ShareLinkFactory(project=monitor.project, kind=kind).address
        for kind in ("status", "tv", "badge")
    }
    page = new_context("owner", **LOOKS[look]).new_page()
    found = {}
    for shown in (address, f"/s/{links['status']}/", f"/tv/{links['tv']}/"):
        page.goto(shown)
        page.wait_for_load_state("load")
        width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        found[shown] = (problems_of(page), page.evaluate("violations"), max(width, 0))
    assert list(found.values()) == [([], [], 0)] * 3


def test_an_owner_shares_a_status_page_which_a_stranger_watches_until_it_is_revoked(
    new_context, browser, address, environment, clock
):
    owner = new_context("owner").new_page()
    owner.goto(address)
    owner.get_by_label("Title").fill("Jobs of the shop")
    owner.get_by_role("button", name="Make its address").click()
    owner.get_by_text("Jobs of the shop can be opened now.").wait_for()
    shared = owner.locator("pre").first.inner_text()

    with browser.new_context(timezone_id="Asia/Tokyo") as context:
        context.add_init_script(WATCH_VIOLATIONS)
        stranger = context.new_page()
        stranger.goto(shared)
        stranger.get_by_text("1 of 1 fails").wait_for()
        stranger.get_by_text("Times are on your clock, in the zone Asia/Tokyo.").wait_for()
        environment.incidents.update(resolved_at=utcnow(), resolving_checkin=factories.CheckInFactory().pk)
        environment.status = "ok"
        environment.save()
        factories.TickFactory(at=utcnow().replace(second=0, microsecond=0))
        clock.now += RENEW_SECONDS
        stranger.reload()
        stranger.get_by_text("Everything works").wait_for()
        assert stranger.evaluate("violations") == []

        owner.locator("summary", has_text="Revoke Jobs of the shop").click()
        owner.get_by_role("button", name="Yes, revoke it").click()
        owner.get_by_text("is revoked").wait_for()
        clock.now += RENEW_SECONDS
        answer = stranger.reload()
        assert answer is not None
        assert answer.status == 404
