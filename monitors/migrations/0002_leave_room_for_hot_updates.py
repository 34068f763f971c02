"""Leave room in the pages of the hot rows, so that most updates stay on their page (HOT) and touch no index."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("monitors", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE monitors_monitorenvironment SET (fillfactor = 70)",
            reverse_sql="ALTER TABLE monitors_monitorenvironment RESET (fillfactor)",
        ),
    ]
