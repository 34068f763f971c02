"""The monitors of one person: on the wall and on Now."""

from datetime import timedelta

import pytest

from incidents.models import Issue
from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.conftest import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(monitor):
    return factories.MembershipFactory(project=monitor.project, user__username="ann", user__email="ann@work.example")


@pytest.fixture
def ann(member):
    return client_of(member.user)


@pytest.fixture
def owned(monitor):
    """A failing environment of the project that somebody owns."""

    def make(owner):
        row = factories.MonitorEnvironmentFactory(
            monitor__project=monitor.project, monitor__owner=owner, monitor__name=owner, status="error"
        )
        factories.OccurrenceFactory(incident__monitor_environment=row)
        return row

    return make


def on_wall(client, **query):
    return {row.name for row in client.get("/wall/", {"mine": "1", **query}).context["rows"]}


def on_now(client, **query):
    return {one.environment.monitor.name for one, _ in client.get("/", query).context["open"]}


def test_mine_is_what_names_me_or_either_of_my_addresses_as_owner(ann, member, owned):
    factories.PreferencesFactory(user=member.user, email="ann@home.example")
    mine = {"user:Ann", "user:ann@work.example", "user:ANN@home.example"}
    for owner in (*mine, "user:anna", "team:ann", "user:%", ""):
        owned(owner)
    assert on_wall(ann) == mine
    assert on_now(ann, mine="1") == mine
    assert on_now(ann) > mine


def test_mine_is_what_i_look_after_until_it_is_resolved(ann, member, incident):
    incident.issue.assignee = member
    incident.issue.save()
    name = incident.monitor_environment.monitor.name
    assert on_wall(ann) == on_now(ann, mine="1") == {name}
    Issue.objects.filter(pk=incident.issue_id).update(
        status="resolved", resolved_at=incident.opened_at, resolved_by="hand"
    )
    assert on_wall(ann) == on_now(ann, mine="1") == set()


def test_what_i_own_in_a_project_of_others_is_not_there(ann):
    factories.MonitorEnvironmentFactory(monitor__owner="user:ann", status="error")
    assert on_wall(ann) == set()


def test_what_is_late_is_narrowed_too(ann, monitor):
    slot = utcnow() - timedelta(minutes=3)
    late = {"pending_slot": slot, "next_checkin": slot, "next_checkin_latest": slot + timedelta(minutes=10)}
    mine, _ = (
        factories.MonitorEnvironmentFactory(monitor__project=monitor.project, monitor__owner=owner, status="ok", **late)
        for owner in ("user:ann", "user:bob")
    )
    assert len(ann.get("/").context["late"]) == 2
    assert [row.pk for row in ann.get("/", {"mine": "1"}).context["late"]] == [mine.pk]


def test_every_page_leads_to_it_and_further_rows_are_narrowed_too(ann, owned):
    row = owned("user:ann")
    page = ann.get("/").content.decode()
    assert 'href="/wall/?mine=1"' in page
    assert 'href="/?mine=1"' in page
    rows = ann.get("/wall/rows", {"from": "0", "mine": "1"}).context["rows"]
    assert [one.id for one in rows] == [row.pk]


def test_it_costs_no_statement_more(ann, owned, django_assert_max_num_queries):
    owned("user:ann")
    with django_assert_max_num_queries(10):
        ann.get("/wall/", {"mine": "1"})
