"""What a person may do in which project, from the rows."""

import pytest
from django.contrib.auth.models import AnonymousUser, User

from accounts.membership import can, projects_of, role_of
from accounts.roles import Action, Role
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return factories.ProjectFactory()


@pytest.mark.parametrize("role", Role)
def test_a_member_has_the_role_in_that_project_and_in_no_other(project, role):
    member = factories.MembershipFactory(project=project, role=role)
    other = factories.MembershipFactory(user=member.user, role="viewer").project
    assert (role_of(member.user, project.pk), role_of(member.user, other.pk)) == (role, Role.VIEWER)
    assert can(member.user, Action.MUTE, project.pk) == (role is not Role.VIEWER)
    assert not can(member.user, Action.MUTE, other.pk)


def test_a_stranger_has_no_role(project):
    factories.MembershipFactory(project=project)
    stranger = factories.UserFactory()
    assert role_of(stranger, project.pk) is None
    assert not can(stranger, Action.SEE, project.pk)
    assert not projects_of(stranger, Action.SEE).exists()


def test_somebody_who_is_not_logged_in_may_do_nothing(project):
    assert not can(AnonymousUser(), Action.SEE, project.pk)
    assert not projects_of(AnonymousUser(), Action.SEE).exists()


def test_being_staff_gives_no_role(project):
    assert not can(factories.UserFactory(is_staff=True), Action.SEE, project.pk)


def test_a_superuser_may_do_everything_everywhere(project):
    root = factories.UserFactory(is_superuser=True)
    assert all(can(root, action, project.pk) for action in Action)
    assert list(projects_of(root, Action.MANAGE_PROJECTS)) == [project]


@pytest.mark.parametrize("rights", [{"role": "owner"}, {"user__is_superuser": True}], ids=["owner", "superuser"])
def test_an_account_that_is_not_active_may_do_nothing(project, rights):
    user = factories.MembershipFactory(project=project, user__is_active=False, **rights).user
    assert not any(can(user, action, project.pk) for action in Action)
    assert not projects_of(user, Action.SEE).exists()


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (Action.SEE, ["a", "b", "c", "d"]),
        (Action.MUTE, ["b", "c", "d"]),
        (Action.EDIT_MONITORS, ["c", "d"]),
        (Action.MANAGE_KEYS, ["d"]),
        (Action.MANAGE_PROJECTS, []),
    ],
)
def test_the_projects_in_which_one_may_do_something_are_found_in_one_statement(
    action, names, django_assert_num_queries
):
    user = factories.UserFactory()
    for name, role in zip("abcd", Role, strict=True):
        factories.MembershipFactory(user=user, project__name=name, role=role)
    factories.MembershipFactory(role="owner")
    with django_assert_num_queries(1):
        assert [project.name for project in projects_of(user, action)] == names


def test_the_projects_fit_into_a_condition_of_another_statement(django_assert_num_queries):
    member = factories.MembershipFactory(role="editor")
    mine = factories.MonitorFactory(project=member.project)
    factories.MonitorFactory()
    with django_assert_num_queries(1):
        found = type(mine).objects.filter(project__in=projects_of(member.user, Action.EDIT_MONITORS))
        assert list(found) == [mine]


def test_one_question_costs_one_statement(project, django_assert_num_queries):
    member = factories.MembershipFactory(project=project, role="owner")
    user = User.objects.get(pk=member.user_id)
    with django_assert_num_queries(1):
        assert can(user, Action.DELETE, project.pk)
