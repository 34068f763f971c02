"""What monitors depend on."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0005_rate_monitors'),
    ]

    operations = [
        migrations.CreateModel(
            name='Dependency',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField()),
                ('downstream', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='dependencies', to='monitors.monitor')),
                ('upstream', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='dependents', to='monitors.monitor')),
            ],
            options={
                'verbose_name_plural': 'dependencies',
                'constraints': [models.UniqueConstraint(fields=('downstream', 'upstream'), name='dependency_once'), models.CheckConstraint(condition=models.Q(('downstream', models.F('upstream')), _negated=True), name='dependency_on_another_monitor')],
            },
        ),
    ]
