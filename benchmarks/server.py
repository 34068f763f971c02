"""A PostgreSQL for a benchmark, as large as production has it, and a database of its own there."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from project.local import engines

DATABASE = "watchclock_bench_clock"
POSTGRES = "max_wal_size=8GB shared_buffers=1GB"
"""What docs/how-to/run-in-production.md advises for so many; the rest is as in `make run`."""


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server: the address of its databases without their name, and its process if we started it."""

    prefix: str
    process: psutil.Process | None

    def cpu_seconds(self) -> float | None:
        """Processor time so far of all its processes that still run."""
        if self.process is None:
            return None
        seconds = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds


@contextlib.contextmanager
def running_server(options: Sequence[str]) -> Iterator[Server]:
    """Yield the server in DATABASE_URL, or one of our own with these options besides those of `make run`."""
    if database_url := os.environ.get("DATABASE_URL"):
        yield Server(database_url.rpartition("/")[0], None)
        return
    with tempfile.TemporaryDirectory(prefix="watchclock-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port())
        arguments = [argument for option in options for argument in ("-c", option)]
        postgres = dataclasses.replace(postgres, argv=(*postgres.argv, *arguments))
        log = directory / "postgres.log"
        process = postgres.start(log)
        try:
            engines.wait_until_ready(postgres, process, log)
            yield Server(postgres.url.rpartition("/")[0], psutil.Process(process.pid))
        finally:
            process.send_signal(postgres.stop_signal)
            process.wait(60)


@contextlib.contextmanager
def own_database(server: Server) -> Iterator[str]:
    """Yield the address of an empty database, which is dropped afterwards."""
    with psycopg.connect(f"{server.prefix}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{DATABASE}"')
        try:
            yield f"{server.prefix}/{DATABASE}"
        finally:
            connection.execute(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')
