from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The members of projects, and what each role may do."""

    name = "accounts"
