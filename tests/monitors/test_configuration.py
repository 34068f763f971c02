"""What a monitor can be told: limits, what it changes, and how it is read."""

from dataclasses import replace

import pytest

from monitors.configuration import (
    CONFIGURATION_COLUMNS,
    NUMBERS,
    Configuration,
    Fault,
    parse,
    rule_columns,
    shared_rules,
)
from monitors.schedule import Schedule
from tests.messages import NOW

HOURLY = Schedule.from_crontab("0 * * * *", "Europe/Vienna")
RULES = shared_rules("crontab", "0 * * * *", None, None, "Europe/Vienna", 5, 30, 2, 3, None)


def test_columns_and_rules_are_the_same_in_two_forms():
    assert tuple(rule_columns(RULES)) == CONFIGURATION_COLUMNS
    assert shared_rules(*rule_columns(RULES).values()) is RULES


def test_what_is_not_named_stays():
    assert Configuration().applied_to(RULES) == RULES
    assert Configuration(schedule=Schedule.from_crontab("0 * * * *")).applied_to(RULES) == RULES


@pytest.mark.parametrize(
    ("told", "column"),
    [
        ({"schedule": Schedule.from_crontab("5 * * * *")}, "crontab"),
        ({"timezone": "Asia/Tokyo"}, "timezone"),
        ({"checkin_margin_minutes": 6}, "checkin_margin"),
        ({"max_runtime_minutes": 31}, "max_runtime"),
        ({"failure_threshold": 1}, "failure_threshold"),
        ({"recovery_threshold": 1}, "recovery_threshold"),
        ({"owner": "team:b"}, "owner"),
    ],
)
def test_what_is_named_changes_its_column_and_no_other(told, column):
    configuration = Configuration(**told)
    before = {**rule_columns(RULES), "owner": "team:a"}
    wanted = configuration.differs_from(RULES, "team:a")
    assert list(wanted) == [column]
    assert wanted[column] == (before[column], configuration.columns()[column])
    after = configuration.applied_to(RULES)
    assert configuration.differs_from(after, configuration.owner or "team:a") == {}


def test_another_kind_of_schedule_changes_the_schedule_as_a_whole():
    weekly = Configuration(schedule=Schedule.from_interval(1, "week"))
    assert weekly.differs_from(RULES, "") == {
        "schedule_type": ("crontab", "interval"),
        "crontab": ("0 * * * *", None),
        "interval": (None, 1),
        "interval_unit": (None, "week"),
    }
    assert weekly.applied_to(RULES).schedule.timezone == "Europe/Vienna"


def test_d37_a_zone_that_a_hand_emptied_becomes_the_one_of_the_schedule():
    emptied = replace(RULES, schedule=replace(HOURLY, timezone=""))
    told = Configuration(schedule=Schedule.from_crontab("0 * * * *"))
    assert told.differs_from(emptied, "") == {"timezone": ("", "UTC")}


def test_a_configuration_is_read_with_all_that_it_names():
    fields = {
        "schedule": {"type": "crontab", "value": "0 * * * *"},
        "timezone": "Europe/Vienna",
        "checkin_margin": 5,
        "max_runtime": "60",
        "failure_issue_threshold": 2.0,
        "recovery_threshold": 3,
        "owner": "team:a",
    }
    reading = parse(fields, now=NOW)
    assert reading.configuration == Configuration(HOURLY, "Europe/Vienna", 5, 60, 2, 3, "team:a")
    assert (reading.dropped, reading.ignored) == ((), ())


def test_without_a_usable_schedule_there_is_no_configuration():
    fault = parse({"checkin_margin": 5}, now=NOW).configuration
    assert isinstance(fault, Fault)
    assert (fault.field, fault.value) == ("schedule", None)


def test_a_bad_part_is_dropped_and_an_unknown_one_ignored():
    fields = {"schedule": "0 * * * *", "schedule_type": "crontab", "max_runtime": -1, "ownr": "team:a"}
    reading = parse(fields, now=NOW)
    assert reading.configuration == Configuration(Schedule.from_crontab("0 * * * *"))
    assert reading.dropped == (Fault("max_runtime", -1, "it takes a whole number from 1 to 10080"),)
    assert reading.ignored == (Fault("ownr", "team:a", "it is not known, owner is"),)


@pytest.mark.parametrize("key", ["checkin_margin", "max_runtime"])
def test_more_minutes_than_there_may_be_are_as_many_as_there_may_be(key):
    fields = {"schedule": "0 * * * *", "schedule_type": "crontab", key: NUMBERS[key].maximum + 1}
    read = parse(fields, now=NOW).configuration
    assert isinstance(read, Configuration)
    assert read.columns()[key] == NUMBERS[key].maximum
