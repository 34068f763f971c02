"""How fast are people told? From a tick to mails and webhooks that real receivers have accepted.

Real engines, two processes of the clock's worker, one of delivery, a mail server and web servers on loopback. Only beat
is missing: this script writes the ticks, of minutes that are over, and sends the clock tasks.

1. `SINGLES` ticks that open one incident each: the time from the tick until the mail is accepted.
2. One tick that opens `STORM` incidents, of which four routes tell a mail channel and three webhooks, with folding.
3. The same without folding, to four webhooks.

Prints one line of JSON.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from lib.wallclock import utcnow
from project.local import children, engines
from tests.incidents.notifications.channels.receiver import running_receiver
from tests.mailserver import running_mail_server

MINUTE = timedelta(minutes=1)
PATIENCE_SECONDS = 300.0
KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
POLL_SECONDS = 0.2

console = Console(stderr=True)

# One environment for each incident, which was ok before `BEGIN` and expects its job a minute before its tick.
SEED = (
    """
    INSERT INTO monitors_project (name, slug, created_at) VALUES (%(slug)s, %(slug)s, %(begin)s)""",
    """
    INSERT INTO monitors_environment (project_id, name)
    SELECT id, 'production' FROM monitors_project WHERE slug = %(slug)s""",
    """
    INSERT INTO monitors_configsnapshot (sha256, config) VALUES (encode(sha256(%(slug)s::bytea), 'hex'), '{}')""",
    """
    INSERT INTO monitors_monitor (project_id, slug, name, guid, status, schedule_type, interval, interval_unit,
           timezone, checkin_margin, max_runtime, failure_threshold, recovery_threshold, is_muted, is_upserting, owner,
           tags, config_id, created_at)
    SELECT p.id, 'job-' || number, 'Nightly job ' || number, gen_random_uuid(), 'active', 'interval', 1, 'month', 'UTC',
           1, 30, 1, 1, FALSE, TRUE, '', '{}', config.id, %(begin)s
      FROM monitors_project AS p
     CROSS JOIN (SELECT max(id) AS id FROM monitors_configsnapshot) AS config
     CROSS JOIN generate_series(1, %(count)s) AS number WHERE p.slug = %(slug)s""",
    """
    INSERT INTO monitors_monitorenvironment (monitor_id, environment_id, status, is_muted, shard, last_checkin,
           last_ok_at, pending_slot, next_checkin, next_checkin_latest, anchor_at, anchor_day, failure_streak,
           ok_streak, limit_minute, limit_count, created_at)
    SELECT m.id, e.id, 'ok', FALSE, m.id %% %(shards)s, %(begin)s, %(begin)s, slot, slot, slot + interval '1 minute',
           slot, 5, 0, 3, %(begin)s, 1, %(begin)s
      FROM monitors_monitor AS m JOIN monitors_project AS p ON p.id = m.project_id
      JOIN monitors_environment AS e ON e.project_id = p.id
     CROSS JOIN LATERAL (
           SELECT %(first)s - interval '1 minute'
                  + %(step)s * (substring(m.slug FROM 5)::integer - 1) * interval '1 minute' AS slot) AS due
     WHERE p.slug = %(slug)s""",
)
SENT_SQL = """
    SELECT count(*) FROM incidents_duty AS d JOIN incidents_message AS m ON m.id = d.message_id
      JOIN incidents_incident AS i ON i.id = d.incident_id
      JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor AS mo ON mo.id = me.monitor_id JOIN monitors_project AS p ON p.id = mo.project_id
     WHERE p.slug = %s AND m.status = 'sent'
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a storm, in seconds after its tick."""

    tick_seconds: float
    first_seconds: float
    all_seconds: float
    messages: int


@contextlib.contextmanager
def installation(mail_port: int) -> Iterator[None]:
    """Run engines and workers, and load Django with their addresses."""
    with tempfile.TemporaryDirectory(prefix="watchclock-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port())
        valkey = engines.prepare_valkey(directory / "valkey", port=engines.free_port())
        for engine in (postgres, valkey):
            stack.enter_context(engines.running(engine, directory / f"{engine.name}.log"))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "SECRET_KEY": "protects nothing in a benchmark",
            "EMAIL_URL": f"smtp://127.0.0.1:{mail_port}",
            "ALERT_EMAIL_TO": "ops@example.com",
            "NOTIFY_ALLOWED_NETWORKS": "127.0.0.0/8",
            # What is measured is Watchclock, and not how long it waits for others.
            "NOTIFY_PER_SECOND": "1000",
        }
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        workers = []
        for program, arguments in children.program_arguments().items():
            if program != "beat":
                child = children.program_child(program, arguments, dict(os.environ), directory)
                child.launch()
                workers.append(child)
        try:
            yield
        except BaseException:
            for path in directory.glob("*.log"):
                console.print(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}", markup=False)
            raise
        finally:
            children.stop(workers)


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    """Wait until it is so."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(POLL_SECONDS)


