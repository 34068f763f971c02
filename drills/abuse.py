"""An abuse drill: can what one sender sends cost the others anything?

Starts engines of its own, the real web, a worker and a beat. An innocent project's jobs check in once a second, while
another project's key sends, one kind after the other, what once stopped everybody, and generated neighbours of it.
Prints one JSON line; the exit status is 1 if something is not so.

    acknowledged, stored    of the innocent jobs' check-ins
    lost                    acknowledged and not stored; must be 0
    late                    seen in the database later than a second after they were sent; must be 0
    late_ticks              minutes whose tick was finished later than two seconds after them; must be 0
    false_failures          misses, timeouts and incidents of the innocent jobs; must be 0
    hidden_failures         errors of a flooded job that opened no incident; must be 0
    late_apart, late_ticks_apart    the same while the web was restarted: counted, and not judged
    dropped_nodes           nodes that the clock dropped though they said that they are there; must be 0
    damaged_pages           pages of spools that were damaged, with nothing of the innocent jobs in them (D43)
    grown_mib               what the database grew by, all in all
    pss_mib                 the largest share of memory of each process; each must stay under 300
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from rich.console import Console

from drills.abuse_watch import (
    ANSWER_SECONDS_MAX,
    SETTLED_SECONDS_MAX,
    Record,
    Sent,
    ask,
    conclude,
    count_false_failures,
    database_mib,
    find_late_ticks,
    find_unseen,
    settle,
    wait_for_a_tick,
    watching,
)
from drills.damage import damage
from drills.stepped import write_step
from drills.world import World, running_world
from lib.wallclock import utcnow
from project.local import children

if TYPE_CHECKING:
    from drills.abuse_inputs import Sender

INNOCENT_JOBS = 30
"""Each checks in twice a minute: together once a second."""

STANDING_SECONDS = 35.0
"""For how long a watermark stands: longer than a node may be silent here (INGEST_NODE_SILENT_SECONDS)."""
STANDING_FROM = 120.0
"""A drill of fewer seconds has no time for that."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Drill:
    """How long in seconds, and what the seed is."""

    duration: float = 300.0
    seed: int = 1
    is_patient: bool = False
    """Whether delays are only counted: a machine that does other work at the same time has them by itself."""
    only: Sequence[str] = ()
    """The kinds to send; all of them if empty."""


def main() -> int:
    """Run a drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=300.0, help="seconds of abuse")
    parser.add_argument(
        "--patient", action="store_true", help="judge no delay: for a machine that does other work at the same time"
    )
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="send this kind only; repeatable")
    parser.add_argument("--seed", type=int, help="what is sent; a random one is printed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    console.print(f"[bold]seed {seed}[/bold]: make drill-abuse SEED={seed} DURATION={options.duration:g}")
    with tempfile.TemporaryDirectory(prefix="watchclock-drill-") as name, contextlib.redirect_stdout(sys.stderr):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        figures, findings = run(Drill(options.duration, seed, options.patient, options.only), Path(name))
    for finding in findings:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    print(json.dumps(figures))
    return 1 if findings else 0


def run(drill: Drill, directory: Path) -> tuple[dict[str, Any], Sequence[str]]:
    """Run a drill in an empty directory; returns the figures, and sentences about what is wrong."""
    with running_world(
        directory, seed=drill.seed, speed=1, CHECKINS_PER_MINUTE="6", INGEST_NODE_SILENT_SECONDS="30"
    ) as world:
        os.environ |= world.variables
        import django

        django.setup()
        record = Record()
        innocent, abuser = _make_projects()
        clock = directory / "clock"
        write_step(clock, 0)
        for name, arguments in children.program_arguments().items():
            begin = [] if name == "delivery" else ["drills.stepped", str(clock)]
            world.start_program(name, [*begin, *arguments])
        with (
            world.progress("drill", drill.duration, console, record.figures),
            watching(world, record),
            _checking_in(world, record, innocent),
        ):
            wait_for_a_tick(world)
            size_before, began = database_mib(world), time.monotonic()
            record.judged_from, ticks_from = began, utcnow()
            _abuse(drill, world, record, innocent, abuser, began, clock)
            record.judged_until, ticks_until = time.monotonic(), utcnow()
            hidden = _flooded_job_fails(world, innocent)
            settle(world, record)
            unseen = find_unseen(world, record)
            failures = count_false_failures(world)
        grown = database_mib(world) - size_before
        late_ticks = find_late_ticks(world, record, ticks_from, ticks_until)
        figures, findings = conclude(
            record,
            duration=drill.duration,
            is_patient=drill.is_patient,
            grown=grown,
            hidden=hidden,
            failures=failures,
            unseen=unseen,
            late_ticks=late_ticks,
        )
    return {"drill": "abuse", "seed": drill.seed, "seconds": drill.duration, **figures}, findings


# --- who takes part ---


def _make_projects() -> tuple["Sender", "Sender"]:
    """Make the innocent project with its jobs, and the abuser's."""
    from django.db import connection

    from checkins.messages import Source
    from checkins.processing.apply import receive
    from checkins.protocols.fields import parse_checkin
    from drills.abuse_inputs import Sender
    from lib.wallclock import utcnow
    from monitors.models import IngestKey, Project

    now = utcnow()
    senders = []
    for name in ("innocent", "abuser"):
        project = Project.objects.create(name=name, slug=name, created_at=now)
        key = IngestKey.objects.create(project=project, created_at=now)
        senders.append(Sender(project.id, key.public_key))
    schedule = {"schedule": {"type": "crontab", "value": "* * * * *"}, "checkin_margin": 1, "max_runtime": 5}
    slugs = [*(f"job-{number}" for number in range(INNOCENT_JOBS)), "flooded"]
    payloads = [{"monitor_slug": slug, "status": "ok", "monitor_config": schedule} for slug in slugs]
    receive(
        [parse_checkin(one, project_id=senders[0].project, received_at=now, source=Source.REST) for one in payloads],
        now=now,
    )
    connection.close()
    return senders[0], senders[1]


