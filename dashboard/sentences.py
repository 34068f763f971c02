"""Why something failed, in the sentences that messages show too."""

from collections.abc import Mapping
from typing import Any

from incidents.models import Incident
from incidents.notifications.letters import Story, reason


def sentence(incident: Incident, explanation: Mapping[str, Any], *, language: str) -> str:
    """Return the sentences from what is stored of a failure, in English or German (`language`: en, de).

    Monitor and environment of the incident are loaded.
    """
    environment = incident.monitor_environment
    return reason(
        Story(
            monitor=environment.monitor.name,
            environment=environment.environment.name,
            timezone=environment.monitor.timezone,
            started_at=incident.started_at,
            explanation=explanation,
            language=language,
        )
    )
