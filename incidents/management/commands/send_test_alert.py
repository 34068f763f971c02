"""`manage.py send_test_alert`: send a mail now, and show the answer of the mail server."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.management.base import BaseCommand, CommandError

from incidents.notifications.addressees import recipients, why_nobody
from incidents.notifications.channels.email import describe_error
from incidents.notifications.mail_settings import has_mail_server

TEXT = """This is a test of Watchclock, sent by hand: no job has failed.

If you can read it, you will be notified when one does.
"""


class Command(BaseCommand):
    """Sends without the outbox, so that the answer can be shown at once."""

    help = "Send a test mail to everybody in ALERT_EMAIL_TO, or to the given addresses, and show the server's answer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="instead of those in ALERT_EMAIL_TO")

    def handle(self, *args: Any, addresses: list[str], **options: Any) -> None:
        """Send the mails; the exit status is 1 if one of them was refused."""
        if not has_mail_server() or not (addresses or recipients()):
            reason = why_nobody() if not addresses or settings.ALERT_EMAIL_TO else ""
            raise CommandError(reason or "EMAIL_URL names no mail server: smtp+tls://user:password@host:587.")
        host = f"{getattr(settings, 'EMAIL_HOST', '')}:{getattr(settings, 'EMAIL_PORT', '')}"
        refused = 0
        for address in addresses or recipients():
            try:
                with get_connection() as connection:
                    EmailMessage(
                        subject="[Watchclock] Test: alerts reach you", body=TEXT, to=[address], connection=connection
                    ).send()
            except Exception as error:  # noqa: BLE001 - the person wants to read any error
                refused += 1
                self.stderr.write(f"{address}: not sent. {host}: {describe_error(error)}")
            else:
                self.stdout.write(f"{address}: {host} accepted it.")
        if refused:
            raise SystemExit(1)
