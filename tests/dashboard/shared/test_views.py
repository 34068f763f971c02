"""Status pages, badges and TV views, as somebody without an account gets them."""

from datetime import timedelta

import pytest
from django.test import Client

from dashboard.shared import views
from dashboard.shared.kept import RENEW_SECONDS
from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer():
    return Client()


@pytest.fixture
def project():
    return factories.ProjectFactory()


def environment(project, name, *, status="ok", place="production", **of_monitor):
    monitor = factories.MonitorFactory(
        project=project, name=name, created_at=utcnow() - timedelta(days=9), **of_monitor
    )
    found = project.environments.filter(name=place).first()
    return factories.MonitorEnvironmentFactory(
        monitor=monitor, status=status, environment=found or factories.EnvironmentFactory(project=project, name=place)
    )


def fail(row, *, ago, until=None):
    now = utcnow()
    return factories.IncidentFactory(
        monitor_environment=row,
        issue=None,
        started_at=now - ago,
        resolved=until is not None,
        **({} if until is None else {"resolved_at": now - until}),
    )


def page_of(viewer, **columns):
    link = factories.ShareLinkFactory(**columns)
    return viewer.get(f"/s/{link.address}/")


def test_what_fails_is_first_with_its_history_and_its_incidents(viewer, project):
    environment(project, "archive")
    broken = environment(project, "backup", status="error")
    fail(broken, ago=timedelta(hours=3))
    fail(broken, ago=timedelta(days=3), until=timedelta(days=2, hours=23))
    factories.TickFactory(at=utcnow().replace(second=0, microsecond=0))
    page = page_of(viewer, project=project, title="The shop")
    shown = words(page)
    assert "1 of 2 fails" in shown
    assert shown.index("backup") < shown.index("archive")
    assert "100.00 %" in shown
    assert "out of date" not in shown
    assert "with an incident" in page.content.decode()
    assert "open backup since" in shown
    assert "resolved backup" in shown


def test_a_page_without_a_clock_says_that_it_may_be_out_of_date(viewer, project):
    environment(project, "backup")
    assert "may be out of date" in words(page_of(viewer, project=project))


def test_maintenance_now_and_later_is_shown_and_what_is_over_is_not(viewer, project):
    environment(project, "backup", tags=["db"])
    now = utcnow().replace(second=0, microsecond=0)
    hour = timedelta(hours=1)
    for name, start in (("past", -5), ("present", -0.5), ("to come", 24), ("far away", 24 * 40)):
        begin = (now + start * hour).replace(second=0)
        factories.MaintenanceWindowFactory(project=project, tag="db", name=name, starts_at=begin)
    factories.MaintenanceWindowFactory(project=project, tag="web", name="elsewhere", starts_at=now + hour)
    shown = words(page_of(viewer, project=project, tags=["db"]))
    assert "Maintenance is in progress" in shown
    assert "maintenance present" in shown
    assert "to come" in shown
    for name in ("past", "far away", "elsewhere"):
        assert name not in shown


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, {"backup", "import", "web"}),
        ({"tags": ["db", "nothing"]}, {"backup"}),
        ({"environment": "staging"}, {"import"}),
        ({"tags": ["nothing"]}, set()),
    ],
)
def test_a_page_is_about_the_project_or_some_tags_or_one_environment(viewer, project, columns, expected):
    environment(project, "backup", tags=["db"])
    environment(project, "import", place="staging")
    environment(project, "web", tags=["front"])
    environment(factories.ProjectFactory(), "foreign")
    page = page_of(viewer, project=project, **columns)
    shown = words(page)
    assert {name for name in ("backup", "import", "web", "foreign") if name in shown} == expected


def test_disabled_and_deleted_monitors_are_not_there(viewer, project):
    for status in ("disabled", "pending_deletion"):
        factories.MonitorFactory(project=project, name=f"job {status}", status=status)
    assert "job" not in words(page_of(viewer, project=project, title="The shop"))


def test_nothing_that_strangers_must_not_see_is_on_any_of_them(viewer, project):
    row = environment(project, "backup", status="error", owner="team:secret-owner", slug="secret-slug")
    incident = factories.IncidentFactory(monitor_environment=row, started_at=utcnow() - timedelta(hours=1))
    factories.OccurrenceFactory(incident=incident)
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=b"secret-log")
    key = factories.IngestKeyFactory(project=project)
    link = factories.ShareLinkFactory(project=project)
    badge = factories.ShareLinkFactory(project=project, kind="badge")
    for address in (f"/s/{link.address}/", f"/b/{badge.address}.svg", f"/b/{badge.address}.json"):
        shown = viewer.get(address).content.decode()
        assert "secret" not in shown
        assert str(row.monitor.guid) not in shown
        assert key.public_key not in shown


def test_names_of_monitors_and_windows_are_escaped(viewer, project):
    environment(project, "<b>job</b>")
    factories.MaintenanceWindowFactory(
        project=project, name="<b>window</b>", starts_at=utcnow().replace(second=0, microsecond=0)
    )
    badge = factories.ShareLinkFactory(project=project, kind="badge", title="<b>badge</b>")
    assert "<b>" not in page_of(viewer, project=project, title="<b>page</b>").content.decode()
    assert "<b>" not in viewer.get(f"/b/{badge.address}.svg").content.decode()


