"""`manage.py rotate_secrets`: encrypt the secrets of all channels and second factors with the first key."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from dashboard.login.rekeying import rekey_factors
from incidents.rekeying import rekey
from lib.wallclock import utcnow


class Command(BaseCommand):
    """Run it after a new key was put first in SECRETS_KEYS; then the old one can be removed."""

    help = "Encrypt the secrets of all channels and second factors with the first key of SECRETS_KEYS, and count them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="only count; change nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        """Encrypt and report; the exit status is 1 if there are secrets that no key can read."""
        now = utcnow()
        found = {
            "channels": rekey(now=now, is_dry=dry_run),
            "second factors": rekey_factors(now=now, is_dry=dry_run),
        }
        if options["json"]:
            counts: dict[str, Any] = {"dry_run": dry_run}
            for name, one in found.items():
                numbers = {"current": one.current_count, "old": one.old_count}
                counts[name.replace(" ", "_")] = numbers | {"unreadable": one.unreadable}
            self.stdout.write(json.dumps(counts))
        else:
            done = "use older keys" if dry_run else "used older keys, and are encrypted with the first one now"
            for name, one in found.items():
                self.stdout.write(f"{one.old_count} {name} {done}; {one.current_count} used the first one already.")
                for unreadable in one.unreadable:
                    self.stderr.write(f"{name}: no key can read the secrets of {unreadable}.")
        if any(one.unreadable for one in found.values()):
            raise SystemExit(1)
