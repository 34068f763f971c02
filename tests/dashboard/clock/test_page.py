"""The clock's page: the same answer as `manage.py clock`, with all that it depends on, at a small fixed cost."""

import io
import json
import re
from datetime import timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from health import liveness
from health.clock.timeline import TickState, legend_of, plot_of, rows_of
from health.facts import TickFacts
from health.management.commands import clock as command
from tests import factories
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
QUERIES_MAX = 32
"""Two of them ask what the reader may see, one what the reader prefers."""


@pytest.fixture
def url():
    return reverse("clock")


@pytest.fixture
def now():
    """Half a minute after ten, for a clock whose newest tick is that of ten."""
    moment = NOW + 30 * SECOND
    with time_machine.travel(moment, tick=False):
        yield moment


@pytest.fixture
def clock(now, db):
    """A clock at rest, with an hour of ticks, two shards, a process that takes check-ins, and a beat and a worker."""
    for minutes in range(60):
        at = NOW - minutes * MINUTE
        factories.TickFactory(at=at, volume=1000, deviation_percent=2.0, finished_at=at + 2 * SECOND)
    for shard in range(2):
        for kind in ("missed", "timeout", "unknown"):
            factories.ShardClockFactory(shard=shard, kind=kind, position=NOW)
    factories.IngestNodeFactory(seen_at=now, pid=12)
    for kind in liveness.Kind:
        liveness.mark_alive(kind, now)


def ask(*arguments):
    """The exit status of `manage.py clock`, and what it printed."""
    out = io.StringIO()
    try:
        call_command("clock", *arguments, stdout=out)
    except SystemExit as end:
        return end.code, out.getvalue()
    return 0, out.getvalue()


# --- who, and what it costs -------------------------------------------------------------------------------------------


def test_the_page_is_for_staff(url, staff_client, outsider_client, client, now):
    assert staff_client.get(url).status_code == 200
    for stranger in (outsider_client, client):
        response = stranger.get(url)
        assert response.status_code == 302
        assert response.url.startswith(reverse("admin:login"))


def test_the_page_is_linked_from_the_index_and_first_in_its_group(url, staff_client):
    page = staff_client.get(reverse("admin:index")).text

    ticks = reverse("admin:clocktasks_tick_changelist")
    assert f'<a href="{url}" class="text-link">' in page
    assert page.index(f'href="{url}"') < page.index(f'href="{ticks}"')


def test_the_page_costs_a_few_statements_whatever_there_is(url, staff_client, clock):
    def statements():
        with CaptureQueriesContext(connection) as captured:
            assert staff_client.get(url).status_code == 200
        return len(captured)

    few = statements()
    for number in range(30):
        factories.IngestNodeFactory(state=("live", "dropped", "left")[number % 3])
        factories.ClockIncidentFactory()
        factories.ShardClockFactory(shard=number + 2, position=NOW - MINUTE)
        factories.TickFactory(
            at=NOW - timedelta(hours=2 + number), decided_at=None, decision="abnormal", finished_at=None
        )
    many = statements()

    assert few <= many <= QUERIES_MAX
    assert many - few <= 3  # bounded counts of what waits, which an idle clock does not ask for


# --- what it says -----------------------------------------------------------------------------------------------------


def test_empty_tables_have_a_page(url, staff_client, now):
    page = staff_client.get(url).text

    assert "The clock has no minute yet" in page
    assert "No tick has been written yet." in page
    assert "There are no shard clocks yet" in page
    assert "No process receives check-ins." in page
    assert "<svg" not in page.partition('id="clock"')[2]


def test_a_clock_at_rest_says_so(url, staff_client, clock):
    page = staff_client.get(url).text

    assert "The clock is at 10:00 UTC, 30 seconds behind now, which is normal." in page
    assert "All 2 shards x 3 kinds of clocks stand at 10:00 UTC." in page
    assert "web-1 pid 12" in page
    assert 'id="reasons"' not in page
    assert 'title="10:00: 1,000 check-ins (+2 %); finished"' in page
    assert '<svg id="plot"' in page


def test_a_clock_that_waits_says_for_what(url, staff_client, clock):
    later = NOW + 100 * SECOND
    factories.IngestNodeFactory(pid=13, seen_at=later, watermark=NOW - 100 * SECOND, spooled_count=1204)
    with time_machine.travel(later, tick=False):
        page = staff_client.get(url).text

    assert (
        "Ingest node web-1 pid 13 has stored its check-ins only up to 09:58:20 UTC and has 1,204 in its spool" in page
    )
    assert page.count('id="reasons"') == 1


