from django.apps import AppConfig


class ClocktasksConfig(AppConfig):
    """What time does."""

    name = "clocktasks"
    verbose_name = "The clock"