@pytest.mark.parametrize("of", ["monitor", "tag", "project"])
def test_badges_of_a_monitor_a_tag_and_a_project(viewer, project, of):
    broken = environment(project, "backup", status="error", tags=["db"])
    environment(project, "archive", tags=["db"])
    environment(project, "web")
    columns = {"monitor": {"monitor": broken.monitor}, "tag": {"tags": ["db"]}, "project": {}}[of]
    link = factories.ShareLinkFactory(project=project, kind="badge", **columns)
    said = viewer.get(f"/b/{link.address}.json")
    expected = {"monitor": "failing", "tag": "1 of 2 failing", "project": "1 of 3 failing"}[of]
    assert said.json()["message"] == expected
    assert said["Access-Control-Allow-Origin"] == "*"
    drawn = viewer.get(f"/b/{link.address}.svg")
    assert drawn["Content-Type"].startswith("image/svg+xml")
    assert expected in drawn.content.decode()


def test_a_tv_shows_rows_of_the_wall_and_since_when_they_fail(viewer, project):
    fail(environment(project, "backup", status="error"), ago=timedelta(hours=3, seconds=5))
    environment(project, "archive")
    link = factories.ShareLinkFactory(project=project, kind="tv")
    page = viewer.get(f"/tv/{link.address}/")
    assert "1 failing" in words(page)
    assert "failing backup production 3 hours" in words(page)
    assert page["Cache-Control"] == "no-cache"
    assert "may be out of date: nothing has been checked yet" in words(page)


def test_a_tv_says_when_the_clock_is_late(viewer, project):
    link = factories.ShareLinkFactory(project=project, kind="tv")
    minute = utcnow().replace(second=0, microsecond=0)
    factories.TickFactory(at=minute - timedelta(minutes=20))
    assert "may be out of date: the newest check was at" in words(viewer.get(f"/tv/{link.address}/"))
    factories.TickFactory(at=minute)
    other = factories.ShareLinkFactory(project=project, kind="tv")
    assert "out of date" not in words(viewer.get(f"/tv/{other.address}/"))


def test_a_view_after_the_first_needs_no_statement(viewer, project, clock, django_assert_num_queries):
    environment(project, "backup")
    links = {kind: factories.ShareLinkFactory(project=project, kind=kind).address for kind in ("status", "badge", "tv")}
    addresses = (f"/s/{links['status']}/", f"/b/{links['badge']}.svg", f"/tv/{links['tv']}/")
    for address in addresses:
        viewer.get(address)
    with django_assert_num_queries(0):
        for _ in range(20):
            for address in addresses:
                assert Client().get(address).status_code == 200
    clock.now += RENEW_SECONDS
    with django_assert_num_queries(1):  # Nothing has changed: the mark is read, for all of them.
        for address in addresses:
            viewer.get(address)


@pytest.mark.parametrize("count", [1, 30])
def test_a_page_costs_a_fixed_number_of_statements(viewer, project, django_assert_num_queries, count):
    for number in range(count):
        fail(environment(project, f"job {number}", status="error"), ago=timedelta(hours=1))
    link = factories.ShareLinkFactory(project=project)
    with django_assert_num_queries(7):
        viewer.get(f"/s/{link.address}/")


def test_a_page_that_has_not_changed_is_not_sent_again(viewer, project):
    link = factories.ShareLinkFactory(project=project)
    first = viewer.get(f"/s/{link.address}/")
    again = viewer.get(f"/s/{link.address}/", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again["Cache-Control"] == first["Cache-Control"] == "public, max-age=15"


def test_a_changed_state_is_shown_after_two_seconds(viewer, project, clock):
    row = environment(project, "backup")
    link = factories.ShareLinkFactory(project=project, kind="badge")
    assert viewer.get(f"/b/{link.address}.json").json()["message"] == "ok"
    row.status = "error"
    row.save()
    factories.TickFactory(at=utcnow().replace(second=0, microsecond=0))
    assert viewer.get(f"/b/{link.address}.json").json()["message"] == "ok"
    clock.now += RENEW_SECONDS
    assert viewer.get(f"/b/{link.address}.json").json()["message"] == "failing"


def test_only_a_public_page_may_be_found_by_search_engines(viewer, project):
    public = page_of(viewer, project=project, is_public=True, address="the-shop")
    assert public.status_code == 200
    assert "noindex" not in public.content.decode()
    assert "X-Robots-Tag" not in public
    assert "noindex" in page_of(viewer, project=project)["X-Robots-Tag"]


@pytest.mark.parametrize(
    "address", ["/s/nothing/", "/s/%00/", f"/b/{'0' * 32}.svg", "/b/x.json", "/tv/../", "/tv/%F0%9F%98%80/"]
)
def test_addresses_that_nobody_shared_show_nothing(viewer, project, address):
    factories.ShareLinkFactory(project=project, kind="status", address="0" * 32)
    assert viewer.get(address).status_code == 404


def test_an_address_takes_no_other_method(viewer, project):
    link = factories.ShareLinkFactory(project=project)
    assert viewer.post(f"/s/{link.address}/").status_code == 405


def test_an_address_that_is_guessed_holds_up_nobody_who_renders(viewer, monkeypatch):
    def reached(*_):
        raise AssertionError("it waits for what is rendered")

    monkeypatch.setattr(views.SHELF, "get", reached)
    assert viewer.get(f"/s/{'0' * 32}/").status_code == 404
