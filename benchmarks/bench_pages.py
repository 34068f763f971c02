"""How quick the pages for people are with many rows: a database of its own, the real web, a real browser.

    python -m benchmarks.bench_pages [--monitors 8400] [--checkins 1000000]

The rows are those of bench_admin, up to now. Prints one JSON line a page:

    first_byte_ms   from the request to the first byte of the answer, the least of five (over HTTP, logged in)
    wire_kb         bytes of the answer as they travel, compressed
    queries         statements for the page, counted in this process
    painted_ms      until the first contentful paint, the least of three (chromium; null without it)
    long_task_ms    the longest task of the browser's main thread (over 50 ms, or 0) while the page opens and is
                    scrolled through, the least of three: what else runs on the machine only ever adds
"""

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks import bench_admin, page_rows
from project.local import engines

ROUNDS = 5
PAINTS = 3
SCROLLS = 40
BACK_SECONDS_MAX = 60.0
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
WATCH_TASKS = """
window.longest = 0;
new PerformanceObserver(list => { for (const task of list.getEntries()) longest = Math.max(longest, task.duration); })
  .observe({type: 'longtask', buffered: true});
"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


@dataclass
class Measured:
    """One page."""

    page: str
    environments: int
    first_byte_ms: float
    wire_kb: float
    queries: int
    painted_ms: float | None = None
    long_task_ms: float | None = None


@contextlib.contextmanager
def running_web(environment: dict[str, str], port: int) -> Iterator[None]:
    """The web of this checkout at this port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "project.web"],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **environment, "WATCHCLOCK_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + BACK_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    break
            if time.monotonic() > deadline:
                raise RuntimeError("the web does not answer")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(30)


def fetch(port: int, address: str, cookie: str) -> tuple[float, int]:
    """Return the time to the first byte (ms) and the bytes of the answer as they travel."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    started = time.perf_counter()
    connection.request("GET", address, headers={"Cookie": cookie, "Accept-Encoding": "gzip"})
    response = connection.getresponse()
    first = (time.perf_counter() - started) * 1000
    size = len(response.read())
    assert response.status == 200, (address, response.status)
    connection.close()
    return first, size


def draw(measured: list[tuple[Measured, str]], port: int, session: tuple[str, str], console: Console) -> None:
    """Fill in what only a browser knows; nothing without one."""
    program = next((path for path in BROWSERS if Path(path).exists()), None)
    if program is None:
        return
    from playwright.sync_api import sync_playwright

    base = f"http://127.0.0.1:{port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for one, address in track(measured, "Drawing", console=console):
            context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 800})
            context.add_cookies([{"name": session[0], "value": session[1], "url": base}])
            context.add_init_script(WATCH_TASKS)
            page = context.new_page()
            paints, tasks = [], []
            for _ in range(PAINTS):
                page.goto(address, wait_until="load")
                while not page.evaluate(PAINTED):  # The policy of pages forbids what `wait_for_function` does.
                    page.wait_for_timeout(20)
                paints.append(float(page.evaluate(PAINTED)))
                for _ in range(SCROLLS):
                    page.mouse.wheel(0, 1_000)
                    page.wait_for_timeout(50)
                tasks.append(float(page.evaluate("window.longest")))
            one.painted_ms = round(min(paints), 1)
            one.long_task_ms = round(min(tasks), 1)
            context.close()
        browser.close()


def addresses() -> dict[str, str]:
    """The pages, by name."""
    from django.urls import reverse

    from incidents.models import Incident
    from monitors.models import MonitorEnvironment

    busy = MonitorEnvironment.objects.select_related("monitor__project").order_by("id")[0]
    incident = Incident.objects.filter(resolved_at=None)[0]
    return {
        "now": "/",
        "wall": "/wall/",
        "wall search": "/wall/?q=number+42",
        "wall 7d": "/wall/?range=7d",
        "wall 90d": "/wall/?range=90d",
        "wall 1h": "/wall/?range=1h",
        "wall segment": "/wall/rows?from=5000",
        "monitor": reverse("monitor", args=[busy.monitor.project.slug, busy.monitor.slug]),
        "incident": reverse("incident", args=[incident.pk]),
        "issues": reverse("issues", args=[busy.monitor.project.slug]),
        "clock": reverse("clock-page"),
        "status page": share_whole_project(busy.monitor.project),
    }


def share_whole_project(project: Any) -> str:
    """Return the address of a public status page that shows all monitors of a project."""
    from django.urls import reverse

    from dashboard.models import ShareLink
    from lib.wallclock import utcnow

    link = ShareLink.objects.create(
        project=project, kind="status", address="all-jobs", is_public=True, title="Jobs", created_at=utcnow()
    )
    return reverse("status-page", args=[link.address])


def count_statements(address: str, client: Any) -> int:
    """Return the statements that a page needs."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def main() -> int:
    """Seed, measure, print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monitors", type=int, default=8_400, help="8,400 have about 10,000 environments")
    parser.add_argument("--checkins", type=int, default=1_000_000)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    with bench_admin.scratch_database() as url:
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0"),
            "SECRET_KEY": "a benchmark signs nothing that anyone keeps: 0c8f5a7be1",
            "DEBUG": "false",
            "HTTPS_ONLY": "false",
            "SECOND_FACTOR_REQUIRED": "false",
            "ALLOWED_HOSTS": "testserver",
            "DJANGO_SETTINGS_MODULE": "project.settings",
        }
        os.environ |= environment
        import django

        django.setup()
        from django.conf import settings
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.db import connection
        from django.test import Client

        from lib.wallclock import utcnow
        from monitors.models import MonitorEnvironment

        call_command("migrate", verbosity=0)
        newest = utcnow().replace(second=0, microsecond=0).isoformat()
        page_rows.seed(arguments.monitors, arguments.checkins, console=console, newest=newest)
        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        session = (settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)
        environments = MonitorEnvironment.objects.count()
        port = engines.free_port()
        measured = []
        with running_web(environment, port):
            for name, address in track(addresses().items(), "Asking", console=console):
                rounds = [fetch(port, address, "=".join(session)) for _ in range(1 + ROUNDS)][1:]
                first, size = min(first for first, _ in rounds), rounds[-1][1]
                queries = count_statements(address, client)
                measured.append(
                    (Measured(name, environments, round(first, 1), round(size / 1000, 1), queries), address)
                )
            draw(measured, port, session, console)
        connection.close()
    for one, _ in measured:
        print(json.dumps(asdict(one)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
