"""A batcher that kills itself at a step, as a fork of a process that has imported everything.

Forty tests would otherwise each start Python and import all of it.
"""

import asyncio
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from environ import Env

from checkins import nodes
from checkins.ingest import batcher as batching
from checkins.ingest import node
from checkins.ingest.options import Options
from checkins.ingest.spool import Spool
from lib.wallclock import utcnow

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.loaded_apps", __name__])

Step = tuple[str, str, str, int]
"""Whose function, its name, before or after it, and at which call."""


def start(spool_directory: Path, step: Step, *, database_url: str) -> "multiprocessing.process.BaseProcess":
    """Start a process that drains the spool of a directory until it kills itself."""
    victim = CONTEXT.Process(target=_live, args=(spool_directory, step, database_url))
    victim.start()
    return victim


def _live(spool_directory: Path, step: Step, database_url: str) -> None:
    settings.DATABASES["default"].update(Env.db_url_config(database_url))
    settings.CHECKINS_PER_MINUTE = 1000
    asyncio.run(_drain(spool_directory, step))


async def _drain(spool_directory: Path, step: Step) -> None:
    owners: dict[str, Any] = {
        "node": node,
        "nodes": nodes,
        "Spool": Spool,
        "connection": type(connections["default"]),
    }
    owner, (name, moment, count) = owners[step[0]], step[1:]
    function, calls = getattr(owner, name), 0

    def die(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if moment == "before" and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if moment == "after" and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    batcher = batching.Batcher(
        Options(spool_directory=spool_directory, spool_bytes_max=64 << 20, batch_max=5), utcnow=utcnow
    )
    setattr(owner, name, die)
    await batcher.start()
    await asyncio.Event().wait()
