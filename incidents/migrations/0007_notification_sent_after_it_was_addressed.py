from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('incidents', '0006_address_what_was_told'),
    ]

    operations = [
        migrations.AddConstraint(
            model_name='notification',
            constraint=models.CheckConstraint(condition=models.Q(('sent_at__isnull', True), ('addressed_at__isnull', False), _connector='OR'), name='notification_sent_after_it_was_addressed'),
        ),
    ]
