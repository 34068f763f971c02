from django.conf import settings
from django.db import migrations


class Migration(migrations.Migration):
    """The login looks for addresses in small letters. Accounts are few."""

    dependencies = [
        ('accounts', '0002_invite_people'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE auth_user SET email = lower(email) WHERE email <> lower(email)", migrations.RunSQL.noop
        ),
    ]
