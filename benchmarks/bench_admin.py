"""How much the admin's pages cost with many rows: seeds a database of its own, asks for every kind of page, measures.

    python benchmarks/bench_admin.py [--monitors 10000] [--checkins 1000000]

The database is made beside the one of DATABASE_URL, or on an embedded engine if there is none, and dropped at the end.
A page's time is the least of three rounds after one that fills caches: other work on the machine only ever adds.
Pages over the limit are asked for five times more, for the same reason.
Exits with 1 if a page needs more than 30 queries or 300 ms.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page_rows
from project.local import engines

QUERIES_MAX = 30
MS_MAX = 300
ROUNDS = 3
ROUNDS_FOR_SLOW_PAGES = 5


@dataclass(frozen=True)
class Measured:
    """One page: what it is, its time in milliseconds, and its queries."""

    page: str
    ms: float
    queries: int


@contextlib.contextmanager
def scratch_database() -> Iterator[str]:
    """The address of an empty database of our own, dropped at the end."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("DATABASE_URL")
        if not url:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchclock-bench-")))
            directory.chmod(0o711)  # The engine runs as another user if we are root.
            engine = engines.prepare_postgres(directory / "postgres", port=engines.free_port())
            process = engine.start(directory / "postgres.log")
            stack.callback(stop, process, engine)
            engines.wait_until_ready(engine, process, directory / "postgres.log")
            url = engine.url
        name = f"bench_admin_{os.getpid()}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            try:
                yield f"{url.rpartition('/')[0]}/{name}"
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def stop(process: "subprocess.Popen[bytes]", engine: engines.Engine) -> None:
    """Stop the engine and wait for it."""
    process.send_signal(engine.stop_signal)
    process.wait(30)


