"""Monitors remember the tags that they had: maintenance windows go by the tags of their time.

A migration of its own, so that nobody waits for this table while another one is locked.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitors", "0001_squashed_0018")]

    operations = [
        migrations.AddField(
            model_name='monitor',
            name='former_tags',
            field=models.JSONField(blank=True, editable=False, help_text='The tags that it had, and until when: windows go by them.', null=True),
        ),
    ]
