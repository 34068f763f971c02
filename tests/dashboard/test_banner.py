"""The banner of the admin: there when something is wrong, on every page, for people who may see it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from health import poller
from health.facts import Rows
from health.problems import find_problems
from tests.factories import NOW, MonitorFactory
from tests.health.test_probes import DATABASE_AWAY, WELL, Seen

pytestmark = pytest.mark.django_db

NO_BEAT = replace(WELL, last_seen={"beat": NOW - timedelta(minutes=2), "worker": NOW, "delivery": NOW})


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("looker"))
    return client


def pages() -> list[str]:
    monitor = MonitorFactory()
    return [
        "/admin/",
        "/admin/monitors/monitor/",
        f"/admin/monitors/monitor/{monitor.id}/change/",
        f"/admin/monitors/monitor/{monitor.id}/history/",
        "/admin/clocktasks/tick/",
    ]


def test_every_page_says_what_is_wrong_since_when_and_what_to_do(staff, monkeypatch):
    monkeypatch.setattr(poller, "running", Seen(NO_BEAT))

    for page in pages():
        text = staff.get(page).content.decode()
        assert "No beat runs" in text, page
        assert "Since 2026-01-05 09:58:00 UTC." in text, page
        assert "Start beat" in text, page


def test_it_costs_no_statement(staff, monkeypatch):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert staff.get("/admin/clocktasks/tick/").status_code == 200
        return len(captured)

    without = queries()
    monkeypatch.setattr(poller, "running", Seen(replace(WELL, rows=Rows(), last_seen={})))
    assert queries() == without


@pytest.mark.parametrize("facts", [WELL, None])
def test_there_is_none_while_all_is_well_or_nothing_is_known(staff, monkeypatch, facts):
    monkeypatch.setattr(poller, "running", Seen(facts))

    assert b"watchclock-findings" not in staff.get("/admin/").content


def test_strangers_learn_nothing(monkeypatch):
    monkeypatch.setattr(poller, "running", Seen(DATABASE_AWAY))

    text = Client().get("/login/").content.decode()

    assert all(finding.what not in text for finding in find_problems(DATABASE_AWAY))
