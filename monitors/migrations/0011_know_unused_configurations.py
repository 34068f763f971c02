"""Know since when a configuration is in force nowhere, so that it can be removed (D42)."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitors", "0010_set_aside_what_cannot_be_judged")]

    operations = [
        migrations.AddField("configsnapshot", "unused_since", models.DateTimeField(blank=True, null=True)),
    ]
