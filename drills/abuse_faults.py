"""What an abuse drill does, besides sending streams of requests: each fault lasts until a moment (monotonic)."""

import asyncio
import contextlib
import random
import signal
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import redis

from drills.abuse_watch import ANSWER_SECONDS_MAX, IDLE_SECONDS_MAX, TAKEN, Record, ask
from drills.damage import damage
from drills.disk import fill, small_disk
from drills.stepped import write_step
from drills.world import BACK_SECONDS_MAX, World, answers
from project.local import children, engines

if TYPE_CHECKING:
    from drills.abuse_inputs import Sender

STANDING_SECONDS = 75.0
"""For how long a watermark stands: longer than a node may be silent here (INGEST_NODE_SILENT_SECONDS), and than a slot
of a job of every minute waits for its check-in."""
HELD_JOB = 0
"""The innocent job whose check-ins wait behind that watermark."""
DISK_MIB = 24
FULL_SECONDS = 5.0
"""How long a disk stays full, at least."""


async def exchange(port: int, request: bytes) -> int | None:
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


async def send(port: int, requests: Sequence[bytes], record: Record) -> None:
    """Send requests at once, and count the answers."""
    for status in await asyncio.gather(*(exchange(port, request) for request in requests)):
        record.statuses[str(status)] = record.statuses.get(str(status), 0) + 1


def stall_uploads(world: World, until: float) -> None:
    """Strangers without a key take up as much room as they get, and never finish."""
    from drills.abuse_inputs import stalled_upload

    while time.monotonic() < until:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                with contextlib.suppress(OSError):
                    begin, _ = stalled_upload(19 << 20)
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", world.port), timeout=2))
                    connection.sendall(begin)
            world.live(min(8.0, max(0.2, until - time.monotonic())))


def flood(world: World, record: Record, innocent: "Sender", until: float) -> None:
    """Somebody with the key starts the job again and again."""
    from drills.load import http_request

    path = f"/api/{innocent.project}/cron/flooded/{innocent.key}/?status=in_progress&check_in_id="
    while time.monotonic() < until:
        asyncio.run(send(world.port, [http_request("GET", path + str(uuid.uuid4())) for _ in range(20)], record))
        world.live(0.5)


def flooded_job_fails(world: World, innocent: "Sender") -> int:
    """Flood the job once more and let it report its failure; returns 1 if no incident is open soon afterwards."""
    from drills.load import http_request

    record = Record()
    path = f"/api/{innocent.project}/cron/flooded/{innocent.key}/?status="
    started = [http_request("GET", f"{path}in_progress&check_in_id={uuid.uuid4()}") for _ in range(12)]
    asyncio.run(send(world.port, started, record))
    asyncio.run(send(world.port, [http_request("GET", f"{path}error")], record))
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    while time.monotonic() < deadline:
        if ask(world, "SELECT count(*) FROM monitors_monitorenvironment e JOIN monitors_monitor m ON m.id = monitor_id"
                       " WHERE m.slug = 'flooded' AND e.status = 'error'"):  # fmt: skip
            return 0
        world.live(0.2)
    return 1


def spoil_rows(world: World, abuser: "Sender", until: float) -> None:
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


def spoil_broker(world: World, until: float) -> None:
    """What no worker can read, between the clock's messages."""
    with redis.Redis.from_url(world.valkey.engine.url) as client:
        while time.monotonic() < until:
            client.lpush("clock", "rubbish", "[" * 100_000, '{"body": "x"}', b"\xff\xfe", "17")
            world.live(1.0)


def step_clock(world: World, record: Record, clock: Path, until: float) -> None:
    """The clock of worker and beat is wrong by seconds, hours or years for a moment, and right again."""
    while time.monotonic() < until:
        seconds = world.random.choice([-100_000_000, -3_600, -90, 90, 3_600, 100_000_000])
        world.told(f"the clock of worker and beat is wrong by {seconds:,} s")
        since = time.monotonic()
        write_step(clock, seconds)
        world.live(min(3.0, max(0.2, until - since)))
        write_step(clock, 0)
        record.wrong_clocks.append((since, time.monotonic()))
        world.live(3.0)


def guess_passwords(world: World, record: Record, until: float) -> None:
    """A guesser at the login."""
    from drills.load import http_request

    while time.monotonic() < until:
        body = b"login=admin&password=wrong&csrfmiddlewaretoken=" + b"a" * 32
        headers = ("Content-Type: application/x-www-form-urlencoded", f"Cookie: csrftoken={'a' * 32}")
        asyncio.run(send(world.port, [http_request("POST", "/login/", body, *headers)] * 4, record))
        world.live(0.2)


def kill_with_spool(world: World, record: Record, abuser: "Sender", until: float) -> None:
    """The web dies while its spool holds abuse: what was acknowledged is stored, and nothing else waits."""
    from drills.abuse_inputs import STREAMS

    chance = random.Random(world.random.random())  # noqa: S311 - repeatable, and no secret
    since = time.monotonic()
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE monitors_monitorenvironment, checkins_ingestnode IN ACCESS EXCLUSIVE MODE")
        for kind in (STREAMS["bombs"], STREAMS["sparse crontabs"], STREAMS["refused check-ins"]):
            asyncio.run(send(world.port, kind(chance, abuser), record))
        if world.web.process is not None:
            children.end_group(world.web.process.pid, signal.SIGKILL)
            world.web.process.wait()
    world.live(2.0)
    record.restarts.append((since, time.monotonic()))
    world.live(max(0.0, until - time.monotonic()))


