"""The wall in a real browser: what is live on it, and what of it can be reached without a mouse."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from accounts.models import Preferences
from lib.wallclock import utcnow
from monitors.models import MonitorEnvironment
from tests import factories
from tests.dashboard.browser.conftest import problems_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]
DARK: dict[str, Any] = {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}
EVENT = "document.dispatchEvent(new Event('visibilitychange'))"
"""What an event of the stream does, which the server of these tests does not have."""


@pytest.fixture
def make(monitor):
    """Make environments of new monitors with these names, which are well."""

    def make_rows(*names: str) -> list[MonitorEnvironment]:
        return [
            factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name=name, status="ok")
            for name in names
        ]

    return make_rows


def fail(*rows: MonitorEnvironment) -> None:
    MonitorEnvironment.objects.filter(pk__in=[row.pk for row in rows]).update(status="error")


def open_wall(page: Page, query: str = "") -> Page:
    page.goto(f"/wall/{query}")
    page.wait_for_load_state("networkidle")  # Keys work, and the form sends, when all modules have run.
    return page


def top_of(page: Page, row: MonitorEnvironment) -> float:
    return page.locator(f"#row-{row.pk}").evaluate("row => row.getBoundingClientRect().top")


def test_counts_order_and_new_rows_are_live_while_somebody_works_with_the_rows(new_context, monitor, make):
    _, b, c = make("a", "b", "c")
    page = open_wall(new_context("responder").new_page())
    names = page.locator(".wall-row .name")
    expect(names).to_have_text([monitor.name, "a", "b", "c"])
    page.get_by_label("a · production", exact=True).check()
    page.locator(f"#row-{b.pk} .name").focus()
    said = page.locator("#counts-said")
    said.evaluate("said => { said.isTheSame = true; }")
    fail(c)
    make("aa")
    page.evaluate(EVENT)
    expect(names).to_have_text([*sorted([monitor.name, "c"], key=str.lower), "a", "aa", "b"])
    expect(page.locator("#counts")).to_contain_text("5 rows: 2 failing")
    expect(said).to_contain_text("5 rows: 2 failing")
    assert said.evaluate("said => said.isTheSame"), "of a new one nothing would be read out"
    expect(page.locator(f"#row-{b.pk} .name")).to_be_focused()
    expect(page.get_by_label("a · production", exact=True)).to_be_checked()
    expect(page.get_by_role("form", name="The selected rows").locator("output")).to_have_text("1")
    assert (problems_of(page), page.evaluate("violations")) == ([], [])


def test_a_row_in_which_somebody_is_stays_until_it_is_left_though_the_filter_leaves_it_out(new_context, make):
    a, b = make("a", "b")
    fail(a, b)
    page = open_wall(new_context("responder").new_page(), "?state=failing&q=production")
    page.keyboard.press("j")
    name = page.locator(".wall-row.current .name")
    expect(name).to_have_text("a")
    MonitorEnvironment.objects.filter(pk__in=[a.pk, b.pk]).update(status="ok")
    page.evaluate(EVENT)
    expect(page.locator(f"#row-{b.pk}")).to_have_count(0)
    expect(name).to_be_focused()
    page.get_by_label("Search").focus()
    page.evaluate(EVENT)
    expect(page.locator(f"#row-{a.pk}")).to_have_count(0)


def test_what_is_read_in_the_middle_stays_under_the_eyes_when_rows_come_above(new_context, make):
    rows = make(*(f"job {number:03}" for number in range(130)))
    page = open_wall(new_context("viewer", viewport={"width": 1280, "height": 800}).new_page())
    page.evaluate("scrollTo(0, 2000)")
    seen = rows[70]
    expect(page.locator(f"#row-{seen.pk}")).to_be_in_viewport()
    page.wait_for_load_state("networkidle")
    before = top_of(page, seen)
    fail(*rows[100:110])
    page.evaluate(EVENT)
    expect(page.locator("#counts")).to_contain_text("11 failing")
    assert abs(top_of(page, seen) - before) < 2
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator(".wall-row .name").nth(5)).to_have_text(re.compile("job 10"))
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator(f"#row-{rows[-1].pk}")).to_be_in_viewport()
    ids = page.evaluate("[...document.querySelectorAll('.wall-row')].map(row => row.id)")
    assert len(ids) == len(set(ids)) == 131


def test_segments_that_are_asked_for_at_once_have_their_own_rows(new_context, monitor, make):
    names = [f"n{n:03}" for n in range(120)]
    make(*names)
    page = new_context("responder", viewport={"width": 1280, "height": 4_500}).new_page()
    open_wall(page, "?group=environment")

    expect(page.locator(".wall-row .name")).to_have_text([monitor.name, *names])
    segments = page.locator(".segment")
    assert segments.evaluate_all("all => all.map(one => one.querySelectorAll('.wall-row').length)") == [50, 50, 21]
    assert page.locator(".wall-group").count() == 1
    assert (problems_of(page), page.evaluate("violations")) == ([], [])


def test_many_events_are_few_refreshes(new_context, make):
    make("a")
    page = open_wall(new_context("viewer").new_page())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/wall/rows" in request.url else None)
    page.evaluate(f"for (let number = 0; number < 100; number += 1) {EVENT}")
    fail(*make("b"))
    page.evaluate(EVENT)
    expect(page.locator("#counts")).to_contain_text("3 rows: 2 failing")
    assert len(asked) <= 3


@pytest.fixture
def runs(make):
    """An environment with a run that is ok and two that failed in the hour before this one."""
    (row,) = make("with runs")
    hour = utcnow().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    factories.RunHourFactory(monitor_environment=row, hour=hour, ok=1, error=2)
    return row


def test_a_cell_says_what_happened_in_it_under_the_mouse_and_until_escape(new_context, runs):
    page = open_wall(new_context("viewer").new_page())
    strip = page.locator(f"#row-{runs.pk} .strip")
    box = strip.bounding_box()
    assert box is not None
    detail, cell = page.locator("#cell"), box["width"] / 24
    expect(detail).to_be_hidden()
    page.mouse.move(box["x"] + 22.5 * cell, box["y"] + 5)
    expect(detail).to_have_text(re.compile(r" \d\d:00\W+\d\d:00: 2 error, 1 ok$"))
    page.mouse.move(box["x"] + 3.5 * cell, box["y"] + 5)
    expect(detail).to_have_text(re.compile(": nothing happened$"))
    page.mouse.move(0, 0)
    expect(detail).to_be_hidden()
    page.mouse.move(box["x"] + 22.5 * cell, box["y"] + 5)
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()


@pytest.mark.parametrize("address", ["wall", "monitor"])
def test_arrow_keys_lead_from_cell_to_cell_and_each_is_read_out(new_context, runs, address):
    page = new_context("viewer", **DARK).new_page()
    if address == "wall":
        open_wall(page).locator(f"#row-{runs.pk} .name").focus()
    else:
        page.goto(reverse("monitor", args=[runs.monitor.project.slug, runs.monitor.slug]))
        page.wait_for_load_state("networkidle")
        page.locator(".strip-large").focus()
    said, detail = page.locator("#cell-said"), page.locator("#cell")
    page.keyboard.press("ArrowLeft")
    expect(said).to_have_text(re.compile(": nothing happened$"))
    page.keyboard.press("ArrowLeft")
    expect(said).to_have_text(re.compile(": 2 error, 1 ok$"))
    expect(detail).to_have_text(said.text_content())
    assert (problems_of(page), page.evaluate("violations")) == ([], [])
    page.evaluate("delete document.documentElement.dataset.refreshed")
    page.evaluate(EVENT)
    expect(page.locator("html")).to_have_attribute("data-refreshed", re.compile("."))
    expect(detail).to_be_visible()
    expect(said).to_have_text(re.compile(": 2 error, 1 ok$"))
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(said).to_have_text(re.compile(": nothing happened$"))
    page.keyboard.press("Tab")
    expect(detail).to_be_hidden()


def test_who_switched_single_keys_off_has_the_others(new_context, monitor, runs):
    page = new_context("responder").new_page()
    Preferences.objects.create(user=monitor.project.memberships.get().user, without_single_keys=True)
    open_wall(page).locator(f"#row-{runs.pk} .name").focus()
    for key in "?jxm/":
        page.keyboard.press(key)
    expect(page.locator(f"#row-{runs.pk} .name")).to_be_focused()
    expect(page.locator("#keys")).to_be_hidden()
    expect(page.locator(".wall-row.current, .pick:checked")).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#cell")).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url("**/m/**")
    page.locator("header details.menu summary").click()
    page.get_by_role("button", name="Keys").click()
    page.get_by_text("You have switched the shortcuts of a single key off").wait_for()


def test_the_bar_of_the_selected_rows_is_reached_right_away_with_keys_and_left_again(new_context, make):
    rows = make(*(f"job {number:02}" for number in range(40)))
    page = open_wall(new_context("responder", viewport={"width": 1280, "height": 500}).new_page())
    for key in "j" * 30:
        page.keyboard.press(key)
    name = page.locator(".wall-row.current .name")
    expect(name).to_be_focused()
    before = page.locator(".wall-row.current").evaluate("row => row.getBoundingClientRect().top")
    page.keyboard.press("x")
    bar = page.get_by_role("form", name="The selected rows")
    expect(bar).to_be_in_viewport()
    assert abs(page.locator(".wall-row.current").evaluate("row => row.getBoundingClientRect().top") - before) < 2
    page.keyboard.press("b")
    expect(bar.get_by_role("button", name="Mute", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(name).to_be_focused()
    for key in "k" * 25:
        page.keyboard.press(key)
    edge = bar.evaluate("bar => bar.getBoundingClientRect().bottom")
    assert page.locator(".wall-row.current").evaluate("row => row.getBoundingClientRect().top") >= edge
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.get_by_text("1 environment is muted.").wait_for()
    assert MonitorEnvironment.objects.filter(pk__in=[row.pk for row in rows], is_muted=True).count() == 1


def test_the_bar_of_the_selected_rows_comes_before_the_rows_for_tab(new_context, make):
    make("a")
    page = open_wall(new_context("responder").new_page())
    page.get_by_label("a · ").check()
    page.get_by_label("Range").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Mute", exact=True)).to_be_focused()
    assert (problems_of(page), page.evaluate("violations")) == ([], [])
