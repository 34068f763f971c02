from django.apps import AppConfig


class MonitorsConfig(AppConfig):
    """What is watched."""

    name = "monitors"
