from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0012_know_since_when_it_is_disabled'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='monitorenvironment',
            name='last_result_at',
        ),
        migrations.AddField(
            model_name='monitorenvironment',
            name='first_timeout_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='monitorenvironment',
            name='has_deferred',
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
