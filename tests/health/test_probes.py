"""What machines ask the web, and what it answers when things are away."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from health.facts import Facts, Intake, Outage, Rows, TickFacts
from health.poller import Poller
from health.probes import PATHS, answer_probe
from health.queries import Figures
from tests.factories import NOW

ROWS = Rows(newest=TickFacts(NOW, NOW, NOW, NOW), newest_finished_at=NOW)
INTAKE = Intake(True, 0, 24_576, 1 << 30, False, False, 1 << 40)
WELL = Facts(
    now=NOW,
    watched_since=NOW - timedelta(hours=1),
    rows=ROWS,
    last_seen={"beat": NOW, "worker": NOW, "delivery": NOW},
    intake=INTAKE,
)
DATABASE_AWAY = replace(
    WELL, rows=None, postgres=Outage(NOW, "connection refused"), intake=replace(INTAKE, is_direct=False)
)
REFUSING = replace(DATABASE_AWAY, intake=replace(INTAKE, is_direct=False, is_refusing=True))


class Seen(Poller):
    """A poller with the facts of a test, which polls nothing."""

    def __init__(self, facts: Facts | None) -> None:
        self.seen = facts

    def facts(self) -> Facts | None:
        return self.seen

    async def figures(self, now: Any) -> Figures | None:
        return Figures({}, {}, 0, {})

    async def sums(self) -> dict[str, str]:
        return {}


def ask(path: str, facts: Facts | None = WELL, *, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(answer_probe(Seen(facts), scope, send))
    return sent[0]["status"], dict(sent[0]["headers"])[b"content-type"].decode(), sent[1]["body"]


@pytest.mark.parametrize("facts", [WELL, DATABASE_AWAY, REFUSING, None])
def test_a_process_that_answers_is_alive_whatever_is_away(facts):
    assert ask("/healthz", facts)[0] == 200


@pytest.mark.parametrize(
    ("facts", "ready", "all_ready", "status"),
    [
        (WELL, 200, 200, "ok"),
        (DATABASE_AWAY, 200, 503, "degraded"),
        (REFUSING, 503, 503, "failing"),
        (
            replace(WELL, last_seen={"beat": NOW, "worker": NOW - timedelta(minutes=2), "delivery": NOW}),
            200,
            503,
            "degraded",
        ),
        (replace(WELL, rows=replace(ROWS, waiting={"failed": 1})), 200, 200, "ok"),
    ],
    ids=["all is well", "PostgreSQL is away", "the spool is full", "no worker", "a note only"],
)
def test_a_web_is_in_service_as_long_as_it_takes_check_ins(facts, ready, all_ready, status):
    assert ask("/readyz", facts)[0] == ready
    assert ask("/readyz/all", facts)[0] == all_ready
    assert json.loads(ask("/readyz", facts)[2])["status"] == status


def test_what_is_wrong_is_said_in_words():
    said = json.loads(ask("/readyz", DATABASE_AWAY)[2])

    assert said["takes_check_ins"] is True
    assert said["findings"][0] == {
        "part": "postgres",
        "severity": "bad",
        "what": "PostgreSQL cannot be used (connection refused). Check-ins are stored in the spool; nothing is judged "
        "and nobody is notified until it is back.",
        "since": "2026-01-05T10:00:00Z",
        "todo": "Bring PostgreSQL back; the spool is emptied into it without your help.",
    }
    assert [finding["severity"] for finding in said["findings"]] == ["bad", "note"]


@pytest.mark.parametrize("path", ["/readyz", "/readyz/all"])
def test_before_the_first_poll_it_is_not_ready(path):
    assert ask(path, None)[0] == 503


@pytest.mark.parametrize(
    ("token", "is_open", "said", "status"),
    [
        ("", False, None, 403),
        ("", False, "Bearer ", 403),
        ("", True, None, 200),
        ("s3cret", False, None, 403),
        ("s3cret", False, "Bearer wrong", 403),
        ("s3cret", False, "s3cret", 403),
        ("s3cret", False, "Bearer s3cret", 200),
    ],
)
def test_metrics_are_shown_to_those_who_may_see_them(monkeypatch, token, is_open, said, status):
    monkeypatch.setattr(settings, "METRICS_TOKEN", token)
    monkeypatch.setattr(settings, "METRICS_OPEN", is_open)

    answered, kind, body = ask("/metrics", **({} if said is None else {"authorization": said}))

    assert answered == status
    assert (b"watchclock_up" in body) is (status == 200)
    assert kind.startswith("text/plain" if status == 200 else "application/json")


@pytest.mark.parametrize("path", sorted(PATHS))
def test_only_get_and_head_are_understood(path):
    assert ask(path, method="POST")[0] == 405
    assert ask(path, method="HEAD")[2] == b""