def pages() -> Iterator[tuple[str, str]]:
    """Every kind of page as a name and an address."""
    from django.contrib import admin
    from django.contrib.admin.utils import quote
    from django.urls import reverse

    from checkins.models import CheckIn
    from incidents.models import Incident, Issue
    from monitors.models import Environment, Monitor, MonitorEnvironment, Project

    busy = MonitorEnvironment.objects.order_by("id").first()
    assert busy is not None
    project = Project.objects.order_by("id")[3]
    failing = Monitor.objects.filter(id__gt=100, monitor_environments__status="error").order_by("id")[0]
    quiet = MonitorEnvironment.objects.get(monitor=failing, environment__name="production")
    environment = Environment.objects.order_by("id")[2]
    guid = CheckIn.objects.order_by("id")[1234].guid
    searches = {
        "Monitor": ["job-0042", "nothing like it"],
        "MonitorEnvironment": ["job-0042", "staging"],
        "CheckIn": [str(guid), "00000000-0000-4000-8000-000000000000", "job-000042", busy.monitor.slug, "no-such-job"],
        "Incident": ["job-0042", "no-such-job"],
        "Issue": ["number 42", "no such title"],
        "Occurrence": ["a job", "no such title"],
        "ProcessingError": ["job-0042", "no such message"],
    }
    filters: dict[str, list[dict[str, Any]]] = {
        "Monitor": [
            *({"status": status} for status in ("active", "disabled")),
            *({"failing": answer} for answer in ("yes", "no")),
            *({"muted": answer} for answer in ("yes", "no")),
            {"schedule_type__exact": "interval"},
            {"project__id__exact": project.id},
            {"owner__icontains": "team-7"},
        ],
        "MonitorEnvironment": [
            *({"status": status} for status in ("error", "ok", "active")),
            {"muted": "yes"},
            {"shard": 3},
            {"monitor__id__exact": failing.id},
            {"environment__id__exact": environment.id},
        ],
        "CheckIn": [
            *({"status__exact": status} for status in ("ok", "error", "missed", "timeout", "in_progress", "unknown")),
            {"day": "2026-01-05"},
            {"day": "2025-12-20"},
            {"day": "2025-12-20", "status__exact": "missed"},
            {"day": "2020-01-01"},
            {"monitor_environment__monitor__id__exact": busy.monitor_id},
            {"monitor_environment__monitor__id__exact": failing.id},
            {"monitor_environment__monitor__id__exact": failing.id, "status__exact": "unknown"},
            {"monitor_environment__id__exact": busy.id},
            {"monitor_environment__id__exact": busy.id, "status__exact": "unknown"},
            {"project__id__exact": project.id},
            {"project__id__exact": project.id, "status__exact": "timeout"},
        ],
        "Incident": [
            {"state": "open"},
            {"state": "resolved"},
            {"monitor_environment__monitor__id__exact": failing.id},
            {"monitor_environment__id__exact": quiet.id},
            {"monitor_environment__monitor__project__id__exact": project.id},
            {"opened_at__year": 2025, "opened_at__month": 12},
            {"opened_at__year": 2026, "opened_at__month": 1, "opened_at__day": 4},
        ],
        "Issue": [
            *({"status__exact": status} for status in ("unresolved", "resolved", "archived")),
            {"project__id__exact": project.id},
            {"monitor_environment__monitor__id__exact": failing.id},
        ],
        "Occurrence": [{"issue__id__exact": 7}],
        "Notification": [{"transition__exact": "opened"}, {"transition__exact": "resolved"}],
        "ProcessingError": [
            {"kind__exact": "MONITOR_DISABLED"},
            {"kind__exact": "MONITOR_NOT_FOUND"},
            {"project__id__exact": project.id},
            {"monitor__id__exact": failing.id},
            {"last_received_at__year": 2026, "last_received_at__month": 1},
        ],
        "Tick": [{"state": "unfinished"}],
        "AppliedTick": [{"kind__exact": "timeout"}],
        "ShardClock": [{"kind__exact": "timeout"}],
        "Environment": [{"project__id__exact": project.id}],
    }
    rows: dict[str, list[Any]] = {
        "Monitor": [busy.monitor, failing],
        "MonitorEnvironment": [busy, quiet],
        "Incident": [Incident.objects.filter(resolved_at=None)[0], Incident.objects.get(id=500)],
        "Issue": [Incident.objects.get(id=500).issue, Issue.objects.filter(status="unresolved")[0]],
    }
    yield "index", reverse("admin:index")
    yield "clock", reverse("clock")
    yield "preview", reverse("admin:monitors_monitor_preview") + "?schedule_type=crontab&crontab=0+0+29+2+*"
    for app, model, field in (
        ("checkins", "checkin", "monitor_environment"),
        ("checkins", "checkin", "monitor"),
        ("monitors", "monitor", "project"),
        ("incidents", "occurrence", "issue"),
    ):
        query = urlencode({"app_label": app, "model_name": model, "field_name": field, "term": "job-0042"})
        yield f"autocomplete {model} {field}", f"{reverse('admin:autocomplete')}?{query}"
    for registered, model_admin in admin.site._registry.items():
        name, meta = registered.__name__, registered._meta
        if meta.app_label == "auth":
            continue
        prefix = f"admin:{meta.app_label}_{meta.model_name}"
        address = reverse(f"{prefix}_changelist")
        count = registered._default_manager.count()
        queries = [{}, *filters.get(name, [])]
        queries += [{"q": text} for text in searches.get(name, [])]
        if count > model_admin.list_per_page:
            last = -(-count // model_admin.list_per_page)
            queries += [{"p": page} for page in sorted({2, max(1, last // 2), max(1, last - 3)})]
        for column, shown in enumerate(model_admin.list_display, 1):
            if model_admin.sortable_by is None or shown in model_admin.sortable_by:
                queries += [{"o": column}, {"o": f"-{column}"}]
        for chosen in queries:
            yield f"{name} list {urlencode(chosen)}", f"{address}?{urlencode(chosen)}"
        middle = registered._default_manager.order_by("pk")[count // 2 : count // 2 + 1]
        for row in rows.get(name, list(middle)):
            yield f"{name} page {row.pk}", reverse(f"{prefix}_change", args=[quote(row.pk)])


def measure(asked: Sequence[tuple[str, str]], client: Any) -> list[Measured]:
    """Ask for every page, in rounds, so that a moment in which the machine is busy does not fall on one page alone."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    best: dict[str, Measured] = {}
    for round_number in range(1 + ROUNDS + ROUNDS_FOR_SLOW_PAGES):
        for name, address in asked:
            if round_number > ROUNDS and best[name].ms <= MS_MAX:
                continue
            with CaptureQueriesContext(connection) as captured:
                started = time.perf_counter()
                response = client.get(address)
                elapsed_ms = (time.perf_counter() - started) * 1000
            assert response.status_code == 200, (name, response.status_code, getattr(response, "url", ""))
            if round_number == 0:  # It fills caches; its queries count, its time does not.
                best[name] = Measured(name, math.inf, len(captured))
            else:
                so_far = best[name]
                best[name] = Measured(name, min(so_far.ms, elapsed_ms), max(so_far.queries, len(captured)))
    return list(best.values())


def main() -> int:
    """Seed, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--monitors", type=int, default=10_000)
    parser.add_argument("--checkins", type=int, default=1_000_000)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    with scratch_database() as url:
        os.environ |= {
            "DATABASE_URL": url,
            "REDIS_URL": os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0"),
            "SECRET_KEY": "a benchmark signs nothing that anyone keeps: 0c8f5a7be1",
            "DEBUG": "false",
            "HTTPS_ONLY": "false",
            "SECOND_FACTOR_REQUIRED": "false",
            "ALLOWED_HOSTS": "testserver",
            "DJANGO_SETTINGS_MODULE": "project.settings",
        }
        import django

        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.db import connection
        from django.test import Client

        call_command("migrate", verbosity=0)
        page_rows.seed(arguments.monitors, arguments.checkins, console=console)
        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        with console.status("Asking for pages"):
            measured = measure(list(pages()), client)
        connection.close()
    shown = Table("Page", "ms", "Queries", title=f"{len(measured)} pages, slowest first")
    for page in sorted(measured, key=lambda page: -page.ms):
        shown.add_row(page.page, f"{page.ms:.0f}", str(page.queries))
    console.print(shown)
    slowest = max(measured, key=lambda page: page.ms)
    figures = {
        "benchmark": "admin",
        "monitors": arguments.monitors,
        "checkins": arguments.checkins,
        "pages": len(measured),
        "max_queries": max(page.queries for page in measured),
        "max_ms": round(slowest.ms, 1),
        "p50_ms": round(statistics.median(page.ms for page in measured), 1),
        "slowest": slowest.page,
    }
    print(json.dumps(figures))
    return int(figures["max_queries"] > QUERIES_MAX or slowest.ms > MS_MAX)


if __name__ == "__main__":
    sys.exit(main())
