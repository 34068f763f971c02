"""People comment on issues, and look after them."""

import pytest

from accounts.roles import Role
from accounts.services import set_roles
from audit.entries import Actor, Source
from audit.models import AuditEntry
from incidents.handling import AssignmentError, CommentError, assign, comment, comments
from tests.factories import NOW, CommentFactory, IssueFactory, MembershipFactory

pytestmark = pytest.mark.django_db
ANNA = Actor("anna", Source.ADMIN, NOW, 7)


def test_a_comment_says_who_wrote_it_and_when():
    issue = IssueFactory()
    comment(issue.id, "  The disk is full.\r\nI free some space. ", by=ANNA, now=NOW)
    stored = issue.comments.get()
    assert (stored.author_name, stored.author_id, stored.created_at) == ("anna", 7, NOW)
    assert stored.text == "The disk is full.\nI free some space."
    assert AuditEntry.objects.get().action == "commented"


@pytest.mark.parametrize("text", ["", "   \n", "x" * 4_001])
def test_a_comment_without_words_or_with_too_many_is_refused(text):
    with pytest.raises(CommentError, match="1 to 4,000 characters"):
        comment(IssueFactory().id, text, by=ANNA, now=NOW)
    assert not AuditEntry.objects.exists()


def test_an_issue_has_so_many_comments_and_no_more(monkeypatch):
    monkeypatch.setattr(comments, "COMMENTS_MAX", 1)
    issue = CommentFactory().issue
    with pytest.raises(CommentError, match="no more are allowed"):
        comment(issue.id, "one more", by=ANNA, now=NOW)


def test_a_comment_on_an_issue_that_is_gone_is_refused():
    with pytest.raises(CommentError, match="no issue with the id 4711"):
        comment(4711, "hello", by=ANNA, now=NOW)


def test_a_member_of_the_project_is_assigned_and_nobody_again():
    issue = IssueFactory()
    member = MembershipFactory(project=issue.project, user__username="bert")
    assert assign(issue.id, member.id, by=ANNA)
    assert not assign(issue.id, member.id, by=ANNA), "that changes nothing"
    issue.refresh_from_db()
    assert issue.assignee == member
    assert assign(issue.id, None, by=ANNA)
    entries = AuditEntry.objects.order_by("id").values_list("action", "changes")
    assert list(entries) == [
        ("assigned", {"assignee": [None, "bert"]}),
        ("unassigned", {"assignee": ["bert", None]}),
    ]


def test_a_member_of_another_project_is_refused():
    with pytest.raises(AssignmentError, match="a member of its project"):
        assign(IssueFactory().id, MembershipFactory().id, by=ANNA)


def test_an_issue_that_is_gone_cannot_be_assigned():
    with pytest.raises(AssignmentError, match="no issue"):
        assign(4711, None, by=ANNA)


def test_when_the_membership_ends_nobody_looks_after_it():
    issue = IssueFactory()
    MembershipFactory(project=issue.project, role="owner")
    member = MembershipFactory(project=issue.project, role="viewer")
    assign(issue.id, member.id, by=ANNA)
    set_roles(issue.project_id, {member.user_id: None}, by=ANNA)
    issue.refresh_from_db()
    assert issue.assignee is None
    assert Role.VIEWER not in issue.project.memberships.values_list("role", flat=True)
