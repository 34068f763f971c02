"""What `/metrics` says, and that documentation, dashboard and alert rules speak of nothing else."""

import json
import re
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from checkins.node_facts import NodeFacts
from health.facts import Facts, Intake, Outage, Rows, TickFacts
from health.metrics import GAUGES, render
from health.queries import Figures
from lib.metrics import METERS
from project.local.children import BASE_DIR
from tests.docs.pages import DOCS, code, section, tables
from tests.factories import NOW

SECOND = timedelta(seconds=1)
DASHBOARD = json.loads((BASE_DIR / "deploy" / "grafana" / "watchclock.json").read_text())
RULES = yaml.safe_load((BASE_DIR / "deploy" / "prometheus" / "watchclock.rules.yml").read_text())
REFERENCE = DOCS / "reference" / "metrics.md"
TICK = TickFacts(NOW - 61 * SECOND, NOW - 60 * SECOND, NOW - 60 * SECOND, None)
HERE, GONE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
NODE = NodeFacts(uuid.UUID(HERE), "web-1", 7, NOW - 2 * SECOND, NOW - 3 * SECOND, 5)
ROWS = Rows(
    newest=TICK,
    newest_finished_at=NOW - 121 * SECOND,
    oldest_unfinished=TICK,
    clocks=(
        (0, "missed", NOW - 121 * SECOND),
        (1, "missed", NOW - 121 * SECOND),
        (0, "timeout", NOW - 61 * SECOND),
        (1, "timeout", NOW - 61 * SECOND),
    ),
    held_at=NOW - 10 * SECOND,
    nodes=(NODE, replace(NODE, id=uuid.UUID(GONE), dropped_at=NOW)),
    unsent_count=3,
    oldest_unsent_at=NOW - 30 * SECOND,
    waiting={"failed": 1, "monitor_unknown": 0},
)
INTAKE = Intake(True, 0, 24_576, 1 << 30, False, False, 1 << 40)
FACTS = Facts(
    now=NOW,
    watched_since=NOW,
    rows=ROWS,
    last_seen={"beat": NOW - 4 * SECOND, "worker": NOW, "delivery": NOW},
    queues={"clock": 2, "notifications": 0},
    intake=INTAKE,
)
FIGURES = Figures(
    tick_seconds={("wait", 0.5): 1.25},
    newest_marked={"missed": 7, "timeout": 0, "unknown": 0},
    due_count=9,
    processing_errors={"monitor_not_found": 4},
)


def told(facts=FACTS, figures=FIGURES, sums=None):
    text = render(facts, figures, {} if sums is None else sums, now=NOW).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def meters() -> list[MetricWrapperBase]:
    """Every counter and histogram."""
    return [meter for meter in METERS._collector_to_names if isinstance(meter, MetricWrapperBase)]


def names():
    """Every name under which a sample can be asked for."""
    counted = {sample.name for family in METERS.collect() for sample in family.samples}
    labelled = {
        family.name + suffix
        for family in METERS.collect()
        for suffix in ({"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}[family.type])
    }
    return GAUGES.keys() | counted | labelled


def test_the_state_is_told_as_of_now():
    values = told()

    assert values["watchclock_up", "postgres"] == 1
    assert values["watchclock_clock_lag_seconds",] == 121
    assert values["watchclock_ledger_lag_seconds",] == 61
    assert values["watchclock_unfinished_tick_seconds",] == 60
    assert values["watchclock_held_tick_seconds",] == 10
    assert values["watchclock_shards_behind", "missed"] == 2
    assert values["watchclock_watermark_age_seconds", "web-1", HERE] == 3
    assert values["watchclock_node_silence_seconds", "web-1", HERE] == 2
    assert ("watchclock_node_silence_seconds", "web-1", GONE) not in values
    assert values["watchclock_spooled_requests", "web-1", GONE] == 5
    assert values["watchclock_dropped_nodes",] == 1
    assert (values["watchclock_outbox_unsent",], values["watchclock_outbox_oldest_seconds",]) == (3, 30)
    assert values["watchclock_heard_seconds", "beat"] == 4
    assert values["watchclock_queue_messages", "clock"] == 2
    assert values["watchclock_takes_check_ins",] == 1
    assert values["watchclock_findings", "clock", "note"] == 1
    assert values["watchclock_tick_seconds", "wait", "0.5"] == 1.25
    assert values["watchclock_tick_marked", "missed"] == 7
    assert values["watchclock_due_environments",] == 9
    assert values["watchclock_processing_errors_per_minute", "monitor_not_found"] == 4


def test_what_processes_have_counted_is_told_with_it():
    values = told(sums={'["watchclock_ingest_requests_total", {"outcome": "stored"}]': "12"})

    assert values["watchclock_ingest_requests_total", "stored"] == 12
    assert values["watchclock_ingest_requests_total", "spooled"] == 0


def test_while_postgresql_is_away_it_says_so_and_makes_nothing_up():
    away = replace(FACTS, rows=None, postgres=Outage(NOW, "connection refused"))

    values = told(away, None)

    assert values["watchclock_up", "postgres"] == 0
    assert values["watchclock_takes_check_ins",] == 1
    assert values["watchclock_ingest_requests_total", "stored"] == 0
    assert not any(name.startswith("watchclock_clock_lag") for name, *_ in values)


def test_while_valkey_is_away_sums_are_left_out():
    text = render(replace(FACTS, valkey=Outage(NOW, "refused")), FIGURES, None, now=NOW).decode()

    assert 'watchclock_up{part="valkey"} 0.0' in text
    assert "watchclock_ingest_requests" not in text


def test_every_gauge_is_told_when_there_is_something_to_tell():
    assert {name for name, *_ in told()} >= GAUGES.keys()


# --- documentation, dashboard, rules ----------------------------------------------------------------------------------


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bwatchclock_\w+", expression))


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return panels + [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_rules_name_metrics_that_exist(expression):
    assert names_in(expression) <= names()
    assert expression.count("(") == expression.count(")")
    assert names_in(expression) or "up{" in expression


def test_the_rules_are_such_as_prometheus_reads():
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]

    assert RULES.keys() == {"groups"}
    assert all(group.keys() <= {"name", "interval", "rules"} for group in RULES["groups"])
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 12
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_every_panel_has_a_place_of_its_own():
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_metric_is_documented_with_its_labels_and_no_other():
    documented = {
        code(row[0]): set(re.findall(r"`(\w+)`", row[1]))
        for heading in ("## State", "## Counted")
        for table in tables(section(REFERENCE, heading))
        for row in table
    }
    counted = {
        family.name + ("_total" if family.type == "counter" else ""): set(labels)
        for family, labels in ((next(iter(meter.describe())), meter._labelnames) for meter in meters())
    }

    assert documented == {gauge.name: set(gauge.labels) for gauge in GAUGES.values()} | counted


def test_every_alert_says_what_to_do():
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}

    [table] = [rows for rows in tables((DOCS / "how-to" / "observe.md").read_text()) if code(rows[0][0]) in alerts]
    assert {code(row[0]) for row in table} == alerts
