"""A drill of worker hosts: one is cut off from PostgreSQL and the broker in the middle of a tick, and comes back.

Three workers reach the engines through a proxy each. Hundreds of jobs are silent, so that every tick has work in all
shards. One host is cut off while it holds a shard: its connections hang (nobody tells the servers) or break. The others
have to go on, with the shard that it held as well, and when it is back everything has to be there once. Prints one JSON
line; the exit status is 1 if something is not so.

    hang_stuck_s, break_stuck_s    how long the clock stood still for the shard that the host held, in real seconds
    lost, doubled, false, wrong    as in the drill of the clock; must be 0
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rich.console import Console

from drills.broker import Broker
from drills.clock import come_to_rest, figure, make_jobs, silences_of, wait_until
from drills.installation import running_world
from drills.proxy import Proxy
from drills.world import World
from project.local import children

HOSTS = 3
JOBS = 300
SPEED = 15.0
ABANDONED_SECONDS = 4
"""After so long without a word PostgreSQL ends a transaction; by default it is more."""
STUCK_SECONDS_MAX = 30.0
MOVED_TICKS = 2

console = Console(stderr=True)

IN_A_TICK = b"INSERT INTO checkins_checkin"
"""Whoever has sent this to PostgreSQL holds a shard and environments, and has committed nothing of the tick yet."""


@dataclass(frozen=True)
class Host:
    """A worker, and its ways to PostgreSQL and the broker."""

    name: str
    worker: children.Child
    database: Proxy
    broker: Proxy

    def cut(self, *, hang: bool) -> None:
        """Cut both ways."""
        for way in (self.database, self.broker):
            way.cut(hang=hang)

    def restore(self) -> None:
        """Open both ways again."""
        for way in (self.database, self.broker):
            way.restore()


def main() -> int:
    """Run the drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many jobs are silent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="watchclock-drill-") as name, redirect_stdout(sys.stderr):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        figures, findings = run(options.jobs, Path(name))
    for finding in findings:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    print(json.dumps(figures))
    return 1 if findings else 0


def run(job_count: int, directory: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the drill in an empty directory; returns the figures, and sentences about what is wrong."""
    with running_world(
        directory,
        seed=1,
        speed=SPEED,
        ALERT_EMAIL_TO="oncall@watchclock.test",
        EMAIL_URL="dummymail://",
        CLOCK_GRACE_SECONDS=f"{SPEED / 10:g}",
        ABANDONED_TRANSACTION_SECONDS=str(ABANDONED_SECONDS),
    ) as world:
        os.environ |= world.variables
        import django

        django.setup()
        # Models can be imported only now.
        from drills.clock_audit import audit_clock
        from drills.clock_facts import read_facts
        from drills.jobs import Act, Plan

        world.told = lambda text: console.print(text, markup=False)
        url = world.postgres.engine.url
        arguments = children.program_arguments()
        beat = world.start_program("beat", arguments["beat"])
        broker = Broker(world.valkey.engine.url, random.Random(1))  # noqa: S311 - repeatable, and no secret
        world.start_program("delivery", arguments["delivery"])
        with running_hosts(world, arguments["worker"]) as hosts:
            wait_until(world, lambda: figure(url, "SELECT count(*) FROM clocktasks_tick") > 0)
            plans = [Plan(slug=f"job-{number}", acts=(Act.SILENT,)) for number in range(job_count)]
            make_jobs(plans)
            stuck = {
                "hang_stuck_s": stuck_for(world, hosts[0], hang=True),
                "break_stuck_s": stuck_for(world, hosts[1], hang=False),
            }
            workers = [host.worker for host in hosts]
            problem = come_to_rest(world, broker, beats=[beat], workers=workers)
        account = audit_clock(read_facts(url), [(plan, []) for plan in plans], silences=silences_of(world, SPEED))
    findings = [f"{name}: {sentence}" for name, sentences in account.findings.items() for sentence in sentences]
    findings += [f"{name}: {seconds}" for name, seconds in stuck.items() if seconds > STUCK_SECONDS_MAX]
    if problem is not None:
        findings.append(f"not idle: {problem}")
    figures = {"drill": "hosts", "hosts": HOSTS, "jobs": job_count, **stuck}
    return figures | {name: value for name, value in vars(account).items() if name != "findings"}, findings


@contextmanager
def running_hosts(world: World, arguments: Sequence[str]) -> Iterator[list[Host]]:
    """Start workers, each with ways of its own to the engines."""
    hosts = []
    for number in range(1, HOSTS + 1):
        name = f"worker-{number}"
        database, database_url = way_to(world.postgres.engine.url)
        broker, broker_url = way_to(world.valkey.engine.url)
        worker = world.start_program(
            name, [*arguments, "--hostname", f"{name}@%h"],
            DATABASE_URL=database_url, REDIS_URL=broker_url, CELERY_BROKER_URL=broker_url,
        )  # fmt: skip
        hosts.append(Host(name, worker, database, broker))
    try:
        yield hosts
    finally:
        for host in hosts:
            host.database.close()
            host.broker.close()


def way_to(url: str) -> tuple[Proxy, str]:
    """Return a proxy to a server, and the address of the server by way of it."""
    parts = urlsplit(url)
    assert parts.hostname is not None, "an address has a host"
    assert parts.port is not None, "engines listen on ports of their own"
    proxy = Proxy((parts.hostname, parts.port))
    login, _, _ = parts.netloc.rpartition("@")
    return proxy, urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))


def stuck_for(world: World, host: Host, *, hang: bool) -> float:
    """Cut a host off while it applies a tick, wait until all shards go on without it, and bring it back.

    Returns how many seconds it took until all shards had passed two ticks that were not written yet when it was cut.
    """
    url = world.postgres.engine.url
    host.database.cut_after = IN_A_TICK
    if not wait_until(world, host.database.is_cut.is_set):
        raise RuntimeError(f"{host.name} applies no ticks; its log is {host.worker.log}")
    host.cut(hang=hang)
    since = time.monotonic()
    world.told(f"{host.name} is cut off in the middle of a tick: its connections {'hang' if hang else 'break'}")
    newest = figure(url, "SELECT extract(epoch FROM max(at))::bigint FROM clocktasks_tick")
    behind = "SELECT count(*) FROM clocktasks_shardclock WHERE position < to_timestamp(%s)"
    goal = newest + 60 * MOVED_TICKS
    while figure(url, behind, goal) > 0 and time.monotonic() < since + STUCK_SECONDS_MAX + 5:
        world.live(0.1)
    stuck = time.monotonic() - since
    world.told(f"all shards have passed that tick after {stuck:.1f} s; {host.name} is back")
    before = host.database.passed_bytes
    host.restore()
    if not wait_until(world, lambda: host.database.passed_bytes > before + 10_000):
        raise RuntimeError(f"{host.name} does not work again; its log is {host.worker.log}")
    world.told(f"{host.name} works again")
    return round(stuck, 1)


if __name__ == "__main__":
    sys.exit(main())
