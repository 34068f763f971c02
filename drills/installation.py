"""Starting what a drill runs on: engines, durable as in production, the tables, and a web with a clock of its own.

Everything is started from one thread, since an engine dies with the thread that started it.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from drills.pace import clock_setting
from drills.world import BACK_SECONDS_MAX, WATCH_SECONDS, Server, World, answers, end
from project.local import children, engines


@contextlib.contextmanager
def running_world(
    directory: Path,
    *,
    seed: int,
    speed: float,
    tree: Path = children.BASE_DIR,
    make_web: Callable[[socket.socket, dict[str, str], Path], children.Child] | None = None,
    **variables: str,
) -> Iterator[World]:
    """Start engines, durable as in production, and a web on them whose clock runs `speed` times as fast.

    Programs that are started in it are ended with it. `tree` is the version that makes the tables.
    """
    logs = directory / "logs"
    logs.mkdir(parents=True)
    postgres = Server(engines.prepare_postgres(directory / "postgres", port=engines.free_port()), logs / "postgres.log")
    valkey = Server(engines.prepare_valkey(directory / "valkey", port=engines.free_port()), logs / "valkey.log")
    with contextlib.ExitStack() as stack:
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": postgres.engine.url,
            "REDIS_URL": valkey.engine.url,
            "CELERY_BROKER_URL": valkey.engine.url,
            "SECRET_KEY": "protects nothing in a drill",
            "HTTPS_ONLY": "false",
            "SECOND_FACTOR_REQUIRED": "false",
            "SPOOL_DIRECTORY": str(directory / "spool"),
            "WEB_RESPAWN_SECONDS": "0.5",
            "CHECKINS_PER_MINUTE": "100000",
            **variables,
        }
        if speed != 1:
            environment |= {
                "WATCHCLOCK_TEST_CLOCK": clock_setting(postgres.engine.url, speed),
                "WATCHCLOCK_ALLOW_TEST_CLOCK": "true",
                # Silence is measured with the fast clock, and means as many real seconds as ever.
                "INGEST_NODE_SILENT_SECONDS": str(round(120 * speed)),
            }
        # What another version starts with is its own.
        nurse, nursery = children.nursery_child(environment, logs) if make_web is None else (None, None)
        if nurse is not None:
            nurse.launch()
        subprocess.run(
            [python_of(tree), "manage.py", "migrate", "--verbosity", "0"],
            cwd=tree, env=environment, check=True,
        )  # fmt: skip
        if nursery is not None:
            stack.callback(nursery.end)
            nursery.wait_until_ready(BACK_SECONDS_MAX)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        web = (
            make_web(listener, environment, logs)
            if make_web
            else children.web_child(listener, environment, logs, nursery)
        )
        web.launch()
        chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
        world = World(postgres, valkey, web, listener, environment, chance, logs=logs, nursery=nursery, nurse=nurse)
        stack.callback(lambda: end(world.web))
        stack.callback(world.end_programs)
        while not answers(world.port):
            world.live(WATCH_SECONDS)
        yield world


def python_of(tree: Path) -> str:
    """Return the Python that runs a version: this one's is the one that runs now."""
    return sys.executable if tree == children.BASE_DIR else str(tree / ".venv" / "bin" / "python")
