"""Changing the members of a project."""

import pytest
from django.db import connection
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext

from accounts.exceptions import MembershipError
from accounts.models import Membership
from accounts.roles import Role
from accounts.services import add_member, change_role, remove_member, set_roles
from audit.entries import Actor, Source
from audit.models import AuditEntry
from tests import factories
from tests.connections import in_another_connection
from tests.factories import NOW

pytestmark = pytest.mark.django_db
ROOT = Actor(name="root", source=Source.ADMIN, at=NOW, id=7)


@pytest.fixture
def project(db):
    return factories.ProjectFactory()


@pytest.fixture
def anna(db):
    return factories.UserFactory(username="anna")


@pytest.fixture
def ben(db):
    return factories.UserFactory(username="ben")


def members(project):
    return {member.user.username: member.role for member in Membership.objects.filter(project=project)}


def recorded():
    columns = ("actor_name", "action", "object_name", "object_id", "project_id", "changes", "at")
    return list(AuditEntry.objects.order_by("id").values_list(*columns))


def test_a_person_is_added_changed_and_removed_and_each_change_is_recorded(project, anna):
    add_member(project.pk, anna.pk, Role.VIEWER, by=ROOT)
    assert members(project) == {"anna": "viewer"}
    assert Membership.objects.get().added_at == NOW
    change_role(project.pk, anna.pk, Role.EDITOR, by=ROOT)
    assert members(project) == {"anna": "editor"}
    remove_member(project.pk, anna.pk, by=ROOT)
    assert members(project) == {}
    assert recorded() == [
        ("root", "added", "anna", anna.pk, project.pk, {"role": [None, "viewer"]}, NOW),
        ("root", "changed", "anna", anna.pk, project.pk, {"role": ["viewer", "editor"]}, NOW),
        ("root", "removed", "anna", anna.pk, project.pk, {"role": ["editor", None]}, NOW),
    ]


def test_the_role_that_a_member_has_already_changes_nothing(project, anna):
    factories.MembershipFactory(project=project, user=anna, role="owner")
    change_role(project.pk, anna.pk, Role.OWNER, by=ROOT)
    assert (members(project), recorded()) == ({"anna": "owner"}, [])


def test_somebody_is_not_added_twice(project, anna):
    factories.MembershipFactory(project=project, user=anna, role="viewer")
    with pytest.raises(MembershipError, match=r"^anna is a member of this project already, as viewer\.$"):
        add_member(project.pk, anna.pk, Role.OWNER, by=ROOT)
    assert (members(project), recorded()) == ({"anna": "viewer"}, [])


def test_a_stranger_has_no_role_to_change_or_to_lose(project, anna):
    for change in (
        lambda: change_role(project.pk, anna.pk, Role.OWNER, by=ROOT),
        lambda: remove_member(project.pk, anna.pk, by=ROOT),
    ):
        with pytest.raises(MembershipError, match=r"^anna is not a member of this project\.$"):
            change()


def test_projects_and_accounts_that_do_not_exist_are_named(project, anna):
    with pytest.raises(MembershipError, match=r"^There is no project with the id 0\.$"):
        add_member(0, anna.pk, Role.OWNER, by=ROOT)
    with pytest.raises(MembershipError, match=r"^There is no account with the id 0\.$"):
        add_member(project.pk, 0, Role.OWNER, by=ROOT)
    with pytest.raises(MembershipError, match=r"^The account with the id 0 is not a member of this project\.$"):
        remove_member(project.pk, 0, by=ROOT)


# --- A project that has an owner keeps one ----------------------------------------------------------------------------


@pytest.fixture
def owned(project, anna, ben):
    """A project of anna; ben may view it."""
    factories.MembershipFactory(project=project, user=anna, role="owner")
    factories.MembershipFactory(project=project, user=ben, role="viewer")
    return project


@pytest.mark.parametrize(
    "change",
    [
        lambda project, anna: change_role(project.pk, anna.pk, Role.EDITOR, by=ROOT),
        lambda project, anna: remove_member(project.pk, anna.pk, by=ROOT),
    ],
    ids=["another role", "removed"],
)
def test_the_only_owner_stays(owned, anna, change):
    with pytest.raises(MembershipError, match="make somebody else an owner first"):
        change(owned, anna)
    assert (members(owned), recorded()) == ({"anna": "owner", "ben": "viewer"}, [])


def test_one_of_two_owners_may_go(owned, anna, ben):
    change_role(owned.pk, ben.pk, Role.OWNER, by=ROOT)
    remove_member(owned.pk, anna.pk, by=ROOT)
    assert members(owned) == {"ben": "owner"}


def test_owners_change_places_in_one_change(owned, anna, ben):
    set_roles(owned.pk, {anna.pk: None, ben.pk: Role.OWNER}, by=ROOT)
    assert members(owned) == {"ben": "owner"}


def test_the_owner_of_another_project_does_not_count(owned, anna, ben):
    factories.MembershipFactory(user=ben, role="owner")
    with pytest.raises(MembershipError, match="keeps one"):
        remove_member(owned.pk, anna.pk, by=ROOT)


def test_a_project_without_an_owner_needs_none(project, anna):
    factories.MembershipFactory(project=project, user=anna, role="editor")
    remove_member(project.pk, anna.pk, by=ROOT)
    assert members(project) == {}


def test_an_account_with_memberships_is_not_deleted(owned, anna):
    with pytest.raises(ProtectedError):
        anna.delete()


def test_a_project_is_deleted_with_its_members(owned):
    owned.delete()
    assert not Membership.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one(project, anna, ben):
    for user in (anna, ben):
        factories.MembershipFactory(project=project, user=user, role="owner")
    with (
        in_another_connection(lambda: remove_member(project.pk, anna.pk, by=ROOT)) as first,
        pytest.raises(MembershipError, match="keeps one"),
    ):
        remove_member(project.pk, ben.pk, by=ROOT)
    assert first.was_waited_for
    assert members(project) == {"ben": "owner"}


def test_the_number_of_statements_does_not_grow_with_the_people(project):
    def statements(count):
        users = factories.UserFactory.create_batch(count)
        counts = []
        for role in (Role.VIEWER, Role.EDITOR, None):
            with CaptureQueriesContext(connection) as captured:
                set_roles(project.pk, {user.pk: role for user in users}, by=ROOT)
            counts.append(len(captured))
        return counts

    assert statements(2) == statements(30)
