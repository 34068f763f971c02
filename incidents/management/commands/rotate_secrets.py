"""`manage.py rotate_secrets`: encrypt the secrets of all channels with the first key."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from incidents.rekeying import rekey
from lib.wallclock import utcnow


class Command(BaseCommand):
    """Run it after a new key was put first in SECRETS_KEYS; then the old one can be removed."""

    help = "Encrypt the secrets of all channels with the first key of SECRETS_KEYS, and say how many used older keys."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="only count; change nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        """Encrypt and report; the exit status is 1 if secrets of a channel cannot be read with any key."""
        result = rekey(now=utcnow(), is_dry=dry_run)
        if options["json"]:
            counts = {"current": result.current_count, "old": result.old_count, "unreadable": result.unreadable}
            self.stdout.write(json.dumps(counts | {"dry_run": dry_run}))
        else:
            done = "use older keys" if dry_run else "used older keys, and are encrypted with the first one now"
            self.stdout.write(f"{result.old_count} channels {done}; {result.current_count} used the first one already.")
            for name in result.unreadable:
                self.stderr.write(f"{name}: no key can read its secrets. Restore the key, or enter them again.")
        if result.unreadable:
            raise SystemExit(1)
