from django.apps import AppConfig
from django.core import checks


class IncidentsConfig(AppConfig):
    """Incidents and notifications about them."""

    name = "incidents"

    def ready(self) -> None:
        """Register checks."""
        from incidents.checks import check_recipients, check_secrets_keys

        checks.register(check_recipients, deploy=True)
        checks.register(check_secrets_keys, deploy=True)
