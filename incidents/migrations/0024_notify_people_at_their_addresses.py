import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0004_keep_preferences'),
        ('incidents', '0023_acknowledge_storms'),
    ]

    operations = [
        migrations.AddField(
            model_name='channel',
            name='is_personal',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='channel',
            name='member',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='channels', to='accounts.membership'),
        ),
        migrations.AddField(
            model_name='route',
            name='tells_owner',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddConstraint(
            model_name='channel',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('is_personal', False), ('member__isnull', True)), models.Q(('is_personal', True), ('kind', 'email'), ('project__isnull', False)), _connector='OR'), name='channel_of_a_member_is_personal'),
        ),
        migrations.AddConstraint(
            model_name='channel',
            constraint=models.UniqueConstraint(condition=models.Q(('removed_at__isnull', True)), fields=('member',), name='channel_one_for_each_member'),
        ),
    ]
