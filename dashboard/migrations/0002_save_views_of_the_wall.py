import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('dashboard', '0001_share_without_an_account'),
        ('monitors', '0011_let_keys_and_addresses_end'),
    ]

    operations = [
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=50)),
                ('query', models.TextField(blank=True)),
                ('created_at', models.DateTimeField()),
                ('project', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='views', to='monitors.project')),
                ('user', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='views', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('project__isnull', False), ('user__isnull', True)), models.Q(('project__isnull', True), ('user__isnull', False)), _connector='OR'), name='saved_view_of_a_person_or_a_project'), models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='saved_view_has_a_name'), models.UniqueConstraint(condition=models.Q(('user__isnull', False)), fields=('user', 'name'), name='saved_view_name_once_for_a_person'), models.UniqueConstraint(condition=models.Q(('project__isnull', False)), fields=('project', 'name'), name='saved_view_name_once_in_a_project')],
            },
        ),
    ]
