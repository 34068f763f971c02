"""Leave room in the pages of check-ins, which are updated when their run ends."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("checkins", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE checkins_checkin SET (fillfactor = 90)",
            reverse_sql="ALTER TABLE checkins_checkin RESET (fillfactor)",
        ),
    ]
