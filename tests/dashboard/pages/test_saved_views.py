"""Views of the wall that people keep by name."""

import pytest

from audit.models import AuditEntry
from dashboard import saved_views
from dashboard.models import SavedView
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
PAGE = "/wall/views/"


def names(client):
    return [view.name for view, _ in client.get(PAGE).context["views"]]


def test_a_view_is_the_filters_of_the_wall_by_a_name_for_oneself(as_role):
    ann, bob = as_role("viewer"), as_role("viewer")
    form = ann.get(f"{PAGE}?q=&state=failing&range=7d&nonsense=1&project=")
    assert "State: failing" in words(form)
    answer = ann.post(f"{PAGE}?state=failing&range=7d&nonsense=1", {"name": "Bad week"})
    assert answer["Location"] == "/wall/?state=failing&range=7d"
    assert (names(ann), names(bob)) == (["Bad week"], [])
    assert 'href="/wall/?state=failing&amp;range=7d"' in ann.get("/wall/").content.decode()
    entry = AuditEntry.objects.get()
    assert (entry.kind, entry.action, entry.project_id) == ("saved view", "created", None)


def test_editors_share_views_with_the_members_of_a_project_and_delete_them(as_role, monitor, stranger):
    editor, viewer = as_role("editor"), as_role("viewer")
    editor.post(f"{PAGE}?group=project", {"name": "By project", "whose": monitor.project_id})
    assert (names(viewer), names(stranger)) == (["By project"], [])
    view = SavedView.objects.get()
    assert viewer.post(PAGE, {"do": "delete", "view": view.pk}).status_code == 403
    assert stranger.post(PAGE, {"do": "delete", "view": view.pk}).status_code == 404
    assert "was deleted" in words(editor.post(PAGE, {"do": "delete", "view": view.pk}, follow=True))
    entries = AuditEntry.objects.order_by("id").values_list("action", "project_id")
    assert list(entries) == [("created", monitor.project_id), ("deleted", monitor.project_id)]


def test_nobody_shares_with_a_project_in_which_the_role_does_not_allow_it(as_role, monitor):
    page = as_role("responder").post(PAGE, {"name": "x", "whose": monitor.project_id})
    assert (page.status_code, list(page.context["form"].errors)) == (422, ["whose"])


def test_the_view_of_somebody_else_does_not_exist(as_role):
    view = factories.SavedViewFactory(project=None, user=factories.UserFactory())
    assert as_role("owner").post(PAGE, {"do": "delete", "view": view.pk}).status_code == 404


def test_a_name_is_taken_once_and_the_number_is_bounded(monitor, monkeypatch):
    user = factories.MembershipFactory(project=monitor.project, role="editor").user
    client = client_of(user)
    factories.SavedViewFactory(project=monitor.project, name="night")
    assert client.post(PAGE, {"name": "night"}).status_code == 302
    assert "There is a view &#x27;night&#x27; already." in client.post(PAGE, {"name": "night"}).content.decode()
    monkeypatch.setattr(saved_views, "VIEWS_MAX", 1)
    assert "no more are allowed" in words(client.post(PAGE, {"name": "day"}))
    assert "no more are allowed" in words(client.post(PAGE, {"name": "day", "whose": monitor.project_id}))
    assert SavedView.objects.count() == 2


def test_a_page_without_views_says_what_they_are_for(as_role):
    assert "There is none yet." in words(as_role("viewer").get(PAGE))
