"""The members of a project, on its page in the admin."""

import html

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from accounts.models import Membership
from audit.models import AuditEntry
from tests import factories
from tests.dashboard.admin.browsing import form_of
from tests.dashboard.conftest import PASSWORD, client_of

PREFIX = "memberships"


@pytest.fixture
def project(db):
    return factories.ProjectFactory(name="Shop")


@pytest.fixture
def anna(project):
    return factories.MembershipFactory(project=project, user__username="anna", role="owner").user


@pytest.fixture
def ben(anna, project):
    return factories.MembershipFactory(project=project, user__username="ben", role="viewer").user


def page(project):
    return reverse("admin:monitors_project_change", args=[project.pk])


def held(client, project):
    return form_of(client.get(page(project)).text, "project_form")


def save(client, project, **changes):
    """Save the page with changes to the members: by their place, in the order of their ids."""
    sent = held(client, project) | {f"{PREFIX}-{name}": [value] for name, value in changes.items()}
    return client.post(page(project), {name: value for name, value in sent.items() if value != [None]})


def add(client, project, user, role):
    number = held(client, project)[f"{PREFIX}-TOTAL_FORMS"][0]
    changes = {f"{number}-user": str(user.pk), f"{number}-role": role, "TOTAL_FORMS": str(int(number) + 1)}
    return save(client, project, **changes)


def members(project):
    return dict(Membership.objects.filter(project=project).values_list("user__username", "role"))


def test_a_member_is_added_and_recorded(admin_client, project):
    ben = factories.UserFactory(username="ben")
    assert add(admin_client, project, ben, "editor").status_code == 302
    assert members(project) == {"ben": "editor"}
    [entry] = AuditEntry.objects.all()
    assert (entry.actor_name, entry.action, entry.kind, entry.object_name) == ("admin", "added", "member", "ben")
    assert (entry.project_id, entry.changes) == (project.pk, {"role": [None, "editor"]})


def test_a_role_is_changed_and_a_member_removed(admin_client, project, ben):
    assert save(admin_client, project, **{"1-role": "responder"}).status_code == 302
    assert members(project) == {"anna": "owner", "ben": "responder"}
    assert save(admin_client, project, **{"1-DELETE": "on"}).status_code == 302
    assert members(project) == {"anna": "owner"}
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["changed", "removed"]


@pytest.mark.parametrize("change", [{"0-role": "editor"}, {"0-DELETE": "on"}], ids=["another role", "removed"])
def test_the_only_owner_stays_and_the_page_says_why(admin_client, project, ben, change):
    response = save(admin_client, project, **change)
    assert response.status_code == 200
    assert "A project that has an owner keeps one: make somebody else an owner first." in html.unescape(response.text)
    assert members(project) == {"anna": "owner", "ben": "viewer"}
    assert not AuditEntry.objects.exists()


def test_owners_change_places_with_one_save(admin_client, project, ben):
    assert save(admin_client, project, **{"0-DELETE": "on", "1-role": "owner"}).status_code == 302
    assert members(project) == {"ben": "owner"}


def test_a_person_who_is_a_member_already_is_refused(admin_client, project, ben):
    response = add(admin_client, project, ben, "owner")
    assert response.status_code == 200
    assert members(project) == {"anna": "owner", "ben": "viewer"}


def test_a_membership_stays_with_its_person(admin_client, project, ben):
    other = factories.UserFactory()
    save(admin_client, project, **{"1-user": str(other.pk), "1-role": "editor"})
    assert members(project) == {"anna": "owner", "ben": "editor"}


def test_a_member_who_was_added_meanwhile_stays_and_counts(admin_client, project, ben):
    sent = held(admin_client, project) | {f"{PREFIX}-0-role": ["viewer"]}
    factories.MembershipFactory(project=project, user__username="carl", role="owner")
    assert admin_client.post(page(project), sent).status_code == 302
    assert members(project) == {"anna": "viewer", "ben": "viewer", "carl": "owner"}


def test_a_role_that_somebody_else_changed_meanwhile_stays(admin_client, project, ben):
    sent = held(admin_client, project) | {"name": ["Shop 2"]}
    Membership.objects.filter(user=ben).update(role="editor")
    assert admin_client.post(page(project), sent).status_code == 302
    assert members(project) == {"anna": "owner", "ben": "editor"}


def test_a_new_project_has_members_at_once(admin_client):
    anna = factories.UserFactory(username="anna")
    sent = {"name": "Shop", "slug": "shop"}
    sent |= {f"{prefix}-{end}_FORMS": "0" for prefix in ("ingest_keys", PREFIX) for end in ("TOTAL", "INITIAL")}
    sent |= {f"{PREFIX}-TOTAL_FORMS": "1", f"{PREFIX}-0-user": anna.pk, f"{PREFIX}-0-role": "owner"}
    assert admin_client.post(reverse("admin:monitors_project_add"), sent).status_code == 302
    assert members(Membership.objects.get().project) == {"anna": "owner"}


def staff(*codenames):
    user = User.objects.create_user("someone", password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return client_of(user)


def test_without_a_permission_for_memberships_they_are_neither_shown_nor_changed(project, ben):
    client = staff("view_project", "change_project")
    assert "anna" not in client.get(page(project)).text
    assert save(client, project, **{"1-role": "owner"}).status_code == 302
    assert members(project) == {"anna": "owner", "ben": "viewer"}


def test_who_may_only_view_them_changes_nothing(project, ben):
    client = staff("view_project", "change_project", "view_membership")
    assert "anna" in client.get(page(project)).text
    save(client, project, **{"1-role": "owner"})
    assert members(project) == {"anna": "owner", "ben": "viewer"}


def test_a_role_gives_no_rights_in_the_admin(project):
    user = User.objects.create_user("owner", password=PASSWORD, is_staff=True)
    factories.MembershipFactory(project=project, user=user, role="owner")
    assert client_of(user).get(page(project)).status_code == 403


def test_the_page_of_an_account_with_memberships_says_why_it_is_not_deleted(admin_client, anna):
    url = reverse("admin:auth_user_delete", args=[anna.pk])
    assert "anna in Shop" in html.unescape(admin_client.get(url).text)
    admin_client.post(url, {"post": "yes"})
    assert User.objects.filter(pk=anna.pk).exists()
