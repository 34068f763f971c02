"""Projects know until when they have maintenance windows: batches and the clock mostly find none.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitors", "0002_remember_former_tags")]

    operations = [
        migrations.AddField(
            model_name='project',
            name='maintained_until',
            field=models.DateTimeField(blank=True, editable=False, help_text='No maintenance window ends later; empty if there never was one.', null=True),
        ),
        migrations.AddIndex(
            model_name='project',
            index=models.Index(condition=models.Q(('maintained_until__isnull', False)), fields=['maintained_until'], name='project_maintained_until'),
        ),
    ]
