from django.apps import AppConfig


class CheckinsConfig(AppConfig):
    """What was heard."""

    name = "checkins"
    verbose_name = "Check-ins"