def test_shards_that_are_behind_are_listed(url, staff_client, clock):
    factories.ShardClockFactory._meta.model.objects.filter(shard=1, kind="missed").update(position=NOW - 3 * MINUTE)

    page = staff_client.get(url).text

    assert "The clock waits at 09:57 UTC, 3 minutes behind: shard 1 is behind: workers are busy." in page
    assert "1 of 6 clocks are behind 10:00 UTC" in page
    assert "<td" in page.partition("Clocks that are behind")[2].partition("</table>")[0]


def test_clock_incidents_are_listed_with_who_was_told(url, staff_client, now):
    factories.ClockIncidentFactory(started_at=NOW - 5 * MINUTE, ended_at=None, summarised_at=None, cause="volume")
    factories.ClockIncidentFactory(started_at=NOW - 60 * MINUTE, told_at=NOW - 50 * MINUTE)
    factories.ClockIncidentFactory(started_at=NOW - 90 * MINUTE, environment_count=0, unknown_count=0)
    factories.ClockIncidentFactory(started_at=NOW - 99 * MINUTE)
    factories.TickFactory(at=NOW)

    page = staff_client.get(url).text

    listed = page.partition("The latest clock incidents")[2].partition("</table>")[0]
    assert [listed.count(words) for words in (">ongoing<", ">not yet<", ">nobody<", ">not sent<")] == [1, 1, 1, 1]
    assert "Watchclock may be deaf (far fewer check-ins than usual)" in page


def test_the_page_can_be_read_aloud(url, staff_client, clock, now):
    """One first heading; every table has a caption and headers with a scope; every sign says what it means."""
    factories.IngestNodeFactory(state="left")
    content = staff_client.get(url).text.partition('id="clock"')[2]

    assert content.count("<h1") == 1
    assert content.count("<table") == content.count("<caption") >= 4
    assert "<th>" not in content
    assert all("scope=" in header for header in re.findall(r"<th\s[^>]*>", content))
    strip = content.partition('id="strip"')[2].partition("</table>")[0]
    signs = re.findall(r'<span role="img" title="([^"]+)" aria-label="([^"]+)">(.)</span>', strip)
    assert len(signs) == 91
    assert all(title == spoken for title, spoken, _ in signs)


def test_a_list_of_ticks_can_be_narrowed_to_what_was_not_heard(staff_client):
    deaf = factories.TickFactory(is_listened=False)
    incident = factories.TickFactory(decision="incident", volume=3, deviation_percent=-97.0)
    undecided = factories.TickFactory(decision="abnormal", decided_at=None, finished_at=None)
    ticks = reverse("admin:clocktasks_tick_changelist")

    for heard, tick in (("deaf", deaf), ("incident", incident), ("undecided", undecided)):
        page = staff_client.get(ticks, {"heard": heard}).text
        shown = [one for one in (deaf, incident, undecided) if reverse_of(one) in page]
        assert shown == [tick]
    assert "-97 %" in staff_client.get(ticks).text


def reverse_of(tick):
    from django.contrib.admin.utils import quote

    return reverse("admin:clocktasks_tick_change", args=[quote(tick.pk)])


def test_a_list_of_clock_incidents_can_be_narrowed_to_the_one_that_goes_on(staff_client):
    factories.ClockIncidentFactory()
    factories.ClockIncidentFactory(ended_at=None, summarised_at=None)
    incidents = reverse("admin:clocktasks_clockincident_changelist")

    counts = {
        state: staff_client.get(incidents, {"state": state}).text.count(">ongoing</span>") for state in ("open", "over")
    }
    assert counts == {"open": 1, "over": 0}


# --- the strip and the plot -------------------------------------------------------------------------------------------


def row(minutes=0, **columns):
    at = NOW + minutes * MINUTE
    usual = {"volume": 100, "deviation_percent": 0.0, "decision": "normal", "is_listened": True}
    counts = {"missed_count": 0, "timeout_count": 0, "unknown_count": 0}
    stamps = {"dispatched_at": at, "decided_at": at, "finished_at": at}
    return TickFacts(**{"at": at} | stamps | usual | counts | columns)


