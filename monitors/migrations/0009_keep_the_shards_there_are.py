from django.db import migrations

SHARDS_SO_FAR = 16
"""What was a constant in the code until there were rows to say it."""


def keep_the_shards_there_are(apps, _):
    """Say of an installation with monitors what its rows are spread over. One without takes CLOCK_SHARDS later."""
    if apps.get_model("monitors", "MonitorEnvironment").objects.exists():
        apps.get_model("monitors", "ShardLayout").objects.get_or_create(id=1, defaults={"count": SHARDS_SO_FAR})


class Migration(migrations.Migration):

    dependencies = [
        ('monitors', '0008_shard_layout'),
    ]

    operations = [
        migrations.RunPython(keep_the_shards_there_are, migrations.RunPython.noop),
    ]
