"""Telling people by e-mail, through Django's mail settings (EMAIL_URL, ALERT_EMAIL_TO)."""

from collections.abc import Sequence

from django.core.mail import EmailMessage

from incidents.models import Incident, Notification, Occurrence


def send(notification: Notification, *, recipients: Sequence[str]) -> None:
    """Send one notification. Raises OSError (which smtplib's errors are) if the mail server does not take it.

    The idempotency key becomes the Message-ID, so that a mail which was sent twice is shown once.
    """
    incident = notification.incident
    environment = incident.monitor_environment
    name = f"{environment.monitor.name} ({environment.environment.name})"
    subject, body = {
        Notification.Transition.OPENED.value: (f"Failing: {name}", _what_failed(incident)),
        Notification.Transition.RESOLVED.value: (
            f"Recovered: {name}",
            f"The incident that began at {incident.started_at.isoformat()} is resolved.",
        ),
    }[notification.transition]
    EmailMessage(
        subject="[Watchclock] " + " ".join(subject.split()),
        body=body,
        to=list(recipients),
        headers={"Message-ID": f"<{notification.idempotency_key}@watchclock>"},
    ).send()


def _what_failed(incident: Incident) -> str:
    occurrence = Occurrence.objects.filter(incident=incident).order_by("id").last()
    if occurrence is None:
        return f"An incident is open since {incident.started_at.isoformat()}."
    facts = [
        f"{fact.replace('_', ' ')}: {value}" for fact, value in occurrence.explanation.items() if value is not None
    ]
    last_ok = "never" if occurrence.last_ok_at is None else occurrence.last_ok_at.isoformat()
    return "\n".join([occurrence.subtitle, "", f"Last successful check-in: {last_ok}", *facts])
