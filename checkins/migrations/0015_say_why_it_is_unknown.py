from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checkins", "0014_count_what_keys_use")]

    operations = [
        migrations.AddField(
            model_name="checkin",
            name="unknown_because",
            field=models.CharField(
                max_length=10,
                null=True,
                blank=True,
                choices=[("disabled", "its monitor was disabled"), ("deleted", "its environment was being deleted")],
            ),
        ),
        # A program of before, which still runs while this is applied, knows nothing of the column.
        migrations.AlterField(
            model_name="checkin",
            name="folded_count",
            field=models.IntegerField(
                default=0,
                db_default=0,
                help_text="Errors of the same minute, far above the limit, that counted and have no row (D39).",
            ),
        ),
        # An id is looked for in the unique index of each day (D30).
        migrations.RemoveIndex(model_name="checkin", name="checkin_open"),
    ]
