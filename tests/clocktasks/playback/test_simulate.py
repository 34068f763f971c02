"""Stories in virtual time: every scenario of the project, and the command that runs them for people and programs."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from clocktasks.playback.compare import align
from clocktasks.playback.play import run_scenario
from clocktasks.playback.scenario import (
    CheckInEvent,
    CheckInRow,
    DeafEvent,
    EndMaintenanceEvent,
    Expectation,
    MaintenanceEvent,
    MonitorSetup,
    Scenario,
    ScenarioError,
    SetEvent,
    parse_scenarios,
)
from project.local.children import BASE_DIR
from tests.waiting import PATIENCE_SECONDS

SCENARIOS = BASE_DIR / "tests" / "scenarios"


@pytest.fixture(autouse=True)
def always_listening():
    """A story says itself who listens, and when."""


def read_all() -> list[Scenario]:
    stories = []
    for file in sorted(SCENARIOS.glob("*.jsonl")):
        with file.open("rb") as lines:
            stories += parse_scenarios(lines, file=file.name)
    return stories


@pytest.mark.parametrize("scenario", read_all(), ids=lambda scenario: scenario.name)
def test_it_happens_as_told(scenario, db):
    outcome = run_scenario(scenario)
    assert outcome.passed, "\n".join(difference.message for difference in outcome.differences)


def test_every_story_has_a_name_of_its_own():
    names = [scenario.name for scenario in read_all()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("decision", [1, *range(5, 14), 16, 18, 20])
def test_every_decision_that_a_scenario_can_show_has_one(decision):
    assert any(scenario.name.startswith(f"D{decision}: ") for scenario in read_all())


def test_the_example_in_the_documentation_is_a_scenario_that_passes(db):
    page = (SCENARIOS.parent.parent / "docs" / "reference" / "scenarios.md").read_text()
    example = json.loads(page.partition("```json\n")[2].partition("```")[0])
    assert run_scenario(parsed(example)).passed


@pytest.mark.parametrize(
    "struct",
    [
        Scenario,
        MonitorSetup,
        CheckInEvent,
        SetEvent,
        DeafEvent,
        MaintenanceEvent,
        EndMaintenanceEvent,
        Expectation,
        CheckInRow,
    ],
)
def test_every_key_is_documented(struct):
    page = (SCENARIOS.parent.parent / "docs" / "reference" / "scenarios.md").read_text()
    assert [key for key in struct.__struct_encode_fields__ if f"`{key}`" not in page] == []


@pytest.mark.long
def test_a_story_needs_one_command_also_where_nothing_runs(tmp_path):
    """No settings, no instance of `make run`: it has a PostgreSQL of its own for as long as it takes."""
    story = tmp_path / "story.jsonl"
    story.write_text((SCENARIOS / "reported.jsonl").read_text().partition("\n")[0])
    ours = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE"}
    told = subprocess.run(
        [sys.executable, "manage.py", "simulate", str(story)],
        cwd=BASE_DIR,
        env={name: value for name, value in os.environ.items() if name not in ours}
        | {"WATCHCLOCK_HOME": str(tmp_path / "nothing")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.endswith("1 of 1 scenarios as expected\n")
    assert not (tmp_path / "nothing").exists()


# --- a scenario that is told wrong must not pass ----------------------------------------------------------------------

MONITOR = {"slug": "job", "schedule_type": "crontab", "schedule": "0 * * * *", "environments": ["production"]}
EVENTS = [
    {"at": "2026-01-05T10:00:20Z", "action": "checkin", "monitor": "job", "status": "error"},
    {"at": "2026-01-05T11:01:00Z", "action": "tick"},
]


def told(*, expect=(), **changes):
    return {"name": "told", "monitors": [MONITOR], "events": EVENTS, "expect": list(expect)} | changes


def parsed(story):
    (scenario,) = parse_scenarios([json.dumps(story).encode()], file="told.jsonl")
    return scenario


def differences(expectation):
    outcome = run_scenario(parsed(told(expect=[{"after_event": 1} | expectation])))
    return [(difference.key, difference.expected, difference.got) for difference in outcome.differences]


def test_what_is_as_expected_is_no_difference(db):
    expectation = {
        "environment_status": "error",
        "next_checkin": "2026-01-05T12:00:00Z",
        "next_checkin_latest": "2026-01-05T12:01:00Z",
        "open_incidents": 1,
        "resolved_incidents": 0,
        "occurrences": 2,
    }
    assert differences({key: {"job/production": value} for key, value in expectation.items()}) == []


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("environment_status", "ok"),
        ("next_checkin", "2026-01-05T12:01:00Z"),
        ("next_checkin_latest", None),
        ("open_incidents", 0),
        ("open_incidents", None),
        ("resolved_incidents", 1),
        ("occurrences", 1),
    ],
)
def test_a_wrong_value_in_a_map_is_a_difference(db, key, wrong):
    assert [found[0] for found in differences({key: {"job/production": wrong}})] == [key]


ROWS = [
    {"monitor": "job", "environment": "production", "status": "error", "date_added": "2026-01-05T10:00:20Z"},
    {"status": "missed", "date_added": "2026-01-05T11:00:00Z", "expected_time": "2026-01-05T11:00:00Z"},
]


@pytest.mark.parametrize("rows", [ROWS, [{}, {}], [{"duration_ms": None}, {"status": "missed"}]])
def test_only_what_is_given_of_a_check_in_is_compared(db, rows):
    assert differences({"checkins": rows}) == []


@pytest.mark.parametrize(
    "rows",
    [
        [],
        ROWS[:1],
        ROWS[::-1],
        [*ROWS, {}],
        [ROWS[0] | {"status": "ok"}, ROWS[1]],
        [ROWS[0] | {"date_added": "2026-01-05T10:00:21Z"}, ROWS[1]],
        [ROWS[0] | {"environment": "staging"}, ROWS[1]],
        [ROWS[0], ROWS[1] | {"expected_time": None}],
        [ROWS[0] | {"duration_ms": 0}, ROWS[1]],
    ],
)
def test_check_ins_are_compared_as_a_complete_ordered_list(db, rows):
    assert [found[0] for found in differences({"checkins": rows})] == ["checkins"]


def test_an_environment_that_does_not_exist_is_a_difference(db):
    wanted = {"environment_status": {"job/moon": "ok"}, "open_incidents": {"nobody/production": 1}}
    assert differences(wanted) == [("environment_status", "ok", None), ("open_incidents", 1, 0)]


def test_nothing_may_be_expected_of_an_environment_that_does_not_exist(db):
    assert differences({"environment_status": {"job/moon": None}, "open_incidents": {"nobody/production": 0}}) == []


def test_an_expectation_is_about_its_own_event(db):
    before = {"after_event": 0, "occurrences": {"job/production": 1}, "checkins": [{"status": "error"}]}
    after = {"after_event": 1, "occurrences": {"job/production": 2}, "checkins": [{}, {"status": "missed"}]}
    assert run_scenario(parsed(told(expect=[after, before]))).passed


def test_an_edit_of_a_monitor_that_is_not_there_is_a_difference(db):
    edit = {"at": "2026-01-05T10:00:00Z", "action": "set", "monitor": "nobody", "is_muted": True}
    outcome = run_scenario(parsed(told(events=[edit])))
    assert [difference.message for difference in outcome.differences] == [
        "set: there is no monitor 'nobody' at that time"
    ]


def test_alignment_shows_where_two_lists_part():
    ok, error, missed = (CheckInRow(status=status) for status in ("ok", "error", "missed"))
    rows = align([ok, missed, ok], [ok, error, ok, missed])
    assert [(mark, row.status) for mark, row in rows] == [
        (" ", "ok"),
        ("-", "missed"),
        ("+", "error"),
        (" ", "ok"),
        ("+", "missed"),
    ]


# --- files that are not scenario files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "where"),
    [
        (told(surprise=1), ": Object contains unknown field `surprise`"),
        (told(events=[EVENTS[0] | {"statuss": "ok"}]), ", events[0]: Object contains unknown field `statuss`"),
        (told(events=[EVENTS[0] | {"at": "2026-01-05T10:00:20"}]), ", events[0].at: "),
        (told(events=[EVENTS[0] | {"action": "ping"}]), ", events[0].action: Invalid value 'ping'"),
        (told(events=[]), ": events is empty"),
        (told(monitors=[MONITOR | {"checkin_margin": 40_321}]), ", monitors[0].checkin_margin: "),
        (told(monitors=[MONITOR | {"schedule": "61 * * * *"}]), ", monitors[0]: crontab '61 * * * *' cannot be used"),
        (
            told(monitors=[MONITOR | {"schedule_type": "interval"}]),
            ", monitors[0]: schedule_type 'interval' does not fit",
        ),
        (told(monitors=[MONITOR | {"timezone": "Mars/Base"}]), ", monitors[0]: timezone 'Mars/Base' cannot be used"),
        (told(monitors=[{"slug": "job"}]), ", monitors[0]: schedule is missing"),
        (told(monitors=[MONITOR, MONITOR]), ": monitors[1].slug 'job' is there twice"),
        (told(expect=[{"after_event": 2}]), ": expect[0].after_event 2 is not the index of an event, which are 0 to 1"),
        (told(expect=[{"after_event": 0, "chekins": []}]), ", expect[0]: Object contains unknown field `chekins`"),
        (told(expect=[{"after_event": 0, "checkins": [{"state": "ok"}]}]), ", expect[0].checkins[0]: "),
        (
            told(events=[{"action": "set", "at": "2026-01-05T10:00:00Z", "monitor": "job"}]),
            ", events[0]: set changes nothing",
        ),
        ([], ": Expected `object`, got `array`"),
    ],
)
def test_the_line_and_the_field_are_named(story, where):
    lines = [b"\n", json.dumps(told()).encode(), json.dumps(story).encode()]
    with pytest.raises(ScenarioError) as caught:
        parse_scenarios(lines, file="stories.jsonl")
    assert str(caught.value).startswith(f"stories.jsonl, line 3{where}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"name": ', "stories.jsonl, line 1: Input data was truncated"),
        (b"# Stories\n", "stories.jsonl, line 1: JSON is malformed"),
        (b'{"name": "\xff"}', "stories.jsonl, line 1: not text in UTF-8"),
        (b"\n \n", "stories.jsonl holds no scenario"),
        (b"", "stories.jsonl holds no scenario"),
    ],
)
def test_the_command_exits_with_2_for_what_is_no_scenario_file(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("stories.jsonl").write_bytes(content)
    with pytest.raises(CommandError, match=message) as caught:
        call_command("simulate", "stories.jsonl")
    assert caught.value.returncode == 2


def test_the_command_exits_with_2_for_a_file_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.jsonl"
    with pytest.raises(CommandError, match=r"missing\.jsonl cannot be read: No such file or directory") as caught:
        call_command("simulate", str(missing))
    assert caught.value.returncode == 2


# --- the command, in a database of its own ----------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, django_db_setup, django_db_blocker):
    """Run the command on stories; returns its standard output and exit status."""

    def run(*stories, **options):
        file = tmp_path / "stories.jsonl"
        file.write_text("\n".join(json.dumps(story) for story in stories))
        output = io.StringIO()
        status: int | str | None = 0
        with django_db_blocker.unblock():
            try:
                call_command("simulate", str(file), stdout=output, **options)
            except SystemExit as left:
                status = left.code
            finally:
                connection.close()
        return output.getvalue(), status

    return run


def databases() -> set[str]:
    """The databases whose names begin with this test database's: other runs on this server do not matter."""
    settings = connection.settings_dict
    address = {key: settings[key.upper()] for key in ("host", "port", "user", "password")}
    with psycopg.connect(dbname="postgres", **address) as server:
        found = {name for (name,) in server.execute("SELECT datname FROM pg_database")}
    return {name for name in found if name.startswith(settings["NAME"])}


