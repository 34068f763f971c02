"""The pages of issues: the list of a project, and what people do with one."""

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from incidents.models import Issue
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def listing(monitor):
    return reverse("issues", args=[monitor.project.slug])


def test_the_list_shows_why_an_environment_failed_and_can_be_filtered(as_role, incident, monitor, listing):
    client = as_role("viewer")
    page = words(client.get(listing))
    assert monitor.name in page
    assert "unresolved" in page
    assert client.get(listing, {"status": "archived"}).context["issues"] == []
    assert client.get(listing, {"q": "nothing\x00"}).context["issues"] == []
    found = client.get(listing, {"q": monitor.slug.upper(), "status": "unresolved", "page": "x"}).context["issues"]
    assert [one.issue for one in found] == [incident.issue]
    assert found[0].is_failing


def test_issues_of_other_projects_are_not_in_the_list(as_role, incident, listing):
    factories.IncidentFactory()
    assert [one.issue for one in as_role("viewer").get(listing).context["issues"]] == [incident.issue]


def test_the_number_of_statements_does_not_grow(as_role, monitor, incident, listing, django_assert_max_num_queries):
    for _ in range(4):
        factories.IncidentFactory(monitor_environment__monitor__project=monitor.project)
    client = as_role("viewer")
    with django_assert_max_num_queries(10):
        assert len(client.get(listing).context["issues"]) == 5


def test_an_issue_is_archived_and_unarchived_and_resolved(as_role, incident):
    client, issue = as_role("responder"), incident.issue
    address, act = reverse("issue", args=[issue.pk]), reverse("act-on-issue", args=[issue.pk])
    assert reverse("incident", args=[incident.pk]) in client.get(address).text

    def press(what):
        page = words(client.post(act, {"do": what}, follow=True))
        issue.refresh_from_db()
        return issue.status, page

    status, page = press("archive")
    assert (status, "nobody is notified" in page) == (Issue.Status.ARCHIVED, True)
    assert "Somebody else has done so already." in press("archive")[1]
    press("unarchive")
    Issue.objects.update(status="unresolved", resolved_at=None, resolved_by=None)
    status, page = press("resolve")
    assert (status, "Its incident is open until the next ok." in page) == (Issue.Status.RESOLVED, True)
    assert list(AuditEntry.objects.filter(kind="issue").order_by("id").values_list("action", "source")) == [
        ("archived", "page"),
        ("unarchived", "page"),
        ("resolved", "page"),
    ]
