"""A row that cannot be judged stands alone: its neighbours are judged, it is unknown and can be mended (D37)."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.urls import reverse

from checkins.editing import update_monitor
from checkins.models import CheckIn
from checkins.processing.apply import receive
from clocktasks.ledger import write_ticks
from clocktasks.shards import apply_ticks
from health.facts import Facts
from health.problems import find_problems
from health.queries import read_rows
from monitors.describing import describe
from monitors.models import Monitor, MonitorEnvironment
from monitors.schedule import Schedule, ScheduleType, read_schedule, why_unreadable, zone_to_show
from tests.factories import MonitorFactory, ProjectFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db


def at(time):
    return datetime.fromisoformat(f"2026-01-05T{time}").replace(tzinfo=UTC)


class Place:
    """A broken job and an innocent one in the same shard, both hourly, heard at 10:00."""

    def __init__(self, **broken):
        project = ProjectFactory()
        self.broken, self.innocent = (
            MonitorFactory(project=project, slug=slug, crontab="0 * * * *") for slug in ("broken", "innocent")
        )
        write_ticks(at("10:00"), now=at("10:00"))
        for monitor in (self.broken, self.innocent):
            receive([make_message("ok", monitor=monitor, at=at("10:00:05"))], now=at("10:00:05"))
        MonitorEnvironment.objects.update(shard=3)
        self.write(**broken)

    def write(self, **columns):
        """As a hand in the database does, which no form checks."""
        Monitor.objects.filter(pk=self.broken.pk).update(**columns)

    def clock(self, until):
        write_ticks(at(until), now=at(until))
        list(apply_ticks(3, until=at(until)))

    def says(self, monitor):
        rows = CheckIn.objects.filter(monitor_environment__monitor=monitor).exclude(status="ok").order_by("date_added")
        return [f"{row.date_added:%H:%M} {row.status}" for row in rows]

    @property
    def row(self):
        return MonitorEnvironment.objects.get(monitor=self.broken)


BROKEN = [
    pytest.param({"timezone": "America/Newtown"}, id="a zone of another tz database"),
    pytest.param({"timezone": ""}, id="no zone"),
    pytest.param({"timezone": "../etc/passwd"}, id="a path"),
    pytest.param({"crontab": "99 * * * *"}, id="a crontab that is none"),
    pytest.param({"crontab": ""}, id="an empty crontab"),
]


@pytest.mark.parametrize("columns", BROKEN)
def test_d37_its_slot_is_unknown_and_its_neighbour_is_judged(columns):
    place = Place(**columns)
    place.clock("11:30")
    assert place.says(place.broken) == ["11:00 unknown"]
    assert place.says(place.innocent) == ["11:00 missed"]
    assert place.row.status == "ok"


@pytest.mark.parametrize("columns", BROKEN)
def test_d37_the_slots_until_its_repair_are_unknown_and_those_after_it_are_judged(columns):
    place = Place(**columns)
    place.clock("13:30")
    assert place.says(place.broken) == ["11:00 unknown"]
    update_monitor(place.broken.pk, {"timezone": "UTC", "crontab": "0 * * * *"}, now=at("13:30:20"))
    assert f"{place.row.next_checkin:%H:%M}" == "14:00"
    place.clock("14:10")
    assert place.says(place.broken) == ["11:00 unknown", "12:00 unknown", "13:00 unknown", "14:00 missed"]
    assert place.row.unjudged_until is None
    assert place.row.status == "error"


def test_d37_a_zone_that_is_known_again_by_itself_is_judged_again(monkeypatch):
    place = Place(timezone="America/Newtown")
    place.clock("12:30")
    place.write(timezone="UTC")
    place.clock("14:10")
    assert place.says(place.broken) == ["11:00 unknown", "12:00 unknown", "13:00 missed", "14:00 missed"]


def test_d37_check_ins_are_stored_meanwhile_and_count():
    place = Place(timezone="America/Newtown")
    place.clock("11:30")
    [outcome] = receive([make_message("error", monitor=place.broken, at=at("11:40"))], now=at("11:40"))
    assert outcome.accepted
    place.clock("11:40")
    for start in ("11:45", "12:05"):
        receive([make_message("in_progress", monitor=place.broken, at=at(start))], now=at(start))
    assert place.says(place.broken) == ["11:00 unknown", "11:40 error", "11:45 in_progress"]
    assert place.row.status == "error"


def test_d37_what_is_served_after_the_repair_is_not_unknown():
    place = Place(timezone="America/Newtown")
    place.clock("11:30")
    update_monitor(place.broken.pk, {"timezone": "UTC"}, now=at("11:59:50"))
    receive([make_message("ok", monitor=place.broken, at=at("12:00:10"))], now=at("12:00:10"))
    place.clock("12:30")
    assert place.says(place.broken) == ["11:00 unknown"]


def test_d37_a_schedule_that_never_comes_stops_nobody():
    place = Place(crontab="* 2 8-14 3 */7", timezone="America/New_York")
    place.clock("11:30")
    assert place.says(place.innocent) == ["11:00 missed"]
    assert place.row.pending_slot is None


def test_d37_the_finding_names_it():
    place = Place(timezone="America/Newtown")
    place.clock("11:30")
    rows = read_rows(at("11:30"))
    assert [name for name, _ in rows.unjudged] == [f"broken of {place.broken.project.slug}"]
    facts = Facts(now=at("11:30"), watched_since=at("11:30"), rows=rows)
    [finding] = [finding for finding in find_problems(facts) if "not judged" in finding.what]
    assert "America/Newtown" in finding.what
    assert "Admin" in finding.todo


@pytest.mark.parametrize("columns", BROKEN)
def test_d37_the_admin_shows_it_in_red_and_mends_it(columns, admin_client):
    place = Place(**columns)
    place.clock("11:30")
    reason = why_unreadable(Monitor.objects.get(pk=place.broken.pk).schedule())
    for url in (
        reverse("admin:monitors_monitor_changelist"),
        reverse("admin:monitors_monitor_change", args=[place.broken.pk]),
        reverse("admin:monitors_monitorenvironment_changelist"),
        reverse("admin:monitors_monitorenvironment_change", args=[place.row.pk]),
        reverse("admin:checkins_checkin_changelist"),
        reverse("admin:checkins_checkin_change", args=[CheckIn.objects.filter(status="unknown").get().pk]),
    ):
        page = admin_client.get(url)
        assert page.status_code == 200, url
        if "monitors_monitor/" in url or "/monitor/" in url:
            assert reason.split("'")[0] in page.content.decode()
            assert "text-red-700" in page.content.decode()
    typed = {
        "slug": "broken",
        "name": "broken",
        "status": "active",
        "severity": "error",
        "tags": "",
        "owner": "",
        "schedule_type": "crontab",
        "crontab": "0 * * * *",
        "interval": "",
        "interval_unit": "",
        "timezone": "UTC",
        "checkin_margin": 1,
        "max_runtime": 30,
        "failure_threshold": 1,
        "recovery_threshold": 1,
    }
    answer = admin_client.post(reverse("admin:monitors_monitor_change", args=[place.broken.pk]), typed)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert why_unreadable(Monitor.objects.get(pk=place.broken.pk).schedule()) == ""


def test_d37_a_row_whose_constraint_was_taken_away_can_be_read_and_says_what_is_wrong():
    assert "interval_unit None" in why_unreadable(read_schedule("interval", None, 5, "fortnight", "UTC"))
    assert "interval None" in why_unreadable(read_schedule("interval", None, None, "day", "UTC"))
    assert "crontab ''" in why_unreadable(read_schedule("crontab", None, None, None, "UTC"))
    broken = Schedule(ScheduleType.CRONTAB, "* * * * *", None, None, "America/Newtown")
    assert describe(broken) == why_unreadable(broken)
    assert zone_to_show("America/Newtown").key == "UTC"


def test_d37_an_interval_without_a_unit_in_the_row_stands_alone_too():
    place = Place()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE monitors_monitor DROP CONSTRAINT monitor_crontab_xor_interval")
    place.write(schedule_type="interval", crontab=None, interval=5, interval_unit="fortnight")
    place.clock("11:30")
    assert place.says(place.broken) == ["11:00 unknown"]
    assert place.says(place.innocent) == ["11:00 missed"]


def test_d37_a_crontab_that_a_hand_made_an_interval_has_no_anchor_and_is_judged():
    place = Place()
    place.write(schedule_type="interval", crontab=None, interval=1, interval_unit="hour")
    receive([make_message("in_progress", monitor=place.innocent, at=at("10:30"))], now=at("10:30"))
    receive([make_message("ok", monitor=place.broken, at=at("10:59:58"))], now=at("10:59:58"))
    place.clock("12:30")
    assert place.says(place.broken) == ["12:00 missed"]


@pytest.mark.parametrize("value", ["5", '{"first": 1}', '[{"first_slot": "yesterday"}]'])
def test_d37_what_cannot_be_read_of_what_was_served_ahead_is_forgotten(value):
    place = Place()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE monitors_monitorenvironment SET served_ahead = %s::jsonb", [value])
    place.clock("11:30")
    assert place.says(place.broken) == ["11:00 missed"]
    assert place.row.served_ahead is None


@pytest.mark.parametrize("value", ["[]", "5", '"text"'])
def test_d37_a_snapshot_that_cannot_be_read_breaks_no_page(value, admin_client):
    place = Place()
    snapshot = place.broken.config
    with connection.cursor() as cursor:
        cursor.execute("UPDATE monitors_configsnapshot SET config = %s::jsonb", [value])
    for url in (
        reverse("admin:checkins_checkin_change", args=[CheckIn.objects.latest("id").pk]),
        reverse("admin:monitors_configsnapshot_changelist"),
        reverse("admin:monitors_configsnapshot_change", args=[snapshot.pk]),
    ):
        assert admin_client.get(url).status_code == 200
