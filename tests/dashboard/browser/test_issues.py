"""An issue in a real browser, as a person handles it."""

import pytest

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]


def test_a_responder_finds_an_issue_and_archives_it(new_context, monitor):
    page = new_context("responder").new_page()
    page.goto(f"/projects/{monitor.project.slug}/")
    page.get_by_role("link", name="Issues").click()
    page.get_by_label("State").select_option("unresolved")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=monitor.name).click()
    page.get_by_role("button", name="Archive").click()
    page.get_by_text("Archived: failures are recorded").wait_for()
    page.get_by_role("button", name="Unarchive").wait_for()