RIGHT = told(name="right", expect=[{"after_event": 1, "occurrences": {"job/production": 2}}])
WRONG = told(
    name="wrong",
    expect=[
        {"after_event": 0, "environment_status": {"job/production": "ok"}},
        {"after_event": 1, "checkins": [{"status": "error"}, {"status": "ok"}]},
    ],
)


def test_people_see_a_line_for_each_story_and_what_differs_in_it(command):
    configured = connection.settings_dict["NAME"]
    before = databases()
    output, status = command(RIGHT, WRONG, RIGHT)
    assert output.splitlines() == [
        "✓ right",
        "✗ wrong",
        "    after event 0 (checkin 2026-01-05 10:00:20): "
        "environment_status of job/production: expected ok, found error",
        "    after event 1 (tick 2026-01-05 11:01:00): check-ins (- expected, + found):",
        "        monitor job, environment production, status error, expected_time nothing, "
        "date_added 2026-01-05T10:00:20Z, duration_ms nothing, unknown_because nothing, limit_broken nothing",
        "      - status ok",
        "      + monitor job, environment production, status missed, expected_time 2026-01-05T11:00:00Z, "
        "date_added 2026-01-05T11:00:00Z, duration_ms nothing, unknown_because nothing, limit_broken nothing",
        "✓ right",
        "2 of 3 scenarios as expected",
    ]
    assert status == 1
    assert connection.settings_dict["NAME"] == configured
    assert databases() == before


