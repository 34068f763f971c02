"""The wall in a real browser: what is live on it, and what of it can be reached without a mouse."""

import re

import pytest
from playwright.sync_api import Page, expect

from monitors.models import MonitorEnvironment
from tests import factories
from tests.dashboard.browser.conftest import problems_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]
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
    page.evaluate("document.getElementById('counts').isTheSame = true")
    fail(c)
    make("aa")
    page.evaluate(EVENT)
    expect(names).to_have_text([*sorted([monitor.name, "c"], key=str.lower), "a", "aa", "b"])
    expect(page.locator("#counts")).to_contain_text("5 rows: 2 failing")
    assert page.evaluate("document.getElementById('counts').isTheSame"), "a new one would not be read out"
    expect(page.locator(f"#row-{b.pk} .name")).to_be_focused()
    expect(page.get_by_label("a · production", exact=True)).to_be_checked()
    expect(page.get_by_role("form", name="The selected rows").locator("output")).to_have_text("1")
    assert (problems_of(page), page.evaluate("violations")) == ([], [])


def test_a_row_in_which_somebody_is_stays_until_it_is_left_though_the_filter_leaves_it_out(new_context, make):
    a, b = make("a", "b")
    fail(a, b)
    page = open_wall(new_context("responder").new_page(), "?state=failing&q=production")
    name = page.locator(f"#row-{a.pk} .name")
    name.focus()
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
