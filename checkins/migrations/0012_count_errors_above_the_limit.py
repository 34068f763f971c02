from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checkins", "0011_partition_check_ins_by_day")]

    operations = [
        migrations.AddField(
            model_name="checkin",
            name="folded_count",
            field=models.IntegerField(
                default=0,
                help_text="Errors of the same minute, far above the limit, that counted and have no row (D39).",
            ),
        ),
    ]
