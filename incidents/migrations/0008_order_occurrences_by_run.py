from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("incidents", "0007_notification_sent_after_it_was_addressed")]

    operations = [
        migrations.AlterModelOptions(name="occurrence", options={"ordering": ["occurred_at", "id"]}),
    ]
