"""Which channels an incident goes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.routing import (
    Attribute,
    Condition,
    ConditionError,
    Facts,
    Operator,
    Person,
    RouteRules,
    choose,
    is_caught,
    parse_conditions,
)

BACKUP = Facts(monitor="nightly-backup", environment="production", kind="missed", tags=("db", "eu"))


def on(attribute, *values, operator=Operator.IS):
    return Condition(Attribute(attribute), operator, values)


def route(number, *conditions, channels=(), continues=False):
    return RouteRules(number, f"route {number}", conditions, channels, continues)


def channels(routes, facts=BACKUP):
    return [choice.channel for choice in choose(routes, facts)]


def test_the_first_route_that_catches_an_incident_ends_the_search():
    assert channels(
        [route(1, on("kind", "error"), channels=(1,)), route(2, channels=(2,)), route(3, channels=(3,))]
    ) == [2]


def test_a_route_that_continues_lets_the_next_ones_catch_it_too():
    assert channels([route(1, channels=(1,), continues=True), route(2, channels=(2,))]) == [1, 2]


def test_a_channel_that_two_routes_name_is_chosen_once_for_the_reason_of_the_first():
    (choice,) = choose([route(1, channels=(7,), continues=True), route(2, channels=(7,))], BACKUP)
    assert (choice.channel, choice.route) == (7, 1)


def test_all_conditions_of_a_route_must_hold():
    both = route(1, on("kind", "missed"), on("environment", "staging"), channels=(1,))
    assert channels([both]) == []


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (on("monitor", "nightly-backup"), True),
        (on("monitor", "nightly"), False),
        (on("monitor", "nightly-*", operator=Operator.LIKE), True),
        (on("monitor", "*-restore", "*-backup", operator=Operator.LIKE), True),
        (on("monitor", "NIGHTLY-*", operator=Operator.LIKE), False),
        (on("environment", "production", "staging"), True),
        (on("kind", "timeout", "error"), False),
        (on("tag", "eu"), True),
        (on("tag", "web", "e?", operator=Operator.LIKE), True),
        (on("tag", "us"), False),
    ],
)
def test_a_condition_compares_one_value_of_the_incident_with_each_of_its_own(condition, expected):
    assert is_caught([route(1, condition)], BACKUP) is expected


def test_a_condition_on_what_an_incident_lacks_does_not_hold():
    assert not is_caught([route(1, on("kind", "*", operator=Operator.LIKE))], Facts("job", "production", kind=""))


def test_a_route_without_channels_ends_the_search():
    assert channels([route(1), route(2, channels=(2,))]) == []


def test_the_reason_names_the_route_and_its_conditions():
    (choice,) = choose([route(1, on("monitor", "nightly-*", operator=Operator.LIKE), channels=(1,))], BACKUP)
    assert choice.reason == "route 'route 1': monitor like nightly-*"


@given(st.text(max_size=200), st.text(min_size=1, max_size=200))
def test_no_pattern_raises_or_takes_long(value, pattern):
    is_caught([route(1, on("monitor", pattern, operator=Operator.LIKE))], Facts(value, "production", "error"))


def test_conditions_are_read_from_json():
    raw = [{"attribute": "monitor", "operator": "like", "values": ["db-*"]}]
    assert parse_conditions(raw) == (on("monitor", "db-*", operator=Operator.LIKE),)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({}, "conditions must be a list of at most 10."),
        ([{}], "condition 1 must be an object with attribute, operator and values."),
        (
            [{"attribute": "colour", "operator": "is", "values": ["red"]}],
            "attribute of condition 1: 'colour' is unknown; allowed: monitor, environment, tag, kind, severity, owner.",
        ),
        (
            [{"attribute": "monitor", "operator": "was", "values": ["red"]}],
            "operator of condition 1: 'was' is unknown; allowed: is, like.",
        ),
        (
            [{"attribute": "monitor", "operator": "is", "values": []}],
            "values of condition 1 must be a list of 1 to 50 texts.",
        ),
        (
            [{"attribute": "kind", "operator": "is", "values": ["late"]}],
            "values of condition 1: 'late' is no kind of failure; allowed: missed, timeout, error, slow, fast, "
            "overlap.",
        ),
        (
            [{"attribute": "monitor", "operator": "is", "values": [""]}],
            "values of condition 1: '' must be a text of 1 to 200 characters.",
        ),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused_with_what_is_allowed(raw, sentence):
    with pytest.raises(ConditionError) as caught:
        parse_conditions(raw)
    assert str(caught.value) == sentence


def test_a_route_goes_by_severity_and_owner():
    facts = Facts("job", "production", "error", severity="critical", owner="team:db")
    assert is_caught([route(1, on("severity", "critical", "error"))], facts)
    assert not is_caught([route(1, on("severity", "warning"))], facts)
    assert is_caught([route(1, on("owner", "team:*", operator=Operator.LIKE))], facts)
    assert not is_caught([route(1, on("owner", "*", operator=Operator.LIKE))], BACKUP), "a monitor without an owner"


def test_an_unknown_severity_is_refused_with_those_that_are_known():
    with pytest.raises(ConditionError, match="'bad' is no severity; allowed: info, warning, error, critical"):
        parse_conditions([{"attribute": "severity", "operator": "is", "values": ["bad"]}])


class TestOwners:
    ANN, BOB = Person(1, frozenset({"user:ann", "user:ann@example.com"}), 71), Person(2, frozenset({"user:bob"}), 72)

    def chosen(self, facts, channels=(7,), tells_owner=True):
        rules = RouteRules(1, "route 1", (), channels, tells_owner=tells_owner)
        return [(choice.channel, choice.reason) for choice in choose([rules], facts, [self.ANN, self.BOB])]

    @pytest.mark.parametrize("owner", ["user:ann", "user:Ann@Example.com"])
    def test_a_route_that_tells_owners_names_the_channel_of_the_owner_too(self, owner):
        everything = "route 'route 1' catches everything"
        facts = Facts("backup", "production", "missed", owner=owner)
        assert self.chosen(facts) == [(7, everything), (71, f"{everything}; owner of the monitor")]

    def test_it_names_the_one_who_looks_after_the_issue(self):
        facts = Facts("backup", "production", "missed", owner="team:ann", assignee=2)
        assert [channel for channel, _ in self.chosen(facts, channels=())] == [72]

    def test_other_routes_name_nobody_besides(self):
        facts = Facts("backup", "production", "missed", owner="user:ann", assignee=2)
        assert [channel for channel, _ in self.chosen(facts, tells_owner=False)] == [7]
