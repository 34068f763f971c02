"""The one table of roles and rights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.roles import Action, Role, may, roles_that_may
from tests.docs.pages import DOCS, code, section, tables

EVERYBODY = {"viewer", "responder", "editor", "owner"}
RESPONDERS = EVERYBODY - {"viewer"}
EDITORS = RESPONDERS - {"responder"}
OWNERS = {"owner"}

WHO_MAY = [
    ("see", EVERYBODY),
    ("see private logs", RESPONDERS),
    ("acknowledge", RESPONDERS),
    ("handle issues", RESPONDERS),
    ("snooze", RESPONDERS),
    ("mute", RESPONDERS),
    ("comment", RESPONDERS),
    ("assign", RESPONDERS),
    ("see ping URLs", EDITORS),
    ("edit monitors", EDITORS),
    ("edit windows", EDITORS),
    ("edit dependencies", EDITORS),
    ("edit routes", EDITORS),
    ("share views", EDITORS),
    ("manage members", OWNERS),
    ("manage keys", OWNERS),
    ("manage channels", OWNERS),
    ("manage status pages", OWNERS),
    ("delete", OWNERS),
    ("manage projects", set()),
]


@pytest.mark.parametrize(("action", "who"), WHO_MAY)
def test_exactly_these_roles_may(action, who):
    assert {role.value for role in Role if may(role, Action(action))} == who
    assert roles_that_may(Action(action)) == [role for role in Role if role in who]


def test_the_table_above_has_every_action():
    assert [action for action, _ in WHO_MAY] == [action.value for action in Action]


@pytest.mark.parametrize("action", Action)
def test_a_stranger_may_do_nothing_and_an_administrator_everything(action):
    assert not may(None, action)
    assert may(None, action, is_administrator=True)
    assert all(may(role, action, is_administrator=True) for role in Role)


@given(st.sampled_from(Role), st.sampled_from(Role), st.sampled_from(Action))
def test_no_role_may_more_than_the_one_above_it(one, other, action):
    lower, higher = sorted((one, other), key=list(Role).index)
    assert may(higher, action) or not may(lower, action)


def test_the_documentation_has_the_same_table():
    [table] = tables(section(DOCS / "how-to" / "give-people-access.md", "## What each role may do"))
    documented = {code(row[0]): [cell == "x" for cell in row[1:]] for row in table}
    assert documented == {action.value: [may(role, action) for role in Role] for action in Action}