def test_programs_get_one_object_for_each_story_with_its_final_state(command):
    output, status = command(RIGHT, WRONG, json=True)
    right, wrong = (json.loads(line) for line in output.splitlines())
    assert status == 1
    assert right == {
        "name": "right",
        "passed": True,
        "differences": [],
        "state": {
            "after_event": 1,
            "checkins": [
                {
                    "monitor": "job",
                    "environment": "production",
                    "status": "error",
                    "expected_time": None,
                    "date_added": "2026-01-05T10:00:20Z",
                    "duration_ms": None,
                    "unknown_because": None,
                    "limit_broken": None,
                },
                {
                    "monitor": "job",
                    "environment": "production",
                    "status": "missed",
                    "expected_time": "2026-01-05T11:00:00Z",
                    "date_added": "2026-01-05T11:00:00Z",
                    "duration_ms": None,
                    "unknown_because": None,
                    "limit_broken": None,
                },
            ],
            "environment_status": {"job/production": "error"},
            "next_checkin": {"job/production": "2026-01-05T12:00:00Z"},
            "next_checkin_latest": {"job/production": "2026-01-05T12:01:00Z"},
            "open_incidents": {"job/production": 1},
            "resolved_incidents": {"job/production": 0},
            "occurrences": {"job/production": 2},
        },
    }
    assert wrong["passed"] is False
    assert [(found["after_event"], found["key"]) for found in wrong["differences"]] == [
        (0, "environment_status"),
        (1, "checkins"),
    ]
    assert wrong["state"] == right["state"]


def test_a_story_that_breaks_the_code_does_not_hide_the_others(command, monkeypatch):
    def breaks(messages, *, now):
        raise AssertionError("this must not happen")

    monkeypatch.setattr("clocktasks.playback.play.receive", breaks)
    quiet = told(name="quiet", events=EVENTS[1:])
    output, status = command(RIGHT, quiet, json=True)
    right, quiet = (json.loads(line) for line in output.splitlines())
    assert status == 1
    assert (right["passed"], right["state"]) == (False, None)
    assert right["differences"][0]["message"].startswith("broke off: AssertionError: this must not happen (")
    assert quiet["passed"] is True


def test_an_interrupted_run_leaves_no_database_behind(command, monkeypatch):
    def interrupt(messages, *, now):
        assert any("_simulation_" in name for name in databases())
        raise KeyboardInterrupt

    before = databases()
    monkeypatch.setattr("clocktasks.playback.play.receive", interrupt)
    with pytest.raises(CommandError, match="Interrupted") as caught:
        command(RIGHT)
    assert caught.value.returncode == 130
    assert databases() == before
