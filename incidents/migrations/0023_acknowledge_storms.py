from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('incidents', '0022_fold_backlogs'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='message',
            name='message_is_about_an_incident_a_storm_or_the_instance',
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('incident__isnull', True), ('kind__in', ['clock', 'test', 'fallback', 'report']), ('storm__isnull', True)), models.Q(('incident__isnull', True), ('kind__in', ['digest', 'storm_over']), ('storm__isnull', False)), models.Q(('incident__isnull', True), ('kind', 'acknowledged'), ('storm__isnull', False)), models.Q(models.Q(('kind__in', ['clock', 'test', 'fallback', 'report', 'digest', 'storm_over']), _negated=True), ('incident__isnull', False), ('storm__isnull', True)), _connector='OR'), name='message_is_about_an_incident_a_storm_or_the_instance'),
        ),
    ]