class Clock:
    """Beat's part, a tick after the other, of minutes that are over."""

    def __init__(self) -> None:
        from checkins.models import ListeningSpan
        from clocktasks.dispatch import advance_ledger

        self.at = utcnow().replace(second=0, microsecond=0) - timedelta(hours=12)
        ListeningSpan.objects.create(
            node_id=uuid.uuid4(), since=self.at - timedelta(days=1), until=self.at + timedelta(days=2)
        )
        advance_ledger(self.at, now=utcnow())

    def tick(self) -> float:
        """Write the next tick and send its work; returns when that began (monotonic)."""
        from clocktasks import tasks
        from clocktasks.dispatch import advance_ledger

        began = time.monotonic()
        self.at += MINUTE
        for task in advance_ledger(self.at, now=utcnow()):
            tasks.send(task)
        return began

    def is_finished(self) -> bool:
        """Whether all shards have applied the newest tick."""
        return query("SELECT finished_at IS NOT NULL FROM clocktasks_tick ORDER BY at DESC LIMIT 1") is True


def query(statement: str, *parameters: Any) -> Any:
    """Return the one value that a query gives."""
    from lib.sql import fetch_rows

    rows = fetch_rows(statement, parameters)
    return rows[0][0] if rows else None


def seed(slug: str, count: int, first: datetime, *, step: int) -> None:
    """Make environments that miss their jobs at `first`, or one at each minute from there (`step` 1)."""
    from django.conf import settings
    from django.db import connection

    parameters: dict[str, Any] = {
        "slug": slug,
        "count": count,
        "first": first,
        "step": step,
        "begin": first - timedelta(days=1),
        "shards": settings.CLOCK_SHARDS,
    }
    with connection.cursor() as cursor:
        for statement in SEED:
            cursor.execute(statement, parameters)
        cursor.execute("ANALYZE")


def route(slug: str, kind: str, name: str, **values: str) -> None:
    """Make a channel, and a route to it that catches everything and goes on."""
    from incidents.models import Channel, Route
    from incidents.notifications.configuring import save_channel
    from monitors.models import Project

    now = utcnow()
    project = Project.objects.get(slug=slug)
    channel = Channel(project=project, kind=kind, name=name, folds=slug != "unfolded")
    save_channel(channel, values, now=now)
    made = Route.objects.create(
        project=project, name=name, position=Route.objects.count(), continues=True, changed_at=now
    )
    made.channels.set([channel])


def measure_singles(clock: Clock, count: int, taken: list[Any]) -> list[float]:
    """Return the seconds from each tick to its accepted mail."""
    seed("single", count, clock.at + MINUTE, step=1)
    clock_seconds = []
    for number in range(1, count + 1):
        began = clock.tick()
        wait_for = len(taken) + 1
        until = time.monotonic() + PATIENCE_SECONDS
        while len(taken) < wait_for:
            if time.monotonic() > until:
                raise TimeoutError(f"the mail about incident {number}")
            time.sleep(0.002)
        clock_seconds.append(taken[-1][2] - began)
        wait_until(clock.is_finished, "the tick is finished")
    return clock_seconds


