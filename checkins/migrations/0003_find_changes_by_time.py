"""What became unknown is found by an index of blocks. It is built a day at a time, and nobody has to wait for it."""

import django.contrib.postgres.indexes
from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

INDEX = "checkin_date_updated_brin"
USING = "USING brin (date_updated) WITH (autosummarize = on)"


def index_changes(_apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Build the index in each partition beside those who write, then as one of the whole table."""
    with schema_editor.connection.cursor() as cursor:
        # Complete, if a former run was killed before it was written down that it had been applied.
        cursor.execute(f"DROP INDEX IF EXISTS {INDEX}")
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'checkins_checkin'::regclass")
        partitions = [name for (name,) in cursor.fetchall()]
        for partition in partitions:
            cursor.execute(f"DROP INDEX IF EXISTS {partition}_updated")
            cursor.execute(f"CREATE INDEX CONCURRENTLY {partition}_updated ON {partition} {USING}")
        cursor.execute(f"CREATE INDEX {INDEX} ON ONLY checkins_checkin {USING}")
        for partition in partitions:
            cursor.execute(f"ALTER INDEX {INDEX} ATTACH PARTITION {partition}_updated")


def drop_index(_apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop it in all partitions."""
    schema_editor.execute(f"DROP INDEX {INDEX}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("checkins", "0002_store_check_ins_in_fewer_bytes")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(index_changes, drop_index)],
            state_operations=[
                migrations.AddIndex(
                    "checkin",
                    django.contrib.postgres.indexes.BrinIndex(
                        autosummarize=True, fields=["date_updated"], name="checkin_date_updated_brin"
                    ),
                ),
            ],
        ),
    ]
