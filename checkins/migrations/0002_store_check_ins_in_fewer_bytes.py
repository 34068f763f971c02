"""What repeats other columns, or is the same in nearly every row, is not stored. No row is written anew.

Rows that are there stay as they are until their day is dropped. `monitor_id` stays as a column that nobody writes, since
processes of the version before still do while this runs; a later version drops it.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checkins", "0001_squashed_0018")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE checkins_checkin ALTER monitor_id DROP NOT NULL, ALTER received_at DROP NOT NULL,"
                    " ALTER folded_count DROP NOT NULL",
                    """
                    UPDATE checkins_checkin
                       SET received_at = coalesce(received_at, date_added), folded_count = coalesce(folded_count, 0),
                           monitor_id = (SELECT monitor_id FROM monitors_monitorenvironment AS me
                                          WHERE me.id = monitor_environment_id)
                     WHERE received_at IS NULL OR folded_count IS NULL OR monitor_id IS NULL;
                    ALTER TABLE checkins_checkin ALTER monitor_id SET NOT NULL, ALTER received_at SET NOT NULL,
                          ALTER folded_count SET NOT NULL
                    """,
                ),
            ],
            state_operations=[
                migrations.RemoveField("checkin", "monitor"),
                migrations.RenameField("checkin", "received_at", "received_later_at"),
                migrations.AlterField(
                    "checkin",
                    "received_later_at",
                    models.DateTimeField(blank=True, db_column="received_at", null=True),
                ),
                migrations.AlterField(
                    "checkin",
                    "folded_count",
                    models.IntegerField(
                        blank=True,
                        null=True,
                        help_text="Errors of the same minute, far above the limit, that counted and have no row (D39).",
                    ),
                ),
            ],
        ),
        migrations.RunSQL(
            "ALTER TABLE checkins_checkin ALTER folded_count DROP DEFAULT",
            "ALTER TABLE checkins_checkin ALTER folded_count SET DEFAULT 0",
        ),
    ]
