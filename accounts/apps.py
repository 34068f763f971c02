from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.db.models.signals import pre_save

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class AccountsConfig(AppConfig):
    """The members of projects, and what each role may do."""

    name = "accounts"

    def ready(self) -> None:
        """Store addresses of accounts in small letters, in which the login looks for them."""
        from django.contrib.auth.models import User

        pre_save.connect(_lower_address, sender=User)


def _lower_address(instance: "User", **_: object) -> None:
    instance.email = instance.email.lower()