def damage_spool(world: World, record: Record, abuser: "Sender", until: float) -> None:
    """Twenty pages of a spool of 400 entries are damaged, and the web starts again (D43).

    Only pages that hold nothing of the innocent jobs: what stands in a damaged page is lost, and that is counted.
    """
    from drills.abuse_inputs import spooled

    since = time.monotonic()
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE monitors_monitorenvironment, checkins_ingestnode IN ACCESS EXCLUSIVE MODE")
        for _ in range(4):
            asyncio.run(send(world.port, spooled(abuser, 100), record))
        if world.web.process is not None:
            children.end_group(world.web.process.pid, signal.SIGKILL)
            world.web.process.wait()
        for path in Path(world.variables["SPOOL_DIRECTORY"]).glob("*.spool"):
            record.damaged_pages += damage(path, world.random)
    world.live(2.0)
    record.restarts.append((since, time.monotonic()))
    world.live(max(0.0, until - time.monotonic()))


def let_the_watermark_stand(world: World, record: Record, until: float) -> None:
    """A second web cannot store the check-ins of one job, for longer than a node may be silent.

    It says all the same that it is there. So the clock waits for it, drops nobody, and finds no miss of that job. All
    others are stored by the first web as ever.
    """
    port = engines.free_port()
    second = world.start_program("second web", ["project.web"], WATCHCLOCK_PORT=str(port))
    _wait(world, record, lambda: answers(port), "a second web answers")
    record.ports[HELD_JOB] = port
    world.live(2.0)  # What the first web has of that job is stored.
    since = time.monotonic()
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
        connection.execute(
            "SELECT FROM monitors_monitorenvironment WHERE monitor_id = (SELECT id FROM monitors_monitor"
            " WHERE slug = %s) FOR UPDATE",
            [f"job-{HELD_JOB}"],
        )
        while time.monotonic() < since + STANDING_SECONDS:
            world.live(1.0)
            dropped = ask(world, "SELECT count(*) FROM checkins_ingestnode WHERE dropped_at IS NOT NULL")
            record.dropped_nodes = max(record.dropped_nodes, dropped)
    held = [sent for sent in record.sent if sent.is_held and sent.sent_at >= since]
    _wait(world, record, lambda: all(sent.seen_at is not None for sent in held), "what waited is stored")
    record.stands.append((since, time.monotonic()))
    del record.ports[HELD_JOB]
    world.programs.remove(second)
    children.stop([second])
    world.live(max(0.0, until - time.monotonic()))


def fill_the_disk(world: World, record: Record, directory: Path, until: float) -> None:
    """The disk of the spool is full while PostgreSQL stores nothing, and has room again.

    What cannot be kept is refused with a reason, no process ends, and check-ins are taken again as soon as there is
    room. The web has this disk for as long as this takes: it is restarted before and afterwards.
    """
    with small_disk(directory / "disk", mib=DISK_MIB) as problem:
        if problem:
            record.skipped["a full disk"] = problem
            world.told(f"skipped: {problem}")
            return
        since = time.monotonic()
        filler = directory / "disk" / "filler"
        world.stop_web(0.2, SPOOL_DIRECTORY=str(directory / "disk" / "spool"))
        processes = _processes(world)
        with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection, connection.transaction():
            connection.execute("LOCK TABLE monitors_ingestkey IN ACCESS EXCLUSIVE MODE")
            fill(filler)
            full_at = time.monotonic()
            world.live(FULL_SECONDS)
            _wait(world, record, lambda: _answers(record, full_at) & {503}, "a full disk refuses with 503")
            filler.unlink()
            room_at = time.monotonic()
            _wait(world, record, lambda: _answers(record, room_at) & TAKEN, "check-ins are taken, as there is room")
        if not processes <= _processes(world):
            record.findings.append("a process of the web ended while its disk was full")
        kept = [sent for sent in record.sent if sent.sent_at >= since and sent.answered_at is not None]
        _wait(world, record, lambda: all(sent.seen_at is not None for sent in kept), "what was taken is stored")
        world.stop_web(0.2)
        record.full_disks.append((since, time.monotonic()))
    world.live(max(0.0, until - time.monotonic()))


def _answers(record: Record, since: float) -> set[int | None]:
    """Return the statuses of the answers to innocent check-ins that were sent since then."""
    return {sent.status for sent in record.sent if sent.sent_at >= since}


def _processes(world: World) -> set[int]:
    """Return the pids of the web, its worker and its batcher."""
    assert world.web.process is not None, "it runs"
    main = psutil.Process(world.web.process.pid)
    return {main.pid, *(process.pid for process in main.children(recursive=True))}


def _wait(world: World, record: Record, condition: Callable[[], object], what: str) -> None:
    """Let time pass until something is so; if that takes too long, it is a finding."""
    deadline = time.monotonic() + BACK_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            record.findings.append(f"waited in vain until {what}")
            return
        world.live(0.1)