def measure_storm(clock: Clock, slug: str, count: int, firsts: list[Callable[[], float | None]]) -> Told:
    """Open so many incidents by one tick; `firsts` return when each route got its first message (monotonic)."""
    finished: list[float] = []
    began = clock.tick()

    def watch() -> None:
        wait_until(clock.is_finished, "the tick is finished")
        finished.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wanted = count * len(firsts)
    wait_until(lambda: query(SENT_SQL, slug) == wanted, f"{wanted} duties are told")
    told = time.monotonic()
    watcher.join()
    first = max(at for find in firsts if (at := find()) is not None)
    messages = query(
        "SELECT count(*) FROM incidents_message AS m JOIN incidents_channel AS c ON c.id = m.channel_id "
        "JOIN monitors_project AS p ON p.id = c.project_id WHERE p.slug = %s",
        slug,
    )
    return Told(finished[0] - began, first - began, told - began, messages)


def run(singles: int, storm: int, unfolded: int) -> dict[str, Any]:
    """Measure all, and return the figures."""
    figures: dict[str, Any] = {"singles": singles, "storm": storm, "unfolded": unfolded}
    with contextlib.ExitStack() as stack:
        mails = stack.enter_context(running_mail_server())
        times: list[list[float]] = [[] for _ in range(7)]

        def noting(number: int) -> Callable[[Any], list[bytes]]:
            def answer(_received: Any) -> list[bytes]:
                times[number].append(time.monotonic())
                return [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]

            return answer

        hooks = [stack.enter_context(running_receiver(noting(number))) for number in range(7)]
        stack.enter_context(installation(mails.port))
        clock = Clock()
        # The workers are there when the first mail has come.
        measure_singles(clock, 1, mails.taken)
        query("UPDATE monitors_project SET slug = 'warm' WHERE slug = 'single' RETURNING id")
        query("UPDATE monitors_configsnapshot SET sha256 = 'warm' RETURNING id")
        seconds = measure_singles(clock, singles, mails.taken)
        console.print(f"{singles} single incidents: median {statistics.median(seconds):.2f} s")
        figures |= {
            "single_p50_ms": round(statistics.median(seconds) * 1000),
            "single_p99_ms": round(statistics.quantiles(seconds, n=100)[98] * 1000) if singles > 1 else None,
            "single_max_ms": round(max(seconds) * 1000),
        }
        for slug, count, numbers in (("folded", storm, (0, 1, 2)), ("unfolded", unfolded, (3, 4, 5, 6))):
            seed(slug, count, clock.at + MINUTE, step=0)
            firsts: list[Callable[[], float | None]] = []
            for number in numbers:
                route(slug, "webhook", f"hook {number}", url=hooks[number].url, secret=KEY)
                firsts.append(lambda number=number: times[number][0] if times[number] else None)  # type: ignore[misc]
            if slug == "folded":
                route(slug, "email", "mail", to="storm@example.com")
                firsts.append(lambda: next((at for to, _, at in mails.taken if to == "storm@example.com"), None))
            told = measure_storm(clock, slug, count, firsts)
            console.print(f"{slug}: {told}")
            figures |= {
                f"{slug}_tick_s": round(told.tick_seconds, 2),
                f"{slug}_first_s": round(told.first_seconds, 2),
                f"{slug}_all_s": round(told.all_seconds, 2),
                f"{slug}_messages": told.messages,
            }
    return figures


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--storm", type=int, default=5_000)
    parser.add_argument("--unfolded", type=int, help="incidents of the storm without folding, as many if not given")
    options = parser.parse_args()
    unfolded = options.storm if options.unfolded is None else options.unfolded
    print(json.dumps({"benchmark": "notify", **run(options.singles, options.storm, unfolded)}))


if __name__ == "__main__":
    main()
