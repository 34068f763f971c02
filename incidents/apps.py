from django.apps import AppConfig
from django.core import checks


class IncidentsConfig(AppConfig):
    """What went wrong."""

    name = "incidents"

    def ready(self) -> None:
        """Register checks."""
        from incidents.checks import check_recipients

        checks.register(check_recipients, deploy=True)
