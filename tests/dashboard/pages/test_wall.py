"""The wall: which rows, in which order, with which cells."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from dashboard.pages.wall.cells import ORDER, SHAPES, bare_strip, covered, in_words, move_unknown, strip, worst
from dashboard.pages.wall.filters import Filters, read_filters
from dashboard.pages.wall.ranges import RANGES
from dashboard.pages.wall.strips import load_counts
from lib.wallclock import utcnow
from monitors.maintenance import Recurrence, Window
from monitors.models import MaintenanceWindow
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
MIDDAY = datetime(2026, 1, 5, 12, 20, tzinfo=UTC)


def names(response):
    return [row.name for row in response.context["rows"]]


@pytest.fixture
def make(monitor):
    """Make an environment of a new monitor of the project."""

    def make_row(name, *, environment="production", **columns):
        of_monitor = {str(key): columns.pop(key) for key in ("tags", "owner") if key in columns}
        of_monitor["status"] = columns.pop("monitor_status", "active")
        row = factories.MonitorFactory(project=monitor.project, name=name, **of_monitor)
        columns = {"status": "active"} | columns
        place = monitor.project.environments.filter(name=environment).first()
        return factories.MonitorEnvironmentFactory(
            monitor=row,
            environment=place or factories.EnvironmentFactory(project=monitor.project, name=environment),
            **columns,
        )

    return make_row


def soon():
    now = utcnow()
    return {"next_checkin": now, "pending_slot": now, "next_checkin_latest": now + timedelta(hours=1), "status": "ok"}


def test_what_fails_comes_first_and_what_is_disabled_last(as_role, make, monitor):
    monitor.name = "failing"
    monitor.save()
    make("b disabled", monitor_status="disabled")
    make("c new")
    make("z late", **soon())
    make("a muted", status="error", is_muted=True)
    assert names(as_role("viewer").get("/wall/")) == ["failing", "z late", "a muted", "c new", "b disabled"]


@pytest.mark.usefixtures("incident")
def test_rows_of_other_projects_are_not_there(stranger):
    assert names(stranger.get("/wall/")) == []
    answer = stranger.get("/wall/rows", {"from": 0, "live": 1})
    assert (names(answer), answer.context["counts"].all) == ([], 0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "BACK"}, ["backup"]),
        ({"q": "stag"}, ["import"]),
        ({"tag": "db"}, ["backup"]),
        ({"owner": "team:data"}, ["import"]),
        ({"env": "staging"}, ["import"]),
        ({"state": "failing"}, ["nightly"]),
        ({"state": "waiting"}, ["backup", "import"]),
        ({"state": "muted"}, ["import"]),
        ({"state": "nonsense", "range": "99y", "group": "x"}, ["nightly", "backup", "import"]),
        ({"q": "%"}, []),
    ],
)
def test_filters(as_role, make, monitor, query, expected):
    monitor.name = "nightly"
    monitor.save()
    make("backup", tags=["db"])
    make("import", environment="staging", owner="team:data", is_muted=True)
    assert names(as_role("viewer").get("/wall/", query)) == expected


def test_further_rows_are_read_by_number(as_role, make):
    client = as_role("viewer")
    for number in range(51):
        make(f"job {number:03}")
    first = client.get("/wall/")
    assert (len(first.context["rows"]), list(first.context["segments"])) == (50, [50])
    assert names(client.get("/wall/rows", {"from": 50})) == ["job 049", "job 050"]
    assert names(client.get("/wall/rows", {"from": 0, "segments": 10**17}))[49:] == ["job 048", "job 049", "job 050"]
    assert names(client.get("/wall/rows", {"from": 0, "segments": 0})) == []


def test_a_wall_that_is_live_is_told_the_counts_with_its_rows(as_role, make):
    client = as_role("viewer")
    make("late", **soon())
    answer = client.get("/wall/rows", {"from": 0, "live": 1, "q": "production"})
    assert names(answer)[1:] == ["late"]
    assert "2 rows: 1 failing, 1 late, 0 muted" in words(answer)
    assert 'id="counts"' not in client.get("/wall/rows", {"from": 0}).content.decode()


def test_a_row_leads_to_its_monitor_and_escapes_names(as_role, monitor, environment):
    monitor.name = '<b>"x"'
    monitor.save()
    page = as_role("viewer").get("/wall/").content.decode()
    assert '<b>"x"' not in page
    assert f'href="{reverse("monitor", args=[monitor.project.slug, monitor.slug])}?env=production"' in page


def test_hours_of_runs_are_summed_up_in_cells():
    environment = factories.MonitorEnvironmentFactory()
    start = RANGES["7d"].start(datetime(2026, 1, 8, 12, tzinfo=UTC))
    for hours, columns in ((0, {"ok": 2}), (2, {"error": 1, "ok": 1}), (3, {"missed": 4}), (400, {"ok": 1})):
        hour = start + timedelta(hours=hours)
        factories.RunHourFactory(monitor_environment=environment, hour=hour, **{"ok": 0} | columns)
    found = load_counts([environment.pk], RANGES["7d"], now=datetime(2026, 1, 8, 12, tzinfo=UTC))
    assert {cell: {k: n for k, n in counts.items() if n} for cell, counts in found[environment.pk].items()} == {
        0: {"ok": 3, "error": 1},
        1: {"missed": 4},
    }


def test_short_ranges_are_read_from_runs():
    environment = factories.MonitorEnvironmentFactory()
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    for minutes, status in ((1, "ok"), (1, "timeout"), (59, "ok"), (61, "ok")):
        factories.CheckInFactory(
            monitor_environment=environment, status=status, date_added=now - timedelta(minutes=minutes)
        )
    found = load_counts([environment.pk], RANGES["1h"], now=now)
    assert {cell: worst(counts) for cell, counts in found[environment.pk].items()} == {58: "timeout", 0: "ok"}


def cells_of(response, row):
    """What is in each cell of the row of an environment in which something is, by its number from the newest one on."""
    (found,) = [one for one in response.context["rows"] if one.id == row.pk]
    (told,) = re.findall('data-cells="[0-9]+ [0-9]+ ([a-z0-9,]*)"', found.strip)
    cells = told.split(",")
    return {
        len(cells) - 1 - number: {
            ORDER["abcdefgh".index(letter)]: int(n) for letter, n in re.findall(r"(.)(\d+)", cell)
        }
        for number, cell in enumerate(cells)
        if cell
    }


@pytest.fixture
def midday(monkeypatch):
    monkeypatch.setattr("dashboard.pages.wall.views.utcnow", lambda: MIDDAY)


@pytest.mark.usefixtures("midday")
def test_a_slot_that_is_waited_for_is_late_in_the_cell_of_its_time(as_role, make):
    now = MIDDAY
    row = make("late", pending_slot=now - timedelta(hours=2), next_checkin=now, next_checkin_latest=now)
    paused = make(
        "paused",
        monitor_status="disabled",
        pending_slot=now,
        next_checkin=now,
        next_checkin_latest=now + timedelta(hours=1),
    )
    old = make("old", pending_slot=now - timedelta(days=9), next_checkin=now, next_checkin_latest=now)
    page = as_role("viewer").get("/wall/")
    assert cells_of(page, row) == {2: {"late": 1}}
    assert cells_of(page, paused) == cells_of(page, old) == {}
    assert 'class="c-late"' in page.content.decode()


@pytest.fixture
def maintained(monitor, make):
    """Return an environment that was in a window two hours ago: two slots in it are unknown, and one an hour later."""
    now = MIDDAY
    factories.MaintenanceWindowFactory(
        project=monitor.project, starts_at=now - timedelta(hours=2), ends_at=now - timedelta(hours=2, minutes=-30)
    )
    row = make("maintained", created_at=now - timedelta(days=9))
    for hours, because, count in ((2, "maintained", 2), (1, None, 1)):
        for number in range(count):
            at = now - timedelta(hours=hours, minutes=-number)
            factories.CheckInFactory(
                monitor_environment=row, status="unknown", unknown_because=because, date_added=at, expected_time=at
            )
    return row


@pytest.mark.usefixtures("midday")
def test_what_is_unknown_in_maintenance_is_that_and_all_else_stays_unknown(as_role, maintained):
    client = as_role("viewer")
    found = cells_of(client.get("/wall/"), maintained)
    assert found == {2: {"maintenance": 2}, 1: {"unknown": 1}}
    few = cells_of(client.get("/wall/", {"range": "6h"}), maintained)
    assert {name: sum(cell.get(name, 0) for cell in few.values()) for name in ("maintenance", "unknown")} == {
        "maintenance": 2,
        "unknown": 1,
    }
    assert sum("maintenance" in cell for cell in few.values()) in (5, 6), "half an hour in cells of six minutes"


@pytest.mark.usefixtures("midday")
def test_a_window_of_another_environment_or_from_before_its_time_is_not_drawn(as_role, make, maintained):
    young = make("young", created_at=MIDDAY)
    found = cells_of(as_role("viewer").get("/wall/"), young)
    assert found == {}
    other = factories.EnvironmentFactory(project=maintained.monitor.project, name="staging")
    MaintenanceWindow.objects.update(environment=other)
    assert cells_of(as_role("viewer").get("/wall/"), maintained)[2] == {"unknown": 2}


def test_the_cells_of_a_window_that_recurs_are_found_in_few_steps():
    now = datetime(2026, 1, 8, 12, 30, tzinfo=UTC)
    often = Window("often", now - timedelta(days=900), None, Recurrence("* * * * *", "UTC", minutes=1))
    assert covered(often, RANGES["90d"], now=now) == frozenset(range(90))
    nightly = Window("nightly", now - timedelta(days=900), None, Recurrence("50 22 * * *", "UTC", minutes=20))
    # From the first hour of the range, 13:00 of the day before.
    assert covered(nightly, RANGES["24h"], now=now) == {9, 10}
    ahead = Window("ahead", now + timedelta(minutes=5), now + timedelta(minutes=9))
    assert covered(ahead, RANGES["24h"], now=now) == frozenset()


def test_hours_in_maintenance_say_what_was_unknown_in_them():
    cells = {3: {"unknown": 2, "ok": 1}, 4: {"unknown": 1}}
    move_unknown(cells, {3})
    assert cells == {3: {"maintenance": 2, "ok": 1}, 4: {"unknown": 1}}


@pytest.mark.parametrize("name", RANGES)
def test_the_last_cell_of_every_range_contains_now(name):
    now = datetime(2026, 3, 29, 1, 30, 15, tzinfo=UTC)
    shown = RANGES[name]
    last = shown.start(now) + (shown.cells - 1) * shown.cell
    assert last <= now < last + shown.cell


def test_a_cell_shows_the_worst_that_happened_in_it():
    told: list[dict[str, int]] = [
        {"ok": 9, "missed": 1},
        {"error": 1, "missed": 3},
        {"ok": 0},
        {},
        {"maintenance": 0},
        {"ok": 1, "late": 1},
    ]
    assert [worst(counts) for counts in told] == ["missed", "error", "", "", "maintenance", "late"]


def test_a_strip_says_for_a_script_when_its_cells_are_and_what_is_in_each():
    since = (datetime(2026, 1, 5, tzinfo=UTC), timedelta(hours=1))
    drawn = strip({0: {"ok": 12, "error": 1}, 2: {"maintenance": 0}}, 3, "all", since=since)
    assert f'data-cells="{int(since[0].timestamp())} 3600 a1h12,,f0"' in drawn
    assert [ORDER["abcdefgh".index(letter)] for letter in "ahf"] == ["error", "ok", "maintenance"]
    assert "tabindex" not in drawn
    assert 'tabindex="0"' in strip({}, 3, "all", since=since, is_large=True)


def test_a_strip_has_one_path_for_each_status_and_says_it_in_words():
    drawn = bare_strip(["ok", "", "ok", "missed"], "last hour: 2 ok & 1 missed")
    assert drawn.count("<path") == 2
    assert 'aria-label="last hour: 2 ok &amp; 1 missed"' in drawn
    assert in_words({"ok": 22, "missed": 2}, str) == "2 missed, 22 ok"


def test_each_status_has_a_shape_of_its_own_beside_its_colour():
    assert set(SHAPES) == set(ORDER)
    assert len(set(SHAPES.values())) == len(ORDER)


def test_the_filters_of_an_address_give_the_same_address_again():
    query = {"q": "a b", "project": "shop", "state": "late", "range": "7d"}
    assert read_filters(query).query() == "q=a+b&project=shop&state=late&range=7d"
    assert Filters().query() == ""


def test_an_incident_shows_up_without_any_hour_of_runs(as_role):
    page = as_role("viewer").get("/wall/", {"range": "1h"})
    assert "nothing happened" in page.content.decode()
    assert "1 row: 1 failing" in words(page)


def test_each_group_has_a_heading_also_where_further_rows_go_on_with_it(as_role, make, monitor):
    client = as_role("viewer")
    for number in range(50):
        make(f"job {number:02}")
    for number in range(2):
        make(f"try {number}", environment="staging")

    def headings(address, **query):
        return [(row.name, row.heading) for row in client.get(address, query).context["rows"] if row.heading]

    assert headings("/wall/", group="environment") == [(monitor.name, "production")]
    assert headings("/wall/rows", group="environment", **{"from": 50}) == [("try 0", "staging")]
    assert headings("/wall/") == []
    assert f"<h2>{monitor.project.name}</h2>" in client.get("/wall/", {"group": "project"}).content.decode()


def test_projects_of_one_name_are_groups_of_their_own(monitor):
    other = factories.MonitorEnvironmentFactory(monitor__project__name=monitor.project.name, status="error")
    factories.MonitorEnvironmentFactory(monitor__project=monitor.project, status="error")
    user = factories.MembershipFactory(project=monitor.project).user
    factories.MembershipFactory(project=other.monitor.project, user=user)
    rows = client_of(user).get("/wall/", {"group": "project"}).context["rows"]
    assert [bool(row.heading) for row in rows].count(True) == 2


def test_a_narrow_screen_has_24_cells_for_the_same_length_of_time(as_role):
    client = as_role("viewer")
    wide = client.get("/wall/", {"range": "90d"}).context["filters"].range
    client.cookies["watchclock_narrow"] = "1"
    narrow = client.get("/wall/", {"range": "90d"}).context["filters"].range
    assert (wide.cells, narrow.cells) == (90, 24)
    assert wide.cells * wide.cell == narrow.cells * narrow.cell
    assert client.get("/wall/rows", {"from": 0, "range": "90d"}).content.decode().count('viewBox="0 0 216 16"') == 1


@pytest.mark.parametrize("name", RANGES)
def test_narrow_cells_are_whole_hours_where_hours_are_summed_up(name):
    wide, narrow = RANGES[name], RANGES[name].narrow()
    assert narrow.cells <= 24
    assert narrow.cells * narrow.cell == wide.cells * wide.cell
    assert narrow.from_runs or not narrow.cell % timedelta(hours=1)


@pytest.mark.parametrize("count", [1, 40])
def test_there_are_at_most_ten_statements(as_role, monitor, make, django_assert_max_num_queries, count):
    client = as_role("viewer")
    # Of all windows, those of a tag take most.
    begin = utcnow().replace(second=0, microsecond=0) - timedelta(hours=1)
    factories.MaintenanceWindowFactory(project=monitor.project, tag="db", starts_at=begin)
    for number in range(count):
        make(f"job {number}", tags=["db"])
    with django_assert_max_num_queries(10):
        client.get("/wall/")
    with django_assert_max_num_queries(10):
        client.get("/wall/rows", {"from": 0, "segments": 4, "live": 1})
