"""Many at once: what people do with the selected rows of the wall."""

import re
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from dashboard.pages.many import views
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
ACT = "/wall/act"


@pytest.fixture
def rows(monitor):
    """Environments of three monitors of the project; the first monitor has two."""
    first = factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name="a", status="active")
    second = factories.MonitorEnvironmentFactory(monitor=first.monitor, environment__name="staging", status="active")
    others = [
        factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__name=name, status="active")
        for name in "bc"
    ]
    return [first, second, *others]


@pytest.fixture
def elsewhere():
    return factories.MonitorEnvironmentFactory(status="active")


def ids(rows):
    return [row.pk for row in rows]


def fresh(rows):
    for row in rows:
        row.refresh_from_db()
        row.monitor.refresh_from_db()
    return rows


def entries():
    return sorted(AuditEntry.objects.filter(source="page").values_list("kind", "action"))


def test_single_environments_are_muted_and_unmuted(as_role, rows):
    client = as_role("responder")
    page = words(client.post(ACT, {"do": "mute", "row": ids(rows[:1] + rows[2:3])}, follow=True))
    assert "2 environments are muted." in page
    assert [row.is_muted for row in fresh(rows)] == [True, False, True, False]
    client.post(ACT, {"do": "unmute", "row": ids(rows)})
    assert not any(row.is_muted for row in fresh(rows))
    assert entries() == 2 * [("monitor environment", "muted")] + 2 * [("monitor environment", "unmuted")]


def test_monitors_are_snoozed_paused_and_resumed_once_each(as_role, rows):
    client = as_role("editor")
    for wish, action in (({"do": "snooze", "for": "1h"}, "snoozed"), ({"do": "pause"}, "disabled")):
        client.post(ACT, {**wish, "row": ids(rows)})
        assert entries().count(("monitor", action)) == 3
    assert {(row.monitor.status, row.monitor.snoozed_until is None) for row in fresh(rows)} == {("disabled", False)}
    page = words(client.post(ACT, {"do": "resume", "row": ids(rows[:2])}, follow=True))
    assert "1 monitor is active." in page
    assert [row.monitor.status for row in fresh(rows)] == ["active", "active", "disabled", "disabled"]


def test_a_tag_is_added_where_there_is_room_and_removed_again(as_role, rows):
    full = [f"tag {number}" for number in range(20)]
    for row, tags in zip(rows[1:], ([], ["night"], full), strict=True):
        row.monitor.tags = tags
        row.monitor.save()
    client = as_role("editor")
    page = words(client.post(ACT, {"do": "tag", "tag": " night ", "row": ids(rows)}, follow=True))
    assert "1 monitor has got the tag." in page
    assert [row.monitor.tags for row in fresh(rows)[1:]] == [["night"], ["night"], full]
    client.post(ACT, {"do": "untag", "tag": "night", "row": ids(rows)})
    assert [row.monitor.tags for row in fresh(rows)[1:]] == [[], [], full]
    assert entries() == 3 * [("monitor", "changed")]


def test_monitors_are_deleted_after_a_question(as_role, rows):
    client = as_role("owner")
    question = client.post(ACT, {"do": "delete", "row": ids(rows[:3])})
    assert "Delete these 2 monitors?" in words(question)
    assert entries() == []
    client.post(ACT, {"do": "delete-now", "row": ids(rows[:3])})
    assert [row.monitor.status for row in fresh(rows)] == 3 * ["pending_deletion"] + ["active"]
    assert entries() == 2 * [("monitor", "deleted")]


@pytest.mark.parametrize(
    ("role", "wish"),
    [
        ("viewer", {"do": "mute"}),
        ("responder", {"do": "pause"}),
        ("responder", {"do": "tag", "tag": "x"}),
        ("editor", {"do": "delete"}),
        ("editor", {"do": "delete-now"}),
    ],
)
def test_what_the_role_does_not_allow_is_not_done(as_role, rows, role, wish):
    page = words(as_role(role).post(ACT, {**wish, "row": ids(rows)}, follow=True))
    assert "Nothing was changed: your role in these projects may not" in page
    assert entries() == []


def test_rows_of_projects_where_it_is_not_allowed_are_left_out_and_those_of_strangers_not_there(rows, elsewhere):
    user = factories.MembershipFactory(project=rows[0].monitor.project, role="editor").user
    seen = factories.MonitorEnvironmentFactory(status="active")
    factories.MembershipFactory(project=seen.monitor.project, role="viewer", user=user)
    page = words(client_of(user).post(ACT, {"do": "mute", "row": ids([rows[0], seen, elsewhere])}, follow=True))
    assert "1 environment is muted." in page
    assert "1 selected rows were left out: your role in their projects may not mute." in page
    assert [row.is_muted for row in fresh([rows[0], seen, elsewhere])] == [True, False, False]


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"do": "mute"}, "Nothing is selected."),
        ({"do": "mute", "row": ["x", str(10**30), "0"]}, "Nothing is selected."),
        ({"do": "mute", "row": range(1, 902)}, "At most 900 rows are changed at once."),
        ({"do": "dance", "row": "1"}, "'dance' cannot be done here."),
    ],
)
def test_what_cannot_be_done_says_why(as_role, wish, error):
    assert error in words(as_role("owner").post(ACT, wish, follow=True))


