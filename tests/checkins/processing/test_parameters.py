"""D36: PostgreSQL takes 65,535 parameters a statement, so no statement may have more of them for more rows."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from checkins.editing import delete_monitors, set_monitors_status
from checkins.models import CheckIn, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.retry import settle_parked
from checkins.processing.waiting import claim_parked
from monitors.models import Environment, Monitor, MonitorEnvironment
from monitors.services import set_environments_muted, set_monitors_muted
from monitors.state import MonitorStatus
from project.local.children import BASE_DIR
from tests.factories import NOW, ProjectFactory
from tests.messages import make_config, make_message
from tests.test_floors import FLOORS

FEW, MANY = 3, 40
PARAMETERS_MAX = 65_535


@contextmanager
def most_parameters() -> Iterator[list[int]]:
    """Hold in a list of one how many parameters the statement with the most of them had."""
    most = [0]

    def look(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not many:  # Each of many rows is a statement of its own.
            most[0] = max(most[0], len(params or ()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        yield most


def a_life(project_id: int, count: int) -> None:
    """Check-ins that wait, monitors that come, and everything that a person does to many at once."""
    slugs = [f"job-{number}" for number in range(count)]
    receive([make_message("ok", project_id=project_id, slug=slug) for slug in slugs], now=NOW)
    receive(
        [
            make_message(
                "error",
                project_id=project_id,
                slug=slug,
                environment=f"place-{number}",
                config=make_config(checkin_margin_minutes=number + 1),
            )
            for number, slug in enumerate(slugs)
        ],
        now=NOW,
    )
    receive([make_message("ok", project_id=project_id, slug=f"later-{slug}") for slug in slugs], now=NOW)
    settle_parked(now=NOW)
    monitors = list(Monitor.objects.filter(project=project_id).values_list("id", flat=True))
    environments = list(MonitorEnvironment.objects.filter(monitor__project=project_id).values_list("id", flat=True))
    assert len(monitors) == count
    set_monitors_muted(monitors, muted=True)
    set_environments_muted(environments, muted=False)
    set_monitors_status(monitors, MonitorStatus.DISABLED, now=NOW)
    set_monitors_status(monitors, MonitorStatus.ACTIVE, now=NOW)
    delete_monitors(monitors, now=NOW)


@pytest.mark.django_db
def test_d36_no_statement_has_more_parameters_for_more_monitors_environments_and_parked_check_ins():
    with most_parameters() as few:
        a_life(ProjectFactory().id, FEW)
    with most_parameters() as many:
        a_life(ProjectFactory().id, MANY)
    assert many == few


@pytest.mark.django_db
def test_d36_more_check_ins_than_a_statement_has_parameters_may_wait_for_one_monitor():
    project = ProjectFactory()
    count = PARAMETERS_MAX + 1
    receive([make_message("ok", project_id=project.id, slug="job")], now=NOW)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO checkins_waitingcheckin
                   (project_id, slug, environment, reason, error, source, received_at, message)
            SELECT project_id, slug, environment, reason, error, source, received_at, message
              FROM checkins_waitingcheckin, generate_series(2, %s)
            """,
            [count],
        )
    assert len(claim_parked([(project.id, "job")])) == count
    assert not WaitingCheckIn.objects.exists()


@pytest.mark.django_db
def test_any_of_finds_what_in_finds_by_number_text_relation_and_uuid():
    project = ProjectFactory()
    receive(
        [make_message("ok", project_id=project.id, slug=f"job-{n}", run=n, config=make_config()) for n in range(3)],
        now=NOW,
    )
    [first, second, _] = Monitor.objects.order_by("id")
    assert set(Monitor.objects.filter(slug__any_of=["job-0", "job-1", 'no "such" {one}'])) == {first, second}
    assert MonitorEnvironment.objects.filter(monitor_id__any_of={first.id, second.id}).count() == 2
    assert Environment.objects.filter(name__any_of=iter(["production"])).count() == 1
    assert CheckIn.objects.filter(guid__any_of=[CheckIn.objects.earliest("id").guid]).count() == 1
    assert not Monitor.objects.filter(id__any_of=[]).exists()
    assert Monitor.objects.exclude(id__any_of=[first.id]).count() == 2


