"""Pages in a real browser: no violation of the policy, nothing from elsewhere, nothing that axe finds."""

import re
from itertools import pairwise
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from accounts.invitations import invite, token_of
from accounts.roles import Role
from audit.entries import Actor, Source
from lib.wallclock import utcnow
from monitors.schedule import LEARNING_CRONTAB
from tests import factories
from tests.dashboard.browser.conftest import problems_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser")]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
    "German": {"locale": "de-DE", "viewport": {"width": 390, "height": 844}, "has_touch": True},
}


@pytest.fixture
def addresses(incident, monitor):
    """The addresses of pages; what people name has as many characters as there is room for, without a blank."""
    for named in (monitor, monitor.project):
        type(named).objects.filter(pk=named.pk).update(name="x" * named._meta.get_field("name").max_length)
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=b"no space left on device")
    factories.RecentRunsFactory(monitor_environment=incident.monitor_environment)
    factories.AuditEntryFactory(project_id=monitor.project_id, object_id=monitor.pk, object_name=monitor.slug)
    learner = factories.MonitorEnvironmentFactory(
        monitor__project=monitor.project, monitor__crontab=LEARNING_CRONTAB, last_ok_at=factories.NOW
    )
    for hour in range(6):
        at = factories.NOW.replace(hour=hour, minute=17)
        factories.CheckInFactory(monitor_environment=learner, date_added=at, duration_ms=600_000)
    of_monitor, of_project = (monitor.project.slug, monitor.slug), monitor.project.slug
    factories.SavedViewFactory(project=monitor.project)
    channel = factories.ChannelFactory(
        project=monitor.project, name="c" * 100, failure_count=1, last_error="404 no_team"
    )
    route = factories.RouteFactory(project=monitor.project, name="r" * 100, to=[channel])
    by = Actor("ann", Source.PAGE, utcnow())
    window = factories.MaintenanceWindowFactory(project=monitor.project, name="w" * 100, crontab="0 3 * * *")
    factories.MaintenanceWindowFactory(project=monitor.project, monitor=monitor)
    invitation = invite(monitor.project_id, "bob@example.com", Role.EDITOR, by=by)
    return {
        "now": "/",
        "wall": "/wall/",
        "mine": "/?mine=1",
        "grouped": "/wall/?group=project&range=90d",
        "saved views": "/wall/views/?state=failing",
        "new": "/new/",
        "monitor": reverse("monitor", args=of_monitor),
        "run": reverse("run", args=[*of_monitor, incident.starting_checkin_id]),
        "incident": reverse("incident", args=[incident.pk]),
        "clock": "/clock/",
        "projects": "/projects/",
        "searched projects": "/projects/?q=nothing",
        "settings": reverse("edit-monitor", args=of_monitor),
        "learner": reverse("monitor", args=[of_project, learner.monitor.slug]),
        "schedule": reverse("edit-schedule", args=of_monitor),
        "ping address": reverse("ping-address", args=of_monitor),
        "audit log": reverse("audit-log", args=[monitor.project.slug]),
        "project": reverse("project", args=[monitor.project.slug]),
        "issues": reverse("issues", args=[of_project]),
        "issue": reverse("issue", args=[incident.issue_id]),
        "channels": f"{reverse('project-channels', args=[of_project])}?monitor={monitor.slug}",
        "kinds": reverse("new-channel", args=[of_project]),
        "new channel": f"{reverse('new-channel', args=[of_project])}?kind=slack",
        "channel": reverse("channel", args=[of_project, channel.pk]),
        "route": reverse("route", args=[of_project, route.pk]),
        "maintenance": reverse("maintenance", args=[of_project]),
        "window": reverse("window", args=[of_project, window.pk]),
        "preferences": "/account/preferences/",
        "confirmed address": reverse("confirm-address", args=["forged"]),
        "join": reverse("join", args=[token_of(invitation)]),
        "missing": "/nothing/",
    }