@pytest.mark.parametrize(
    ("columns", "state", "title"),
    [
        ({"missed_count": 3}, TickState.FINISHED, "10:00: 100 check-ins (+0 %); finished; 3 missed"),
        ({"finished_at": None}, TickState.RUNNING, "10:00: 100 check-ins (+0 %); written, being applied"),
        (
            {"finished_at": None, "decided_at": None, "decision": "abnormal", "deviation_percent": -24.0},
            TickState.WAITING,
            "10:00: 100 check-ins (-24 %); waits for the decision about its volume",
        ),
        (
            {"decision": "incident", "unknown_count": 1204, "deviation_percent": None},
            TickState.INCIDENT,
            "10:00: 100 check-ins; too few check-ins were received: what fell due is unknown; 1,204 unknown",
        ),
        (
            {"is_listened": False, "volume": None, "deviation_percent": None, "finished_at": None},
            TickState.DEAF,
            "10:00: nobody listened: what fell due is unknown; not finished",
        ),
    ],
)
def test_a_minute_says_how_it_was(columns, state, title):
    cells = rows_of([row(**columns)], now=NOW)[-1][1]

    assert [(cell.state, cell.title) for cell in cells] == [(state, title)]


def test_the_strip_has_the_last_four_half_hours_up_to_now():
    rows = rows_of([row(-1), row(0)], now=NOW + 12 * MINUTE + 59 * SECOND)

    assert [f"{begin:%H:%M}" for begin, _ in rows] == ["08:30", "09:00", "09:30", "10:00"]
    assert [len(cells) for _, cells in rows] == [30, 30, 30, 13]
    assert legend_of(rows) == {TickState.FINISHED: 2, TickState.UNWRITTEN: 101}


def test_the_signs_differ_without_their_colours():
    assert len({state.sign for state in TickState}) == len(TickState)


def test_the_plot_shows_what_was_heard_and_what_was_expected():
    plot = plot_of(
        [
            row(2, volume=0, deviation_percent=-100.0, decision="incident"),
            row(1, volume=50, deviation_percent=-50.0),
            row(0),
        ]
    )

    assert plot is not None
    assert (plot.volume_max, plot.width, plot.height) == (100, 18, 60)
    assert [(bar.x, bar.y, bar.height, bar.expected_y) for bar in plot.bars] == [
        (0, 0.0, 60.0, 0.0),
        (6, 30.0, 30.0, 0.0),
        (12, 60.0, 0.0, None),
    ]
    assert [bar.is_low for bar in plot.bars] == [False, False, True]


@pytest.mark.parametrize("ticks", [[], [row(volume=None, is_listened=False, deviation_percent=None)], [row(volume=0)]])
def test_there_is_no_plot_of_nothing(ticks):
    assert plot_of(ticks) is None


# --- on the terminal --------------------------------------------------------------------------------------------------


def test_the_command_says_the_same_for_people(clock):
    status, text = ask()

    assert status == 0
    assert text.startswith("The clock is at 10:00 UTC, 30 seconds behind now, which is normal.")
    assert "web-1 pid 12" in text
    assert f"09:30 UTC {'✓' * 30}" in text


def test_the_command_says_it_for_machines_and_by_its_exit_status(clock):
    assert ask("--json")[0] == 0
    with time_machine.travel(NOW + 200 * SECOND, tick=False):
        status, text = ask("--json")

    answer = json.loads(text)
    assert status == 1
    assert (answer["at"], answer["behind_seconds"], answer["is_normal"]) == ("2026-01-05T10:00:00Z", 200.0, False)
    assert answer["reasons"][0].keys() == {"part", "severity", "is_bad", "what", "since", "todo"}
    assert answer["ticks"][0]["at"] == answer["decided_until"] == "2026-01-05T10:00:00Z"
    assert (answer["clocks"], answer["clocks_behind"]) == (6, [])
    assert answer["nodes"][0] | {"pid": 12, "spooled": 0, "state": "silent"} == answer["nodes"][0]
    assert answer["clock_incident"] is None


@pytest.mark.django_db
def test_the_command_names_a_clock_incident_that_goes_on(now):
    factories.ClockIncidentFactory(started_at=NOW - MINUTE, ended_at=None, summarised_at=None)

    assert json.loads(ask("--json")[1])["clock_incident"] == {"cause": "deaf", "started_at": "2026-01-05T09:59:00Z"}


@pytest.mark.django_db
def test_before_the_first_tick_the_command_says_what_is_missing(now):
    status, text = ask()

    assert status == 1
    assert text.startswith("The clock has no minute yet")


def test_without_postgres_the_command_says_so_in_a_line(monkeypatch, now):
    def away(now, **_):
        raise OperationalError("connection refused")

    monkeypatch.setattr(command, "read_overview", away)
    with pytest.raises(CommandError, match="PostgreSQL cannot be used: connection refused") as refused:
        call_command("clock")
    assert refused.value.returncode == 2
