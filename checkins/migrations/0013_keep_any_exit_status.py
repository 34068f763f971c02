from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checkins", "0012_count_errors_above_the_limit")]

    operations = [
        migrations.AddField(
            model_name="checkin",
            name="wide_exit_status",
            field=models.BigIntegerField(blank=True, null=True),
        ),
    ]
