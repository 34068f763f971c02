from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0007_check_each_reference_once'),
    ]

    operations = [
        migrations.CreateModel(
            name='ShardLayout',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ('count', models.PositiveSmallIntegerField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='shard_layout_is_one_row'), models.CheckConstraint(condition=models.Q(('count__gte', 1), ('count__lte', 1024)), name='shard_layout_count_in_range')],
            },
        ),
    ]
