from django.apps import AppConfig


class HealthConfig(AppConfig):
    """How Watchclock itself is."""

    name = "health"