@pytest.mark.long
@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_clean(new_context, addresses, live_server, look):
    page = new_context("owner", **LOOKS[look]).new_page()
    requested, errors = set(), []
    page.on("request", lambda request: requested.add(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    found = {}
    for name, address in addresses.items():
        page.goto(address)
        page.wait_for_load_state("load")
        width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        found[name] = (problems_of(page), page.evaluate("violations"), max(width, 0))
    assert found == {name: ([], [], 0) for name in addresses}
    assert errors == []
    assert {url for url in requested if not url.startswith((live_server.url, "data:"))} == set()


@pytest.mark.long
def test_long_names_fit_the_wall_at_1440_pixels(new_context, incident):
    row = factories.MonitorEnvironmentFactory(
        monitor__project=incident.monitor_environment.monitor.project,
        monitor__slug="x" * 50,
        monitor__name="nightly-export-of-all-orders-" * 4,
        environment__name="production-" * 5,
        status="error",
    )
    page = new_context("viewer", viewport={"width": 1440, "height": 900}).new_page()
    page.goto("/wall/")
    shown = page.locator(f"#row-{row.pk}")
    expect(shown).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    # All of them in one call: between two calls the page may have drawn the row anew.
    edges = shown.evaluate(
        """row => [...row.children].map(part => part.getBoundingClientRect()).filter(box => box.width)
           .map(box => [box.left, box.right])"""
    )
    assert len(edges) >= 3
    assert all(left >= 0 and right <= 1440 for left, right in edges)
    assert all(right <= left for (_, right), (left, _) in pairwise(edges)), "no part covers the next one"
    assert shown.get_by_role("link").get_attribute("title").startswith(row.monitor.name)


def test_an_incident_is_acknowledged_with_the_keyboard_alone(new_context, incident):
    page = new_context("responder").new_page()
    page.goto("/")
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.wait_for_url("**/")
    page.get_by_text("somebody looks after it").wait_for()
    incident.refresh_from_db()
    assert incident.acknowledged_at is not None


@pytest.mark.long
def test_a_key_without_a_selected_row_acts_on_nothing_where_there_are_several(new_context, incident):
    other = factories.IncidentFactory(
        monitor_environment__monitor__project=incident.monitor_environment.monitor.project
    )
    factories.OccurrenceFactory(incident=other)
    page = new_context("responder").new_page()
    page.goto("/")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.get_by_text("1 job needs a person").wait_for()
    incident.refresh_from_db()
    other.refresh_from_db()
    assert [one.acknowledged_at is not None for one in (incident, other)].count(True) == 1


@pytest.mark.long
def test_a_page_that_gets_no_answer_says_so_and_goes_on_when_there_is_one_again(new_context, incident):
    page = new_context("viewer").new_page()
    page.goto("/")
    page.wait_for_load_state("networkidle")
    note = page.get_by_text("This page gets no answer")
    expect(note).to_be_hidden()
    page.route("**/*", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(note).to_be_visible()
    page.unroute("**/*")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(note).to_be_hidden()


@pytest.mark.long
def test_the_wall_is_searched_while_typing(new_context, monitor):
    for name in ("alpha", "beta"):
        factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name=name, status="active")
    page = new_context("viewer").new_page()
    page.goto("/wall/")
    page.wait_for_load_state("networkidle")  # Keys work, and the form sends, when all modules have run.
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("bet")
    # On a busy machine the letters come apart and are searched one by one: the last search is the one that counts.
    expect(page).to_have_url(re.compile(r"\?q=bet&"))
    expect(page.locator(".wall-row .name")).to_have_text(["beta"])
    expect(page.locator("#counts")).to_contain_text("1 row:")


@pytest.mark.long
def test_a_question_mark_shows_the_keys_and_the_theme_is_remembered(new_context):
    page = new_context("viewer").new_page()
    page.goto("/")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.locator("header details.menu summary").click()
    page.get_by_role("button", name="Dark").click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.long
def test_a_monitor_is_created_and_its_page_turns_green_with_the_first_check_in(new_context, monitor):
    page = new_context("editor", timezone_id="Europe/Vienna").new_page()
    page.goto("/new/")
    assert page.get_by_label("Time zone").input_value() == "Europe/Vienna"
    page.get_by_label("Name").fill("Nightly backup")
    page.get_by_label("Crontab").fill("30 2 * * *")
    page.get_by_text("At 02:30 (Europe/Vienna)").wait_for()
    page.get_by_role("button", name="Create").click()
    page.get_by_text("No check-in has been received yet.").wait_for()
    factories.MonitorEnvironmentFactory(
        monitor=monitor.project.monitors.get(slug="nightly-backup"), last_checkin=utcnow(), last_ok_at=utcnow()
    )
    page.get_by_text("All is well.").wait_for()


@pytest.mark.long
def test_a_schedule_is_learned_from_the_first_check_ins_and_used_when_a_person_says_so(new_context, monitor):
    page = new_context("editor").new_page()
    page.goto("/new/")
    page.get_by_label("Name").fill("Backup")
    page.get_by_label("Schedule").select_option(label="learn it from the first check-ins")
    page.get_by_text("Learning: no schedule yet").wait_for()
    expect(page.get_by_label("Crontab")).to_be_hidden()
    page.get_by_role("button", name="Create").click()
    page.get_by_text("Not enough yet: 0 of 5 check-ins.").wait_for()
    learner = monitor.project.monitors.get(slug="backup")
    environment = factories.MonitorEnvironmentFactory(monitor=learner, last_checkin=utcnow(), last_ok_at=utcnow())
    for hour in range(6):
        factories.CheckInFactory(
            monitor_environment=environment, date_added=factories.NOW.replace(hour=hour, minute=17)
        )
    page.reload()
    page.get_by_text("At 17 minutes past the hour (UTC)").wait_for()
    page.get_by_text("6 check-ins served 6 of 6 times.").wait_for()
    page.get_by_text("The evidence").click()
    assert (problems_of(page), page.evaluate("violations")) == ([], [])
    page.get_by_role("link", name="Change it", exact=True).click()
    expect(page.get_by_label("Crontab")).to_have_value("17 * * * *")
    page.get_by_label("Margin in minutes").fill("9")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The schedule is now: At 17 minutes past the hour (UTC).").wait_for()
    learner.refresh_from_db()
    assert (learner.crontab, learner.checkin_margin) == ("17 * * * *", 9)


@pytest.mark.long
def test_a_key_is_replaced_and_both_work_until_the_chosen_time(new_context, monitor):
    key = factories.IngestKeyFactory(project=monitor.project, label="hosts")
    page = new_context("owner", timezone_id="Europe/Vienna").new_page()
    page.goto("/projects/")
    page.get_by_role("link", name=monitor.project.name).click()
    page.get_by_label(f"Replace {key}").click()
    page.get_by_role("button", name="Create the new key").click()
    shown = page.locator("#key").inner_text()
    page.get_by_text("works until", exact=True).wait_for()
    key.refresh_from_db()
    assert key.ends_at is not None
    assert [one.public_key for one in monitor.project.ingest_keys.in_force(utcnow())] == [shown, key.public_key]


@pytest.mark.long
def test_a_member_is_added_and_removed_after_a_second_thought(new_context, monitor):
    factories.UserFactory(username="berta")
    page = new_context("owner").new_page()
    page.goto(reverse("project", args=[monitor.project.slug]))
    page.get_by_label("Name of the account").fill("bertha")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("There is no active account with the name bertha.").wait_for()
    page.get_by_label("Name of the account").fill("berta")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("berta is a member now.").wait_for()
    page.get_by_label("Remove berta", exact=True).click()
    page.get_by_role("button", name="Remove berta now").click()
    page.get_by_text("berta is no member any more.").wait_for()


@pytest.mark.long
def test_the_keys_lead_to_the_clock_which_says_first_where_it_is(new_context):
    factories.TickFactory(at=utcnow().replace(second=0, microsecond=0), finished_at=utcnow(), volume=7)
    page = new_context("viewer").new_page()
    page.goto("/")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/clock/")
    assert "The clock" in page.locator("#headline").inner_text()
    expect(page.get_by_role("heading", name="Ingest nodes")).to_be_visible()


@pytest.mark.long
def test_somebody_finds_out_who_muted_a_monitor(new_context, monitor):
    context = new_context("responder")
    page = context.new_page()
    page.goto(reverse("monitor", args=[monitor.project.slug, monitor.slug]))
    page.get_by_role("button", name="Mute", exact=True).click()
    page.goto(reverse("audit-log", args=[monitor.project.slug]))
    page.get_by_label("Action").fill("muted")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_text("muted monitor environment").wait_for()
    expect(page.get_by_role("link", name="CSV")).to_have_attribute("href", re.compile("format=csv&action=muted$"))


@pytest.mark.long
def test_rows_are_selected_with_keys_and_mouse_and_deleted_after_a_question(new_context, monitor):
    for name in "abcd":
        factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name=name, status="active")
    page = new_context("owner").new_page()
    page.goto("/wall/")
    page.wait_for_load_state("networkidle")
    actions = page.get_by_role("form", name="The selected rows")
    expect(actions).to_be_hidden()
    for key in "jjx":
        page.keyboard.press(key)
    page.get_by_label("c · ").click(modifiers=["Shift"])
    expect(actions.locator("output")).to_have_text("3")
    page.get_by_label("A tag").fill("night")
    page.keyboard.press("Enter")
    page.get_by_text("3 monitors have got the tag.").wait_for()
    page.get_by_label("d · ").check()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Delete this monitor?").wait_for()
    page.get_by_role("button", name="Delete now").click()
    page.get_by_text("1 monitor is deleted.").wait_for()
    tags = dict(monitor.project.monitors.not_deleted().values_list("name", "tags"))
    assert tags == {monitor.name: [], "a": ["night"], "b": ["night"], "c": ["night"]}


@pytest.mark.long
def test_a_ping_address_is_replaced_from_the_page_of_the_monitor_and_the_monitor_is_copied(new_context, monitor):
    page = new_context("editor", timezone_id="Europe/Vienna").new_page()
    page.goto(reverse("monitor", args=[monitor.project.slug, monitor.slug]))
    page.get_by_role("link", name="Replace the ping address").click()
    old = page.locator("#address").inner_text()
    page.get_by_role("button", name="Replace the address").click()
    page.get_by_text("Former addresses that work too").wait_for()
    assert page.locator("#address").inner_text() != old
    page.get_by_role("link", name="Back to the monitor").click()
    page.get_by_role("link", name="Copy this monitor").click()
    expect(page.get_by_label("Time zone")).to_have_value("UTC")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", name=f"Copy of {monitor.name}").wait_for()


@pytest.mark.long
def test_somebody_chooses_a_zone_a_language_and_a_night_without_notifications(new_context, monitor):
    page = new_context("responder", timezone_id="Asia/Tokyo").new_page()
    page.goto("/")
    page.locator("header details.menu summary").click()
    page.get_by_role("link", name="Preferences").click()
    page.get_by_label("E-mail address for notifications").fill("ann@example.com")
    page.get_by_label("Quiet from").fill("22:00")
    page.get_by_label("Quiet until").fill("07:00")
    page.get_by_label(monitor.project.name).check()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Choose one: quiet hours are by its clocks.").wait_for()
    page.get_by_label("Time zone").fill("Europe/Vienna")
    page.get_by_label("Language").select_option("de")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Gespeichert.").wait_for()
    channel = monitor.project.channels.get()
    assert (channel.is_personal, channel.timezone, channel.language) == (True, "Europe/Vienna", "de")


@pytest.mark.long
def test_a_view_of_the_wall_is_saved_for_a_project_and_deleted(new_context, monitor):
    page = new_context("editor").new_page()
    page.goto("/wall/")
    page.wait_for_load_state("networkidle")
    page.get_by_label("State").select_option("failing")
    expect(page).to_have_url(re.compile("state=failing"))
    page.get_by_label("Range").select_option("7d")
    expect(page).to_have_url(re.compile("range=7d"))
    page.get_by_role("link", name="Save this view").click()
    page.get_by_label("Name").fill("Bad week")
    page.get_by_label("Who sees it").select_option(label=f"the members of {monitor.project.name}")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The view Bad week was saved.").wait_for()
    other = new_context("viewer").new_page()
    other.goto("/wall/")
    other.get_by_role("link", name="Bad week").click()
    expect(other.get_by_label("Range")).to_have_value("7d")
    page.goto("/wall/views/")
    page.get_by_label("Delete the view Bad week").click()
    page.get_by_text("The view Bad week was deleted.").wait_for()


@pytest.mark.long
def test_all_rows_of_a_filter_are_muted_after_a_page_has_said_how_many(new_context, monitor):
    for number in range(60):
        factories.MonitorEnvironmentFactory(
            monitor__project=monitor.project, monitor__name=f"task {number}", status="active"
        )
    page = new_context("responder").new_page()
    page.goto("/wall/?q=task")
    page.wait_for_load_state("networkidle")
    page.get_by_label("task 0 · ").check()
    actions = page.get_by_role("form", name="The selected rows")
    actions.get_by_label("All rows of this filter").check()
    expect(actions.locator("output")).to_have_text("60")
    actions.get_by_role("button", name="Mute", exact=True).click()
    page.get_by_role("heading", name="Mute: 60 rows?").wait_for()
    page.get_by_role("button", name="Mute: 60 rows").click()
    page.get_by_text("60 environments are muted.").wait_for()


@pytest.mark.long
def test_a_phone_gets_strips_whose_cells_can_be_made_out(new_context, incident):
    page = new_context("viewer", viewport={"width": 390, "height": 844}).new_page()
    page.goto("/wall/?range=90d")
    strip = page.locator(".wall-row .strip").first
    expect(strip).to_be_visible()
    expect(strip).to_have_attribute("viewBox", "0 0 216 16")
