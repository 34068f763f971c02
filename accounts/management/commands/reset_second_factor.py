"""`manage.py reset_second_factor NAME`: for somebody who has lost the telephone and the recovery codes."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from accounts.second_factor import reset_second_factor
from audit.entries import Actor, Source
from lib.wallclock import utcnow


class Command(BaseCommand):
    """The person logs in with the password alone then, and sets up a new factor."""

    help = "Remove the second factors of an account and end its sessions. It is recorded in the audit log."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("name", help="the name of the account")

    def handle(self, *args: Any, **options: Any) -> None:
        """Reset, and print what was removed. Raises CommandError for an unknown name."""
        user = User.objects.filter(username=options["name"]).first()
        if user is None:
            raise CommandError(f"There is no account with the name {options['name']!r}.")
        count = reset_second_factor(user, by=Actor("reset_second_factor", Source.COMMAND, utcnow()))
        self.stdout.write(f"{user.get_username()}: {count} second factors removed, all sessions ended.")
