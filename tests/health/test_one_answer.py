"""Banner, `/readyz`, metrics, the clock's page and its command: the same facts give the same findings everywhere."""

import io
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from checkins.node_facts import NODE_SILENT_MAX, NodeFacts, node_standing
from clocktasks.clock import MINUTE
from health import liveness, poller
from health.clock.lag import explain
from health.clock.reasons import LATE_MAX, PROCESS_SILENT_MAX, TICK_MAX
from health.facts import Facts, Intake, Outage, Rows, Severity, TickFacts
from health.probes import readiness
from health.problems import find_problems
from lib import valkey
from tests import factories
from tests.factories import NOW

SECOND = timedelta(seconds=1)
EDGES = [
    timedelta(),
    *(limit + over * SECOND for limit in (MINUTE + TICK_MAX, NODE_SILENT_MAX, PROCESS_SILENT_MAX, LATE_MAX)
      for over in (-1, 0, 1, 2)),
    timedelta(days=2),
]  # fmt: skip
ages = st.sampled_from(EDGES) | st.integers(-700, 700).map(lambda seconds: timedelta(seconds=seconds))
instants = ages.map(lambda age: NOW - age)
maybe = st.none() | instants
outages = st.none() | st.just(Outage(NOW - MINUTE, "connection refused"))
ticks = st.builds(
    TickFacts,
    at=instants,
    dispatched_at=instants,
    decided_at=maybe,
    finished_at=st.none(),
    decision=st.sampled_from(["normal", "abnormal", "recovering"]),
    deviation_percent=st.sampled_from([None, -24.0, 300.0]),
)
nodes = st.builds(
    NodeFacts,
    id=st.integers(1, 9).map(lambda number: uuid.UUID(int=number)),
    host=st.sampled_from(["web-1", "web-2"]),
    pid=st.integers(1, 9),
    seen_at=instants,
    watermark=instants,
    spooled_count=st.sampled_from([0, 1204]),
    dropped_at=maybe,
)
rows = st.builds(
    Rows,
    newest=st.none() | ticks,
    newest_finished_at=maybe,
    oldest_unfinished=st.none() | ticks,
    oldest_undecided=st.none() | ticks,
    clocks=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["missed", "timeout"]), instants)),
    clock_incident=st.none() | st.just(("nobody listened", NOW - MINUTE)),
    nodes=st.lists(nodes, max_size=3),
    unsent_count=st.integers(0, 3),
    oldest_unsent_at=maybe,
    given_up_count=st.integers(0, 1),
    unreported_failures=st.sampled_from([(), ("room",), ("room", "pager")]),
    unjudged=st.sampled_from([(), [("backup of shop", "its time zone is unknown.")]]),
)
facts_of_all_kinds = st.builds(
    Facts,
    now=st.just(NOW),
    watched_since=instants,
    rows=st.none() | rows,
    postgres=outages,
    valkey=outages,
    broker=outages,
    last_seen=st.dictionaries(st.sampled_from(["beat", "worker", "delivery"]), instants),
    queues=st.sampled_from([{}, {"clock": 4, "delivery": 1}]),
    intake=st.none() | st.builds(Intake, st.booleans(), st.just(3), st.just(1), st.just(2), st.booleans(),
                                 st.booleans(), st.sampled_from([None, 1, 1 << 40])),
    why_nobody=st.sampled_from(["", "Nobody is notified: ALERT_EMAIL_TO is empty."]),
)  # fmt: skip


@given(facts_of_all_kinds)
def test_what_the_clock_page_and_its_command_show_is_what_readyz_and_the_banner_show(facts):
    status = explain(facts)

    shown = [finding for finding in (*status.reasons, *status.besides) if finding.severity is not Severity.NORMAL]
    assert sorted(map(repr, shown)) == sorted(map(repr, find_problems(facts)))
    assert [(finding["what"], finding["severity"]) for finding in readiness(facts)["findings"]] == [
        (finding.what, finding.severity) for finding in find_problems(facts)
    ]


@given(facts_of_all_kinds)
def test_a_clock_that_is_called_late_has_a_finding_that_every_other_place_shows(facts):
    status = explain(facts)

    if status.behind is not None and not status.is_normal:
        assert status.reasons[0] in find_problems(facts)


@given(facts_of_all_kinds)
def test_bad_things_come_first_and_each_finding_is_a_sentence_with_something_to_do(facts):
    found = find_problems(facts)

    assert [finding.is_bad for finding in found] == sorted((finding.is_bad for finding in found), reverse=True)
    for finding in found:
        assert re.fullmatch(r"[A-Z0-9].*[.?]", finding.what), finding.what
        assert finding.todo.endswith(".")


# --- the surfaces themselves, on the same rows ------------------------------------------------------------------------


@pytest.fixture
def valkey_of_this_test() -> Iterator[None]:
    valkey.valkey.cache_clear()
    valkey.valkey().delete(liveness.KEY)
    yield
    valkey.valkey.cache_clear()
    valkey.valkey().delete(liveness.KEY)


def at_rest() -> None:
    factories.TickFactory(at=NOW)


def a_silent_node() -> None:
    at_rest()
    factories.IngestNodeFactory(seen_at=NOW - 15 * SECOND, watermark=NOW - 15 * SECOND)


def a_draining_node() -> None:
    at_rest()
    factories.IngestNodeFactory(seen_at=NOW + 30 * SECOND, watermark=NOW - 90 * SECOND, spooled_count=12)


