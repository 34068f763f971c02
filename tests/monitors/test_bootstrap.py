import io
import json

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command

from monitors.models import IngestKey, Project

pytestmark = pytest.mark.django_db


def bootstrap() -> dict:
    output = io.StringIO()
    call_command("bootstrap", "--json", stdout=output)
    return json.loads(output.getvalue())


def test_a_new_installation_gets_an_account_and_a_project_with_a_key():
    outcome = bootstrap()

    admin = authenticate(username=outcome["admin_user"], password=outcome["admin_password"])
    assert admin is not None
    assert admin.is_superuser
    key = IngestKey.objects.get()
    assert (outcome["project_id"], outcome["public_key"]) == (key.project_id, key.public_key)


def test_a_second_time_changes_nothing_and_does_not_know_the_password():
    first, second = bootstrap(), bootstrap()

    assert second == first | {"admin_password": None}
    assert Project.objects.count() == IngestKey.objects.count() == 1


def test_two_first_passwords_differ(django_user_model):
    first = bootstrap()["admin_password"]
    django_user_model.objects.all().delete()

    assert len(first) >= 20
    assert bootstrap()["admin_password"] != first
