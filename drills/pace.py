"""How fast an installation's clock goes in a drill."""

import os
import subprocess
import sys
import time

import psycopg

from project.local import children

IMPORT_SECONDS_USUAL = 2.0
"""What a process needs to import everything on the machine that the drills' speeds were chosen on, when it is quiet."""


def fitting_speed(fastest: float) -> float:
    """Return how fast an installation's clock may go here: as asked for, or slower where the machine is slow or busy.

    Limits in the clock's minutes come sooner by as much. A web that is killed has to be back before the clock takes it
    for dead, which is two minutes in the life of an installation whose clock goes at its usual pace.
    """
    nowhere = {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "SECRET_KEY": "unused",
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    arguments = [sys.executable, "-c", "import project.asgi"]
    started = time.monotonic()
    subprocess.run(arguments, cwd=children.BASE_DIR, env=os.environ | nowhere, check=True, capture_output=True)
    return slowed(fastest, time.monotonic() - started)


def slowed(fastest: float, import_seconds: float) -> float:
    """Return the speed at which a start takes as many of the clock's minutes as on the machine of these drills."""
    return round(fastest * min(1.0, IMPORT_SECONDS_USUAL / import_seconds), 1)


def clock_setting(database_url: str, speed: float) -> str:
    """WATCHCLOCK_TEST_CLOCK for a clock that agrees with the database's now and runs `speed` times as fast."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None, "a SELECT without FROM has a row"
    return f"{row[0].isoformat()}@{speed:g}"
