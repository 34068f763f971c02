from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitors", "0011_know_unused_configurations")]

    operations = [
        migrations.AddField(
            model_name="monitor",
            name="disabled_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Since when it judges nothing; empty while it is active.",
                null=True,
            ),
        ),
    ]
