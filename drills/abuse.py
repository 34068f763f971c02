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
    late_apart, late_ticks_apart, refused_apart    the same around a restart, while the disk of the spool was full, and
                            of ticks while the clock that dates them was wrong: counted by the reason, and not judged
    held                    check-ins that a second web could not store, while its watermark stood
    skipped                 faults that are not possible here, and why
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
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from drills.abuse_faults import (
    damage_spool,
    exchange,
    fill_the_disk,
    flood,
    flooded_job_fails,
    guess_passwords,
    kill_with_spool,
    let_the_watermark_stand,
    send,
    spoil_broker,
    spoil_rows,
    stall_uploads,
    step_clock,
)
from drills.abuse_watch import (
    TAKEN,
    Record,
    Sent,
    conclude,
    count_false_failures,
    database_mib,
    find_late_ticks,
    find_unseen,
    wait_for_a_tick,
    wait_until_stored,
    watching,
)
from drills.installation import running_world
from drills.stepped import write_step
from drills.world import World
from lib.wallclock import utcnow
from project.local import children

if TYPE_CHECKING:
    from drills.abuse_inputs import Sender

INNOCENT_JOBS = 30
"""Each checks in twice a minute: together once a second."""

STANDING_FROM = 180.0
"""A drill of fewer seconds has no time to let a watermark stand."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Drill:
    """How long in seconds, and what the seed is."""

    duration: float = 300.0
    seed: int = 1
    is_patient: bool = False
    """Whether a few delays are allowed: a machine that does other work at the same time has them by itself."""
    only: Sequence[str] = ()
    """The kinds to send; all of them if empty."""


def main() -> int:
    """Run a drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=300.0, help="seconds of abuse")
    parser.add_argument(
        "--patient", action="store_true", help="allow a few delays: for a machine that does other work at the same time"
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
            _abuse(drill, world, record, innocent, abuser, began, directory)
            record.judged_until, ticks_until = time.monotonic(), utcnow()
            hidden = flooded_job_fails(world, innocent)
            wait_until_stored(world, record)
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
        port = record.ports.get(number % INNOCENT_JOBS)
        sent = Sent(uuid.uuid4(), time.monotonic(), is_held=port is not None)
        record.sent.append(sent)
        sent.status = await exchange(port or world.port, _innocent_request(sender, number, sent.guid))
        if sent.status in TAKEN:
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


# --- the abuse ---


def _abuse(
    drill: Drill, world: World, record: Record, innocent: "Sender", abuser: "Sender", began: float, directory: Path
) -> None:
    """Send each kind for its share of the time, then do what needs more than requests."""
    from drills.abuse_inputs import STREAMS

    others = {
        "stalled uploads": lambda until: stall_uploads(world, until),
        "a flooded job": lambda until: flood(world, record, innocent, until),
        "rows that cannot be read": lambda until: spoil_rows(world, abuser, until),
        "rubbish in the broker": lambda until: spoil_broker(world, until),
        "a wrong clock": lambda until: step_clock(world, record, directory / "clock", until),
        "wrong passwords": lambda until: guess_passwords(world, record, until),
        "a killed batcher with abuse in its spool": lambda until: kill_with_spool(world, record, abuser, until),
        "a damaged spool": lambda until: damage_spool(world, record, abuser, until),
        "a watermark that stands": lambda until: let_the_watermark_stand(world, record, until),
        "a full disk": lambda until: fill_the_disk(world, record, directory, until),
    }
    names = [*STREAMS, *others]
    world.random.shuffle(names)
    if drill.duration < STANDING_FROM and not drill.only:
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
                asyncio.run(send(world.port, requests, record))
                world.live(0.2)
        else:
            others[name](until)


if __name__ == "__main__":
    sys.exit(main())
