"""Make the dump of an instance for `tests/test_upgrade.py`: python -m tests.dumps.make tests/dumps/<commit>.sql.gz

To be run in the commit that the instance is to be of: the tables are made by its migrations, the rows by its code. So
`e2e8189.sql.gz` was made by this script as it was when it was added, before modules that it imports moved.
"""

import gzip
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import django

from project.local.engines import _postgres_binaries, passing_postgres

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def fill() -> None:
    """Let a little of everything happen until Monday, 2026-01-05 10:03 UTC; the clock is up to 10:00."""
    from django.apps import apps
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.loader import MigrationLoader

    from checkins.editing import delete_environments, update_monitor
    from checkins.partitions import ensure_partitions, existing_partitions
    from checkins.processing.apply import receive
    from clocktasks.dispatch import advance_ledger
    from clocktasks.shards import process_clock_task
    from monitors.pruning import time_to_prune
    from tests import factories
    from tests.factories import NOW
    from tests.messages import make_config, make_message

    def tick(at):
        tasks = advance_ledger(at, now=at)
        while tasks:
            woken = process_clock_task(tasks.pop(0)).wake
            tasks += [] if woken is None else [woken]

    def hear(monitor, status, at, **fields):
        receive([make_message(status, monitor=monitor, at=at, **fields)], now=at)

    if ("checkins", "0010_listening_and_volume") in MigrationLoader(None).disk_migrations:
        # It had check-ins when there were no days yet.
        environment = factories.MonitorEnvironmentFactory()
        for age in (3, 4, 4):
            factories.CheckInFactory(monitor_environment=environment, date_added=NOW - age * DAY)
        call_command("migrate", "checkins", "0010", verbosity=0)
        call_command("migrate", "checkins", verbosity=0)
    # Days of their own around then, and none around the day on which this runs.
    with connection.cursor() as cursor:
        for partition in existing_partitions() or []:
            if partition.since is not None:
                cursor.execute(f"DROP TABLE {partition.name}")
    ensure_partitions(now=NOW - 2 * DAY)

    factories.ListeningSpanFactory()
    project = factories.ProjectFactory(name="Nightly", slug="nightly")
    factories.IngestKeyFactory(project=project)
    factories.IngestKeyFactory(project=project, is_active=False)
    tick(NOW - 2 * DAY)
    daily = factories.MonitorFactory(project=project, slug="daily", crontab="0 3 * * *", timezone="Europe/Berlin")
    often = factories.MonitorFactory(project=project, slug="often", interval=15, interval_unit="minute", max_runtime=10)
    hangs = factories.MonitorFactory(project=project, slug="hangs", crontab="0 * * * *", max_runtime=2)
    # Each day at 03:00 in Berlin: well, in error and well again, and the third time it does not come.
    for number, status in enumerate(["ok", "error"]):
        hear(daily, status, NOW.replace(hour=2) - (2 - number) * DAY, run=number + 1)
    hear(daily, "ok", NOW - 28 * HOUR, run=9)
    tick(NOW - 3 * HOUR)
    hear(hangs, "in_progress", NOW - HOUR, run=39)
    # Every quarter of an hour, in two environments, of which one fails until now.
    for number in range(4):
        at = NOW - HOUR + 15 * number * MINUTE
        hear(often, "ok", at, run=20 + number)
        hear(often, "error" if number else "ok", at, run=25 + number, environment="staging")
        tick(at + 5 * MINUTE)
    hear(often, "in_progress", NOW - MINUTE, run=30)
    hear(None, "ok", NOW - MINUTE, project_id=project.id, slug="by-config", run=31, config=make_config("*/10 * * * *"))
    hear(None, "ok", NOW, project_id=project.id, slug="by-config", run=32, config=make_config("*/5 * * * *"))
    hear(None, "ok", NOW, project_id=project.id, slug="unknown", run=33)
    hear(hangs, "in_progress", NOW - MINUTE, run=40)
    tick(NOW)
    update_monitor(often.id, {"checkin_margin": 3}, now=NOW)
    # The one ended after its deadline, to which the clock has not come yet; the other cannot be counted before that.
    hear(hangs, "ok", NOW + 3 * MINUTE, run=40)
    hear(hangs, "ok", NOW + 3 * MINUTE, run=41)
    time_to_prune(NOW)

    # What the story has none of.
    deleted = factories.MonitorEnvironmentFactory(monitor__project=project)
    delete_environments(deleted.monitor_id, ["production"])
    factories.MonitorEnvironmentFactory(monitor__project=project, monitor__status="disabled", monitor__disabled_at=NOW)
    retried = factories.CheckInFactory(monitor_environment=often.monitor_environments.earliest("id"))
    factories.AttemptFactory(checkin=retried)
    factories.CheckInLogFactory(checkin=retried)
    factories.CheckInFactory(monitor_environment=retried.monitor_environment, date_added=NOW + 60 * DAY)  # no day
    factories.CheckInFactory(monitor_environment=retried.monitor_environment, status="unknown", date_added=NOW - DAY)
    factories.WaitingCheckInFactory(project=project, error="an unexpected error")
    factories.ClientLossReportFactory(project=project)
    factories.ProcessingErrorFactory(project=project)
    factories.KeyUseFactory(project_id=project.id)
    for number, state in enumerate(["live", "silent", "dropped", "left"], 1):
        factories.IngestNodeFactory(host=f"web-{number}", state=state)
    factories.LostSpanFactory(since=NOW - 2 * DAY, until=NOW - 2 * DAY)
    factories.MinuteVolumeFactory()
    factories.HeldTickFactory()
    factories.ClockIncidentFactory(started_at=NOW - 2 * DAY)
    incident = apps.get_model("incidents.Incident").objects.earliest("id")
    for kind, status in [("opened", "sent"), ("resolved", "waiting")]:
        factories.MessageFactory(incident=incident, kind=kind, status=status)

    names = ("monitors", "checkins", "incidents", "clocktasks")
    models = [model for name in names for model in apps.get_app_config(name).get_models()]
    empty = [model.__name__ for model in models if not model._default_manager.exists()]
    assert not empty, f"nothing in {empty}"


def dump(url: str) -> str:
    """Return the database as SQL that psycopg can run, on every version of PostgreSQL that is supported."""
    command = [
        str(_postgres_binaries() / "pg_dump"),
        "--inserts",
        "--no-owner",
        "--no-privileges",
        "--no-comments",
        url,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = re.sub(r"^(\\(un)?restrict .*|SET transaction_timeout .*|--.*)\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{2,}", "\n", text)


def main() -> None:
    """Write the file."""
    with passing_postgres() as url:
        os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        fill()
        Path(sys.argv[1]).write_bytes(gzip.compress(dump(url).encode(), mtime=0))


if __name__ == "__main__":
    main()
