"""Changes that people make on the pages for them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audit', '0002_know_links_and_channels'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='audit_entry_source_is_known',
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='source',
            field=models.CharField(choices=[('admin', 'admin'), ('api', 'api'), ('command', 'command'), ('system', 'system'), ('link', 'link'), ('page', 'page'), ('channel', 'channel')], max_length=10),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('source__in', ['admin', 'api', 'command', 'system', 'link', 'page', 'channel'])), name='audit_entry_source_is_known'),
        ),
    ]
