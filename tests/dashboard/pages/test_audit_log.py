"""The audit log of a project: filters, pages, exports."""

import csv
import io
import json
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.urls import reverse

from audit.models import AuditEntry
from dashboard.pages.auditlog import export
from dashboard.pages.auditlog.entries import ENTRIES_SHOWN
from dashboard.pages.auditlog.filters import Filters
from tests import factories
from tests.dashboard.pages.conftest import words
from tests.factories import NOW

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def project(monitor):
    return monitor.project


@pytest.fixture
def address(project):
    return reverse("audit-log", args=[project.slug])


@pytest.fixture
def note(project, monitor):
    def write(**of):
        defaults = {"project_id": project.pk, "object_id": monitor.pk, "object_name": monitor.slug}
        return factories.AuditEntryFactory(**defaults | of)

    return write


@pytest.mark.parametrize(("role", "is_seen"), [("viewer", False), ("editor", False), ("owner", True)])
def test_settings_of_channels_are_for_those_who_manage_them(as_role, project, address, note, role, is_seen):
    changes = {"to": ["ann@example.com", "bob@example.com"], "server": ["", "https://in.example"], "name": ["a", "b"]}
    note(kind="channel", object_name="mail", changes=changes)
    note(kind="channel", object_name="mail", action="test accepted", changes={"to": [None, "ann@example.com"]})
    assert ("example.com" in (page := words(as_role(role).get(address)))) == is_seen
    assert "to changed" in page or is_seen
    client = AsyncClient()
    client.force_login(factories.MembershipFactory(project=project, role=role).user)

    async def export_as(name):
        response = await client.get(reverse("export-audit-log", args=[project.slug]), {"format": name})
        return await joined(response)

    for name in ("csv", "json"):
        text = async_to_sync(export_as)(name)
        assert ("example.com" in text, "https://in.example" in text) == (is_seen, is_seen)


def test_an_entry_says_who_did_what_and_shows_before_and_after(as_role, address, note, monitor):
    note(changes={"checkin_margin": [1, 5], "public_key": "changed", "tags": [[], ["db", "night"]]})
    page = words(as_role("viewer").get(address))
    assert f"anna (admin) changed monitor {monitor.slug}" in page
    for change in ("checkin margin 1 → 5", "public key changed", "tags - → db, night"):
        assert change in page


def test_entries_of_other_projects_are_not_there(as_role, address, note):
    note(project_id=0, object_name="elsewhere")
    page = words(as_role("owner").get(address))
    assert "elsewhere" not in page
    assert "Nothing yet." in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "other mine"),
        ({"object": "MIN"}, "mine"),
        ({"kind": "member"}, "other"),
        ({"id": "77"}, "other"),
        ({"person": "ber"}, "other"),
        ({"action": "removed"}, "other"),
        ({"since": "2026-01-05T10:30"}, "other"),
        ({"until": "2026-01-05T10:30"}, "mine"),
        ({"since": "yesterday"}, "other mine"),
        ({"person": "nobody"}, ""),
    ],
)
def test_it_is_filtered_by_object_person_action_and_time(as_role, address, note, query, found):
    note(object_name="mine")
    note(object_name="other", kind="member", object_id=77, actor_name="berta", action="removed", at=NOW + HOUR)
    response = as_role("viewer").get(address, query)
    assert " ".join(one.entry.object_name for one in response.context["entries"]) == found
    assert ("'yesterday' is no time" in words(response)) == ("yesterday" in query.values())


def test_times_of_the_filter_are_on_the_wall_clock_of_the_reader(as_role, address, note):
    note()
    client = as_role("viewer")
    client.cookies["watchclock_zone"] = "Asia/Tokyo"
    for since, count in (("2026-01-05T19:00", 1), ("2026-01-05T19:01", 0)):
        assert len(client.get(address, {"since": since}).context["entries"]) == count


def test_pages_follow_each_other_without_a_gap(as_role, address, note):
    rows = [note().pk for _ in range(ENTRIES_SHOWN + 2)]
    client = as_role("viewer")
    first = client.get(address, {"kind": "monitor"})
    second = client.get(f"{address}?{first.context['older']}")
    seen = [one.entry.pk for response in (first, second) for one in response.context["entries"]]
    assert seen == rows[::-1]
    assert second.context["older"] is None
    assert "Newest" in words(second)


def exported(project, as_format):
    return async_to_sync(joined)(export.write_export(project.pk, Filters(), as_format=as_format, sees_channels=False))


async def joined(pieces):
    return "".join([piece if isinstance(piece, str) else piece.decode() async for piece in pieces])


def test_exports_are_read_in_bounded_pieces(project, note, monkeypatch, django_assert_num_queries):
    rows = [note(object_name="=HYPERLINK(1)").pk for _ in range(5)]
    monkeypatch.setattr(export, "PIECE_ROWS", 2)
    with django_assert_num_queries(3):
        found = json.loads(exported(project, "json"))
    assert [one["id"] for one in found] == rows[::-1]
    assert found[0]["changes"] == {"checkin_margin": [1, 5]}
    [names, first, *_] = csv.reader(io.StringIO(exported(project, "csv")))
    assert dict(zip(names, first, strict=True))["object"] == "'=HYPERLINK(1)"
    monkeypatch.setattr(export, "ROWS_MAX", 3)
    assert len(json.loads(exported(project, "json"))) == 3


def test_an_export_without_entries_is_an_empty_list(project):
    assert json.loads(exported(project, "json")) == []


def test_an_export_is_streamed_and_noted(project, note):
    note(kind="member", object_name="berta")
    client = AsyncClient()
    client.force_login(factories.MembershipFactory(project=project).user)
    address = reverse("export-audit-log", args=[project.slug])

    async def get(**query):
        return await client.get(address, query)

    response = async_to_sync(get)(format="json", kind="member")
    assert response.is_async
    assert "berta" in async_to_sync(joined)(response.streaming_content)
    assert response["Content-Disposition"].startswith(f'attachment; filename="audit-{project.slug}-')
    assert async_to_sync(get)(format="xml").status_code == 404
    entry = AuditEntry.objects.get(action="exported")
    assert (entry.project_id, entry.changes["filters"]) == (project.pk, [None, "kind=member"])