MAY_SEND_A_PARAMETER_FOR_EACH = {
    "dashboard/admin/base.py: pk__in": "the rows of one page",
    "dashboard/admin/monitors.py: pk__in": "the rows of one page, or a subquery",
    "dashboard/admin/monitors.py: status__in": "words that stand in the code",
    "dashboard/admin/filters.py: pk__in": "a subquery",
    "dashboard/admin/tables.py: pk__in": "the rows of one page",
    "dashboard/admin/occurrences.py: in_bulk": "the check-ins of one page",
    "dashboard/admin/checkins.py: monitor_environment__in": "a subquery",
    "clocktasks/dispatch.py: bulk_create": "one row for each kind of work",
    "clocktasks/playback/play.py: bulk_create": "spans that a story names",
    "clocktasks/ledger.py: kind__in": "words that stand in the code",
    "monitors/services.py: id__in": "a subquery",
    "dashboard/standing.py: monitor__in": "the rows of one page",
    "dashboard/standing.py: monitor_environment__monitor__in": "the rows of one page",
    "dashboard/standing.py: monitor_environment__in": "a subquery",
    "incidents/notifications/routes.py: prefetch_related": "the channels of the routes of a batch's projects, bounded",
    "health/queries.py: pk__in": "a subquery, or as many as a page shows",
    "monitors/dependencies.py: bulk_create": "what one monitor depends on, bounded",
    "monitors/dependencies.py: upstream_id__in": "what one monitor depends on, bounded",
    "incidents/notifications/long_broken.py: bulk_create": "the incidents of one piece, bounded",
    "incidents/notifications/pursuing.py: prefetch_related": "the channels of one piece of follow-ups, bounded",
    "incidents/notifications/storm_alerts.py: in_bulk": "at most fifty incidents of each storm of a claim",
    "incidents/notifications/unsubscribing.py: prefetch_related": "the channels of one project, bounded",
    "incidents/rekeying.py: bulk_update": "a batch of channels",
    "dashboard/login/rekeying.py: bulk_update": "a batch of factors",
    "incidents/notifications/configuring.py: channel__in": "a subquery",
    "incidents/notifications/previews.py: channels__in": "a subquery",
    "incidents/notifications/fallback.py: channels__in": "a subquery",
    "incidents/notifications/fallback.py: id__in": "a subquery",
    "incidents/notifications/personal.py: prefetch_related": "the channels of one person, one for each project",
    "dashboard/admin/routes.py: prefetch_related": "the routes of one page",
    "dashboard/durations.py: pk__in": "the environments of one page",
    "dashboard/runs.py: pk__in": "the runs of one page",
    "dashboard/pages/access.py: project__in": "a subquery",
    "dashboard/pages/access.py: monitor_environment__monitor__project__in": "a subquery",
    "dashboard/pages/now/facts.py: monitor__project__in": "a subquery",
    "dashboard/pages/now/facts.py: monitor_environment__monitor__project__in": "a subquery",
    "dashboard/pages/now/facts.py: status__in": "words that stand in the code",
    "dashboard/pages/now/facts.py: in_bulk": "the environments of the twenty runs that are shown",
    "dashboard/pages/channels/facts.py: prefetch_related": "the channels of the routes of one project, bounded",
    "dashboard/pages/create/views.py: project__in": "a subquery",
    "dashboard/pages/many/views.py: monitor__project__in": "a subquery",
    "dashboard/pages/wall/rows.py: monitor__project__in": "a subquery",
    "dashboard/pages/wall/rows.py: id__in": "a subquery",
    "dashboard/pages/wall/views.py: project__in": "a subquery",
    "dashboard/demo/fill.py: bulk_create": "the logs of the demo, bounded",
}


def parameters_for_each(path: Path) -> Iterator[str]:
    """What Django sends a parameter for each value or row for: lookups, and its own bulk methods."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in {"bulk_create", "bulk_update", "in_bulk", "prefetch_related"}:
            yield name
        if name in {"filter", "exclude", "get", "get_or_create", "update_or_create"}:
            yield from (word.arg for word in node.keywords if word.arg and word.arg.endswith("__in"))


def test_d36_values_that_come_from_data_go_to_the_database_as_one_array():
    found = {
        f"{path.relative_to(BASE_DIR)}: {what}"
        for app in FLOORS
        for path in sorted((BASE_DIR / app).rglob("*.py"))
        if "migrations" not in path.parts
        for what in parameters_for_each(path)
    }
    assert found - MAY_SEND_A_PARAMETER_FOR_EACH.keys() == set(), "use __any_of, or lib.sql"


@pytest.mark.django_db
def test_p10_a_plan_that_is_kept_from_an_empty_table_finds_each_monitor_by_its_pair():
    """Or a thousand new monitors would be looked up by reading a thousand times all that the project has."""
    statements: list[str] = []

    def look(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "wanted (project_id, slug, name)" in sql:
            statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        receive([make_message("ok", project_id=ProjectFactory().id, slug="job")], now=NOW)
    statement = statements[0]
    for number in (1, 2, 3):
        statement = statement.replace("%s", f"${number}", 1)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off")
        cursor.execute(f"PREPARE look_up (bigint[], text[], text[]) AS {statement}")
        cursor.execute("EXPLAIN EXECUTE look_up ('{1}', '{a}', '{b}')")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("DEALLOCATE look_up")
    assert "(project_id = wanted.project_id) AND ((slug)::text = wanted.slug)" in plan
    assert "(monitor_id = found.id) AND (environment_id = e.id)" in plan
