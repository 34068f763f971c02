"""`manage.py demo`: fill an empty instance with two weeks of history to look around in."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from dashboard.demo.fill import SLUG, NotEmptyError, fill
from dashboard.demo.live import go_on
from lib.wallclock import utcnow
from monitors.models import IngestKey, Project


class Command(BaseCommand):
    """Fills an empty instance, or lets its jobs go on."""

    help = "Fill an empty instance with two weeks of believable history, or let its jobs go on checking in (--live)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--if-empty", action="store_true", help="do nothing if there are monitors already")
        parser.add_argument("--live", action="store_true", help="check in for the jobs of the demo until stopped")

    def handle(self, *args: Any, live: bool, if_empty: bool, **options: Any) -> None:
        """Fill, or go on."""
        if live:
            self._go_on()
            return
        now = utcnow().replace(second=0, microsecond=0)
        try:
            with Console(stderr=True).status("Two weeks go by ..."):
                count = fill(now)
        except NotEmptyError as error:
            if if_empty:
                return
            raise CommandError(str(error)) from None
        self.stdout.write(f"{count:,} check-ins of two weeks.")

    def _go_on(self) -> None:
        project = Project.objects.filter(slug=SLUG).first()
        if project is None:
            raise CommandError("There is no demo here: run `manage.py demo` first.")
        key = IngestKey.objects.filter(project=project).in_force(utcnow()).first()
        if key is None:
            key = IngestKey.objects.create(project=project, label="demo", created_at=utcnow())
        if not settings.PUBLIC_URL:
            raise CommandError("PUBLIC_URL is not set: the jobs do not know where to check in.")
        go_on(settings.PUBLIC_URL, key.public_key)
