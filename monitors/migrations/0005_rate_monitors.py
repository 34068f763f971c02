"""The severity of a monitor."""


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0004_plan_maintenance'),
    ]

    operations = [
        migrations.AddField(
            model_name='monitor',
            name='severity',
            field=models.CharField(choices=[('info', 'info'), ('warning', 'warning'), ('error', 'error'), ('critical', 'critical')], db_default='error', default='error', help_text='How bad a failure is. Routes may go by it, and it is shown in alerts.', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='monitor',
            constraint=models.CheckConstraint(condition=models.Q(('severity__in', ['info', 'warning', 'error', 'critical'])), name='monitor_severity_is_known'),
        ),
    ]