@contextlib.contextmanager
def _checking_in(world: World, record: Record, sender: "Sender") -> Iterator[None]:
    """Let the innocent jobs check in, once a second altogether, each on a connection of its own."""
    over = threading.Event()

    async def check_in(number: int) -> None:
        sent = Sent(uuid.uuid4(), time.monotonic())
        record.sent.append(sent)
        if await _exchange(world.port, _innocent_request(sender, number, sent.guid)) in {200, 201, 202}:
            sent.answered_at = time.monotonic()

    async def go_on() -> None:
        tasks, began = set(), time.monotonic()
        for number in range(10**9):
            await asyncio.sleep(max(0.0, began + number - time.monotonic()))
            if over.is_set():
                break
            task = asyncio.create_task(check_in(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    thread = threading.Thread(target=lambda: asyncio.run(go_on()), name="innocent")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _innocent_request(sender: "Sender", number: int, guid: uuid.UUID) -> bytes:
    """Return a check-in of the next job, in each protocol that has ids in turn."""
    from drills.load import http_request

    slug = f"job-{number % INNOCENT_JOBS}"
    body = json.dumps({"monitor": slug, "status": "ok", "id": str(guid)}).encode()
    item = json.dumps({"monitor_slug": slug, "status": "ok", "check_in_id": guid.hex}).encode()
    return [
        http_request("GET", f"/api/{sender.project}/cron/{slug}/{sender.key}/?status=ok&check_in_id={guid}"),
        http_request("POST", "/api/v1/checkins", body, f"Authorization: Bearer {sender.key}"),
        http_request(
            "POST",
            f"/api/{sender.project}/envelope/?sentry_key={sender.key}",
            b'{}\n{"type": "check_in"}\n' + item + b"\n",
        ),
    ][number % 3]


async def _exchange(port: int, request: bytes) -> int | None:
    """Send a request and return the status of its answer, or None if there is none."""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n")
            return int(head.split(maxsplit=2)[1])
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError, IndexError):
        return None
    finally:
        if writer is not None:
            writer.close()


# --- the abuse ---


def _abuse(
    drill: Drill, world: World, record: Record, innocent: "Sender", abuser: "Sender", began: float, clock: Path
) -> None:
    """Send each kind for its share of the time, then do what needs more than requests."""
    from drills.abuse_inputs import STREAMS

    others = {
        "stalled uploads": lambda until: _stall_uploads(world, until),
        "a flooded job": lambda until: _flood(world, record, innocent, until),
        "rows that cannot be read": lambda until: _spoil_rows(world, abuser, until),
        "rubbish in the broker": lambda until: _spoil_broker(world, until),
        "a wrong clock": lambda until: _step_clock(world, record, clock, until),
        "wrong passwords": lambda until: _guess_passwords(world, record, until),
        "a killed batcher with abuse in its spool": lambda until: _kill_with_spool(world, record, abuser, until),
        "a damaged spool": lambda until: _damage_spool(world, record, abuser, until),
        "a watermark that stands": lambda until: _let_the_watermark_stand(world, record, until),
    }
    names = [*STREAMS, *others]
    world.random.shuffle(names)
    if drill.duration < STANDING_FROM:
        names.remove("a watermark that stands")
    names = [name for name in names if not drill.only or name in drill.only]
    for number, name in enumerate(names, start=1):
        share = drill.duration / len(names)
        until = max(began + share * number, time.monotonic() + share / 2)  # Who was late takes nothing from the next.
        world.told(name)
        record.phases.append((time.monotonic(), name))
        if name in STREAMS:
            chance = random.Random(f"{drill.seed} {name}")  # noqa: S311 - repeatable, and no secret
            while time.monotonic() < until:
                requests = STREAMS[name](chance, abuser)
                asyncio.run(_send(world.port, requests, record))
                world.live(0.2)
        else:
            others[name](until)


async def _send(port: int, requests: Sequence[bytes], record: Record) -> None:
    for status in await asyncio.gather(*(_exchange(port, request) for request in requests)):
        record.statuses[str(status)] = record.statuses.get(str(status), 0) + 1


def _stall_uploads(world: World, until: float) -> None:
    """Strangers without a key take up as much room as they get, and never finish."""
    import socket

    from drills.abuse_inputs import stalled_upload

    while time.monotonic() < until:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                with contextlib.suppress(OSError):
                    begin, _ = stalled_upload(19 << 20)
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", world.port), timeout=2))
                    connection.sendall(begin)
            world.live(min(8.0, max(0.2, until - time.monotonic())))


def _flood(world: World, record: Record, innocent: "Sender", until: float) -> None:
    """Somebody with the key starts the job again and again."""
    from drills.load import http_request

    path = f"/api/{innocent.project}/cron/flooded/{innocent.key}/?status=in_progress&check_in_id="
    while time.monotonic() < until:
        asyncio.run(_send(world.port, [http_request("GET", path + str(uuid.uuid4())) for _ in range(20)], record))
        world.live(0.5)


def _flooded_job_fails(world: World, innocent: "Sender") -> int:
    """Flood the job once more and let it report its failure; returns 1 if no incident is open soon afterwards."""
    from drills.load import http_request

    record = Record()
    path = f"/api/{innocent.project}/cron/flooded/{innocent.key}/?status="
    started = [http_request("GET", f"{path}in_progress&check_in_id={uuid.uuid4()}") for _ in range(12)]
    asyncio.run(_send(world.port, started, record))
    asyncio.run(_send(world.port, [http_request("GET", f"{path}error")], record))
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    while time.monotonic() < deadline:
        if ask(world, "SELECT count(*) FROM monitors_monitorenvironment e JOIN monitors_monitor m ON m.id = monitor_id"
                       " WHERE m.slug = 'flooded' AND e.status = 'error'"):  # fmt: skip
            return 0
        world.live(0.2)
    return 1


def _spoil_rows(world: World, abuser: "Sender", until: float) -> None:
    """Zones and schedules that this version cannot read, as another version or a hand in the database leaves them."""
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        for column, value in (("timezone", "America/Newtown"), ("crontab", "* 2 8-14 3 */7")):
            connection.execute(
                f"UPDATE monitors_monitor SET {column} = %s WHERE id IN (SELECT id FROM monitors_monitor"  # noqa: S608
                " WHERE project_id = %s AND schedule_type = 'crontab' ORDER BY random() LIMIT 50)",
                [value, abuser.project],
            )
        connection.execute(
            "UPDATE monitors_monitorenvironment SET pending_slot = now() - interval '2 minutes',"
            " next_checkin = now() - interval '2 minutes',"
            " next_checkin_latest = now() - interval '1 minute' WHERE monitor_id IN"
            " (SELECT id FROM monitors_monitor WHERE project_id = %s LIMIT 50) AND next_checkin IS NOT NULL",
            [abuser.project],
        )
    world.live(max(0.0, until - time.monotonic()))


def _spoil_broker(world: World, until: float) -> None:
    """What no worker can read, between the clock's messages."""
    with redis.Redis.from_url(world.valkey.engine.url) as client:
        while time.monotonic() < until:
            client.lpush("clock", "rubbish", "[" * 100_000, '{"body": "x"}', b"\xff\xfe", "17")
            world.live(1.0)


def _step_clock(world: World, record: Record, clock: Path, until: float) -> None:
    """The clock of worker and beat is wrong by seconds, hours or years for a moment, and right again."""
    since = time.monotonic()
    while time.monotonic() < until:
        seconds = world.random.choice([-100_000_000, -3_600, -90, 90, 3_600, 100_000_000])
        world.told(f"the clock of worker and beat is wrong by {seconds:,} s")
        write_step(clock, seconds)
        world.live(min(3.0, max(0.2, until - time.monotonic())))
        write_step(clock, 0)
        world.live(3.0)
    record.apart.append((since, time.monotonic()))


def _guess_passwords(world: World, record: Record, until: float) -> None:
    """A guesser at the login."""
    from drills.load import http_request

    while time.monotonic() < until:
        body = b"login=admin&password=wrong&csrfmiddlewaretoken=" + b"a" * 32
        headers = ("Content-Type: application/x-www-form-urlencoded", f"Cookie: csrftoken={'a' * 32}")
        asyncio.run(_send(world.port, [http_request("POST", "/login/", body, *headers)] * 4, record))
        world.live(0.2)


def _kill_with_spool(world: World, record: Record, abuser: "Sender", until: float) -> None:
    """The web dies while its spool holds abuse: what was acknowledged is stored, and nothing else waits."""
    from drills.abuse_inputs import STREAMS

    chance = random.Random(world.random.random())  # noqa: S311 - repeatable, and no secret
    since = time.monotonic()
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE monitors_monitorenvironment, checkins_ingestnode IN ACCESS EXCLUSIVE MODE")
        for kind in (STREAMS["bombs"], STREAMS["sparse crontabs"], STREAMS["refused check-ins"]):
            asyncio.run(_send(world.port, kind(chance, abuser), record))
        if world.web.process is not None:
            children.end_group(world.web.process.pid, signal.SIGKILL)
            world.web.process.wait()
    world.live(2.0)
    record.apart.append((since, time.monotonic()))
    world.live(max(0.0, until - time.monotonic()))


def _damage_spool(world: World, record: Record, abuser: "Sender", until: float) -> None:
    """Twenty pages of a spool of 400 entries are damaged, and the web starts again (D43).

    Only pages that hold nothing of the innocent jobs: what stands in a damaged page is lost, and that is counted.
    """
    from drills.abuse_inputs import spooled

    since = time.monotonic()
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE monitors_monitorenvironment, checkins_ingestnode IN ACCESS EXCLUSIVE MODE")
        for _ in range(4):
            asyncio.run(_send(world.port, spooled(abuser, 100), record))
        if world.web.process is not None:
            children.end_group(world.web.process.pid, signal.SIGKILL)
            world.web.process.wait()
        for path in Path(world.variables["SPOOL_DIRECTORY"]).glob("*.spool"):
            record.damaged_pages += damage(path, world.random)
    world.live(2.0)
    record.apart.append((since, time.monotonic()))
    world.live(max(0.0, until - time.monotonic()))


def _let_the_watermark_stand(world: World, record: Record, until: float) -> None:
    """PostgreSQL takes no batch for longer than a node may be silent. It says all the same that it is there.

    So the clock waits for it, drops nobody, and finds no miss of those whose check-ins are in the spool.
    """
    since = time.monotonic()
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE monitors_ingestkey IN ACCESS EXCLUSIVE MODE")
        while time.monotonic() < since + STANDING_SECONDS:
            world.live(1.0)
            dropped = ask(world, "SELECT count(*) FROM checkins_ingestnode WHERE dropped_at IS NOT NULL")
            record.dropped_nodes = max(record.dropped_nodes, dropped)
    record.apart.append((since, time.monotonic()))
    world.live(max(0.0, until - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main())