def a_dropped_node() -> None:
    at_rest()
    factories.IngestNodeFactory(state="dropped", spooled_count=3)


def slow_shards() -> None:
    factories.TickFactory(at=NOW - 4 * MINUTE, finished_at=None)
    factories.TickFactory(at=NOW, finished_at=None)
    for shard in range(3):
        factories.ShardClockFactory(shard=shard, position=NOW - 5 * MINUTE)


def an_unusual_volume() -> None:
    factories.TickFactory(at=NOW, decided_at=None, decision="abnormal", deviation_percent=-24.0, finished_at=None)


def no_tick_for_minutes() -> None:
    factories.TickFactory(at=NOW - 9 * MINUTE)


def maybe_deaf() -> None:
    at_rest()
    factories.ClockIncidentFactory(started_at=NOW - MINUTE, ended_at=None, summarised_at=None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("valkey_of_this_test")
@pytest.mark.parametrize(
    ("given_rows", "count"),
    [
        (at_rest, 0),
        (a_silent_node, 1),
        (a_draining_node, 1),
        (a_dropped_node, 1),
        (slow_shards, 1),
        (an_unusual_volume, 1),
        (no_tick_for_minutes, 1),
        (maybe_deaf, 1),
    ],
)
def test_all_surfaces_name_the_same_reasons(given_rows, count, monkeypatch, settings):
    settings.ALERT_EMAIL_TO = ["oncall@example.com"]
    now = NOW + 30 * SECOND
    given_rows()
    for kind in liveness.Kind:
        liveness.mark_alive(kind, now)
    intake = Intake(True, 0, 24_576, 1 << 30, False, False, 1 << 40)
    polling = poller.Poller(intake=lambda: intake, utcnow=lambda: now)
    monkeypatch.setattr(poller, "running", polling)
    with time_machine.travel(now, tick=False):
        polling._thread.submit(polling.poll).result(30)
        readyz = sorted(finding["what"] for finding in readiness(facts_of(polling))["findings"])
        assert shown_by_banner() == readyz
        assert shown_by_page() == readyz
        assert shown_by_command() == readyz
    polling.stop()
    polling._thread.shutdown(wait=True)

    assert len(readyz) == count


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("valkey_of_this_test")
def test_the_clock_page_shows_what_the_poll_said_of_valkey_and_the_broker_and_asks_neither(monkeypatch):
    at_rest()
    away = Outage(NOW - MINUTE, "Connection refused")
    facts = replace(Facts(now=NOW, watched_since=NOW - MINUTE), rows=Rows(), valkey=away, broker=away)
    intake = Intake(True, 0, 24_576, 1 << 30, False, False, 1 << 40)
    polling = poller.Poller(intake=lambda: intake, utcnow=lambda: NOW)
    monkeypatch.setattr(polling, "facts", lambda: facts)
    monkeypatch.setattr(poller, "running", polling)

    with time_machine.travel(NOW, tick=False):
        shown = page(reverse("clock-page"))
    polling.stop()

    assert "Valkey cannot be used (Connection refused)" in shown


def facts_of(polling: poller.Poller) -> Facts:
    facts = polling.facts()
    assert facts is not None
    return facts


def page(path: str) -> str:
    client = Client()
    client.force_login(User.objects.get_or_create(username="admin", is_staff=True, is_superuser=True)[0])
    return unescape(client.get(path).text)


def shown_by_banner() -> list[str]:
    return sorted(re.findall(r"<strong>(.*?)</strong>", page("/admin/").partition('id="watchclock-findings"')[2]))


def shown_by_page() -> list[str]:
    text = page(reverse("clock"))
    lists = [text.partition(f'id="{name}"')[2].partition("</div>")[0] for name in ("reasons", "besides")]
    return sorted(what for part in lists for what in re.findall(r">(?:bad|note)</span> (.*?) <span", part))


def shown_by_command() -> list[str]:
    out = io.StringIO()
    with suppress(SystemExit):
        call_command("clock", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    findings = [*answer["reasons"], *answer["besides"]]
    return sorted(finding["what"] for finding in findings if finding["severity"] != "normal")


@pytest.mark.django_db
@pytest.mark.parametrize("silence", [NODE_SILENT_MAX, NODE_SILENT_MAX + SECOND])
def test_all_surfaces_give_a_node_the_same_state(silence):
    factories.TickFactory(at=NOW)
    row = factories.IngestNodeFactory(seen_at=NOW - silence)
    node = row.facts()
    word = node_standing(node, NOW).word
    with time_machine.travel(NOW, tick=False):
        out = io.StringIO()
        call_command("clock", "--json", stdout=out)
        listed = page(reverse("admin:checkins_ingestnode_changelist"))
        clock = page(reverse("clock"))

    assert word == ("silent" if silence > NODE_SILENT_MAX else "live")
    assert json.loads(out.getvalue())["nodes"][0]["state"] == word
    for text in (listed, clock):
        assert re.findall(r">(live|silent)</span>", text) == [word]
    assert any("was last seen at" in finding.what for finding in find_problems(facts_about(node))) is (word == "silent")


def facts_about(node: NodeFacts) -> Facts:
    tick = TickFacts(NOW, NOW, NOW, NOW)
    seen: dict[str, datetime] = {"beat": NOW, "worker": NOW}
    return replace(Facts(now=NOW, watched_since=NOW, rows=Rows(newest=tick, nodes=(node,))), last_seen=seen)
