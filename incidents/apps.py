from django.apps import AppConfig


class IncidentsConfig(AppConfig):
    """What went wrong."""

    name = "incidents"