@pytest.mark.parametrize("wish", [{"do": "tag", "tag": ""}, {"do": "tag", "tag": "a,b"}, {"do": "snooze", "for": "9y"}])
def test_what_is_typed_wrongly_changes_nothing(as_role, rows, wish):
    client = as_role("owner")
    page = words(client.post(ACT, {**wish, "row": ids(rows)}, follow=True))
    assert "is no" in page
    assert entries() == []


@pytest.mark.parametrize("what", ["mute", "snooze", "pause", "tag", "delete-now"])
def test_the_number_of_statements_does_not_grow_with_the_rows(as_role, rows, what):
    client, counts = as_role("owner"), []
    for part in (rows[2:3], rows[:2] + rows[3:]):
        with CaptureQueriesContext(connection) as queries:
            client.post(ACT, {"do": what, "for": "1h", "tag": "x", "row": ids(part)})
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_wall_offers_what_the_person_may_do_somewhere(as_role):
    assert 'id="many"' not in as_role("viewer").get("/wall/").content.decode()
    page = as_role("responder").get("/wall/").content.decode()
    assert ('value="mute"' in page, 'value="pause"' in page) == (True, False)
    assert 'value="delete"' in as_role("owner").get("/wall/").content.decode()


class TestAllRowsOfAFilter:
    WALL = "/wall/?env=production"

    def ask(self, client, what="mute", **more):
        return client.post(ACT, {"do": what, "scope": "filter", "next": self.WALL, **more})

    def test_it_is_said_how_many_are_meant_before_anything_is_done(self, as_role, rows, monitor):
        client = as_role("owner")
        question = self.ask(client)
        assert "Mute: 4 rows?" in words(question)
        assert "Environment: production" in words(question)
        assert entries() == []
        page = client.post(ACT, hidden_fields(question) | {"do": "mute"}, follow=True)
        assert "4 environments are muted." in words(page)
        assert page.redirect_chain[-1][0] == self.WALL
        assert [row.is_muted for row in fresh(rows)] == [True, False, True, True]

    def test_it_asks_again_if_the_filter_leaves_other_rows_by_then(self, as_role, rows, monitor):
        client = as_role("owner")
        fields = hidden_fields(self.ask(client))
        factories.MonitorEnvironmentFactory(monitor__project=monitor.project, status="active")
        question = client.post(ACT, fields | {"do": "mute"})
        assert "Meanwhile the filter leaves other rows" in words(question)
        assert "Mute: 5 rows?" in words(question)
        assert entries() == []

    def test_monitors_are_deleted_in_two_steps_too(self, as_role, rows):
        client = as_role("owner")
        question = self.ask(client, "delete")
        assert "Delete: 4 rows?" in words(question)
        client.post(ACT, hidden_fields(question) | {"do": "delete-now"})
        assert {row.monitor.status for row in fresh(rows)} == {"pending_deletion"}

    def test_rows_where_it_is_not_allowed_are_left_out_and_counted_before(self, rows, elsewhere):
        user = factories.MembershipFactory(project=rows[0].monitor.project, role="responder").user
        factories.MembershipFactory(project=elsewhere.monitor.project, role="viewer", user=user)
        page = words(self.ask(client_of(user)))
        assert "Mute: 4 rows?" in page
        assert "1 further row is left out" in page

    def test_its_number_is_bounded(self, as_role, rows, monkeypatch):
        monkeypatch.setattr(views, "FILTER_ROWS_MAX", 3)
        page = self.ask(as_role("owner"), follow=True)
        assert entries() == []
        assert page.status_code == 302

    def test_the_number_of_statements_does_not_grow_with_the_rows(self, as_role, rows):
        client, counts = as_role("owner"), []
        for owner, part in (("team:x", rows[2:3]), ("team:y", [rows[0], rows[3]])):
            type(part[0].monitor).objects.filter(pk__in=[row.monitor_id for row in part]).update(owner=owner)
        for query in ("owner=team:x", "owner=team:y"):
            fields = {"scope": "filter", "next": f"/wall/?{query}", "do": "pause"}
            expected = hidden_fields(client.post(ACT, fields))["expected"]
            with CaptureQueriesContext(connection) as queries:
                client.post(ACT, fields | {"expected": expected})
            counts.append(len(queries))
        assert counts[0] == counts[1]


def hidden_fields(page):
    """What the form of the question sends."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.content.decode())
    return {name: unescape(value) for name, value in found if name != "csrfmiddlewaretoken"}
