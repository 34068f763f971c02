"""What people see of durations: percentiles, a chart, and the limits that runs broke."""

import re

import pytest
from django.urls import reverse

from dashboard.durations import CHARTS_SHOWN, Measured, charts, durations_table
from tests import factories

pytestmark = pytest.mark.django_db

SECOND = 1_000


def page_of(client, row):
    return client.get(reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])).text


def cells(text):
    return [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", text, re.DOTALL)]


def test_percentiles_are_shown_for_each_environment():
    values = [number * SECOND for number in range(1, 101)]
    shown = cells(durations_table([Measured("production", values, [500] * 3), Measured("staging", [], [])]))
    assert shown == [
        "production", "100", "50 seconds", "1 minute and 35 seconds", "1 minute and 39 seconds",
        *["500 milliseconds"] * 3, "1 minute and 40 seconds",
        "staging", "0", *["-"] * 7,
    ]  # fmt: skip


def test_nothing_is_shown_of_an_environment_that_was_never_measured():
    assert durations_table([]) == ""
    assert charts([Measured("production", [], [500])]) == ""


def test_the_chart_has_a_bar_for_each_run_and_lines_at_p50_and_p95():
    drawn = charts([Measured("production", [SECOND, 2 * SECOND, 4 * SECOND], [])])
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([0-9.]+)"', drawn)]
    assert heights == [26.5, 53.0, 106.0]
    assert re.findall(r">(p[0-9]+ [^<]*)<", drawn) == ["p50 2 seconds", "p95 4 seconds"]
    assert "http" not in drawn, "nothing is loaded from anywhere"


def test_runs_that_took_no_time_are_drawn_too():
    assert charts([Measured("production", [0, 0], [])]).count("<rect") == 2


def test_charts_of_many_environments_are_few():
    many = [Measured(f"place-{number}", [SECOND], []) for number in range(CHARTS_SHOWN + 1)]
    assert charts(many).count("<svg") == CHARTS_SHOWN


def test_names_of_environments_are_untrusted():
    assert "<b>" not in charts([Measured("<b>", [SECOND], [])]) + durations_table([Measured("<b>", [SECOND], [])])


def test_the_pages_of_a_monitor_and_its_environment_show_them(admin_client):
    row = factories.RecentRunsFactory(durations_ms=[7 * SECOND] * 3).monitor_environment
    for shown in (row, row.monitor):
        text = page_of(admin_client, shown)
        assert "the last 100 that ended ok" in text
        assert text.count('data-role="durations"') == 1


@pytest.mark.parametrize(
    ("limit", "words"), [("slow", "A note: it counted as ok."), ("slow_counted", "It counted as a failure.")]
)
def test_d44_a_run_that_broke_a_limit_says_so_wherever_it_is_listed(admin_client, limit, words):
    run = factories.CheckInFactory(limit_broken=limit)
    checkins = reverse("admin:checkins_checkin_changelist")
    for text in (page_of(admin_client, run), page_of(admin_client, run.monitor_environment.monitor),
                 admin_client.get(checkins, {"limit_broken__exact": limit}).text):  # fmt: skip
        assert words in text
    assert words not in admin_client.get(checkins, {"limit_broken__exact": "fast"}).text
