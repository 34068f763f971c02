"""Keys and ping addresses that work beside their successors until an instant."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0010_keep_logs_private'),
    ]

    operations = [
        migrations.AddField(
            model_name='ingestkey',
            name='ends_at',
            field=models.DateTimeField(blank=True, help_text='Until when it works; empty: without end.', null=True),
        ),
        migrations.CreateModel(
            name='FormerAddress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('guid', models.UUIDField(editable=False, unique=True)),
                ('ends_at', models.DateTimeField()),
                ('monitor', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='former_addresses', to='monitors.monitor')),
            ],
        ),
    ]
