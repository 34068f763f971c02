"""The rows of a world: what is there at first, what an edit makes of it, and the log of what became of them."""

import uuid
from datetime import UTC, datetime, time, timedelta

from django.db import connection, transaction

from drills.delivery.config import Config
from incidents.models import Channel, Route
from incidents.models.channels import EMAIL
from incidents.secrets import seal
from monitors.changes import attach_config_snapshots
from monitors.models import Dependency, Environment, Monitor, MonitorEnvironment, Project

START = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SECRETS = {
    "webhook": {"url": "https://webhook.example/hook", "secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
    "pagerduty": {"routing_key": "a" * 32},
    "opsgenie": {"api_key": "a" * 32},
    "slack": {"url": "https://slack.example/services/T/B/x"},
    "discord": {"url": "https://discord.example/api/webhooks/1/x"},
}
VALUES = {
    "pagerduty": {"url": "https://pagerduty.example/v2/enqueue"},
    "opsgenie": {"url": "https://opsgenie.example/v2/alerts"},
}
WATCH_SQL = """
    CREATE TABLE IF NOT EXISTS drill_log (
        seq bigint GENERATED ALWAYS AS IDENTITY, what text, id bigint, old text, new text
    );
    CREATE OR REPLACE FUNCTION drill_message() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO drill_log (what, id, old, new) VALUES ('message', NEW.id, OLD.status, NEW.status); RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION drill_notification() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO drill_log (what, id, old, new) VALUES (
            CASE WHEN NEW.addressed_at IS NULL THEN 'nobody' ELSE 'addressed' END, NEW.id, NULL, NULL);
        RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION drill_hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO drill_log (what, id, new) VALUES ('held', NEW.id, NEW.held_by); RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER drill_hold AFTER UPDATE OF held_by ON incidents_notification FOR EACH ROW
        WHEN (NEW.held_by <> '' AND NEW.held_by IS DISTINCT FROM OLD.held_by) EXECUTE FUNCTION drill_hold();
    CREATE OR REPLACE TRIGGER drill_message AFTER UPDATE OF status ON incidents_message FOR EACH ROW
        WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.finished_at IS DISTINCT FROM NEW.finished_at)
        EXECUTE FUNCTION drill_message();
    CREATE OR REPLACE TRIGGER drill_notification AFTER UPDATE OF addressed_at, nobody_since ON incidents_notification
        FOR EACH ROW WHEN (OLD.addressed_at IS DISTINCT FROM NEW.addressed_at
                           OR OLD.nobody_since IS DISTINCT FROM NEW.nobody_since)
        EXECUTE FUNCTION drill_notification();
"""
"""Every end of a message and every routing of a notification is logged by the database, whoever writes it."""
UNWATCH_SQL = """
    DROP TRIGGER IF EXISTS drill_message ON incidents_message;
    DROP TRIGGER IF EXISTS drill_notification ON incidents_notification;
    DROP TRIGGER IF EXISTS drill_hold ON incidents_notification;
    DROP FUNCTION IF EXISTS drill_message(), drill_notification(), drill_hold();
    DROP TABLE IF EXISTS drill_log;
"""


def run_sql(sql: str) -> None:
    """Run statements."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def make_monitors(count: int) -> None:
    """Make the project, and so many monitors; the ids count from 1."""
    project = Project.objects.create(id=1, name="Simulation", slug="simulation", created_at=START)
    Environment.objects.create(id=1, project=project, name="production")
    monitors = [
        Monitor(
            id=number,
            project=project,
            slug=f"job-{number}",
            name=f"Job {number}",
            schedule_type="crontab",
            crontab="* * * * *",
            timezone="UTC",
            created_at=START,
        )
        for number in range(1, count + 1)
    ]
    attach_config_snapshots(monitors)
    Monitor.objects.bulk_create(monitors)


def make_environments(count: int) -> None:
    """Make the environments anew: healthy, and neither muted, snoozed nor failing."""
    Monitor.objects.update(is_muted=False, snoozed_until=None)
    MonitorEnvironment.objects.bulk_create(
        [
            MonitorEnvironment(id=number, monitor_id=number, environment_id=1, status="ok", shard=0, created_at=START)
            for number in range(1, count + 1)
        ]
    )


def write_config(config: Config) -> None:
    """Write channels and routes; their ids count from 1."""
    channels = []
    for number, kind in enumerate(config.kinds):
        guid = uuid.UUID(int=number + 1)
        values = {"to": f"ops-{number}@example.org"} if kind == EMAIL else VALUES.get(kind, {})
        sealed = seal(SECRETS[kind], guid=guid) if kind in SECRETS else ""
        channels.append(
            Channel(
                id=number + 1,
                guid=guid,
                project_id=1,
                kind=kind,
                name=f"{kind} {number}",
                values=values,
                sealed=sealed,
                folds=number not in config.unfolded,
                quiet_from=time(10, 1) if number in config.quiet else None,
                quiet_until=time(12) if number in config.quiet else None,
                created_at=START,
                changed_at=START,
            )
        )
    Channel.objects.bulk_create(channels)
    Dependency.objects.bulk_create(
        Dependency(downstream_id=below, upstream_id=above, created_at=START) for below, above in config.depends
    )
    for number, route in enumerate(config.routes):
        row = Route.objects.create(
            id=number + 1,
            project_id=1,
            name=f"route {number}",
            position=number,
            matchers=[{"attribute": "kind", "operator": "is", "values": [route.kind]}] if route.kind else [],
            continues=route.continues,
            reminder_hours=route.reminder_hours,
            steps=[
                {"minutes": minutes, "channels": [channel + 1 for channel in channels]}
                for minutes, channels in route.steps
            ],
            loops=route.loops,
            changed_at=START,
        )
        row.channels.set([channel + 1 for channel in sorted(route.channels)])


def recipient_of(config: Config, channel: int | None, default: str) -> str:
    """Return how a channel's messages name their recipient."""
    if channel is None:
        return default
    return f"ops-{channel}@example.org" if config.kinds[channel] == EMAIL else str(uuid.UUID(int=channel + 1))


@transaction.atomic
def apply_edit(before: Config, after: Config, number: int, *, now: datetime) -> None:
    """Write what differs, as the admin does; `number` counts the edits."""
    for position, (old, new) in enumerate(zip(before.routes, after.routes, strict=True)):
        if old != new:
            row = Route.objects.select_for_update().get(id=position + 1)
            row.is_enabled, row.changed_at = new.is_enabled, now
            row.save(update_fields=["is_enabled", "changed_at"])
            if old.channels != new.channels:
                row.channels.set([channel + 1 for channel in sorted(new.channels)])
    for channel in sorted(before.usable ^ after.usable):
        Channel.objects.filter(id=channel + 1).update(is_enabled=channel in after.usable, changed_at=now)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO drill_log (what, id) VALUES ('config', %s)", [number])
