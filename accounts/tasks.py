"""Celery tasks of accounts."""

from celery import shared_task
from django.core.mail import EmailMessage


@shared_task(name="accounts.tasks.send_letter", ignore_result=True)
def send_letter(subject: str, body: str, to: str) -> int:
    """Send a mail about an account, once. Runs in the queue `delivery`.

    It holds a link that logs in or sets a password, so it is never stored in a row; one that is lost is asked for
    again.
    """
    return EmailMessage(subject, body, to=[to]).send()
