"""`manage.py bootstrap`: the schema, the first account and the first project, so that an installation can be used."""

import json
import secrets
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from lib.wallclock import utcnow
from monitors.models import IngestKey, Project

ADMIN_USER = "admin"


class Command(BaseCommand):
    """Creates only what is missing, so it is safe to run at every start."""

    help = "Migrate the database, and create an admin account and a first project with a key unless there are any."
    requires_system_checks: list[str] = []  # They take a second of every start, and have their own command.

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the account, with its password if it is new, and the first project's id and key."""
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        now = utcnow()
        with transaction.atomic():
            admin_user, admin_password = _first_admin()
            project = Project.objects.order_by("id").first() or Project.objects.create(
                name="My project", slug="my-project", created_at=now
            )
            key = project.ingest_keys.in_force(now).first() or IngestKey.objects.create(
                project=project, label="first key", created_at=now
            )
        outcome = {
            "admin_user": admin_user,
            "admin_password": admin_password,
            "project_id": project.pk,
            "public_key": key.public_key,
        }
        if options["json"]:
            self.stdout.write(json.dumps(outcome))
            return
        for name, value in outcome.items():
            self.stdout.write(f"{name}: {'(unchanged)' if value is None else value}")


def _first_admin() -> tuple[str, str | None]:
    """Return the name of the first superuser, and its password if it is new."""
    users = get_user_model().objects
    existing = users.filter(is_superuser=True, is_active=True).order_by("id").first()
    if existing is not None:
        return existing.get_username(), None
    password = secrets.token_urlsafe(15)
    users.create_superuser(username=ADMIN_USER, password=password)
    return ADMIN_USER, password
