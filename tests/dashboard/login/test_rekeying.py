"""After a change of keys the secrets of second factors are encrypted with the first one, and every code goes on."""

import json

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from allauth.mfa.utils import decrypt, encrypt
from django.contrib.auth.models import User
from django.core.management import call_command

from audit.models import AuditEntry
from dashboard.login import rekeying
from dashboard.login.rekeying import rekey_factors
from incidents.secrets import is_current
from tests.factories import NOW, ChannelFactory
from tests.incidents.test_secrets import new_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(settings):
    """Three people with an app and recovery codes, encrypted with the key of SECRET_KEY; one has a passkey too."""
    settings.SECRETS_KEYS = []
    found = [User.objects.create_user(name) for name in ("ada", "bob", "eve")]
    for person in found:
        TOTP.activate(person, f"SECRETOF{person.username.upper()}")
        RecoveryCodes.activate(person)
    Authenticator.objects.create(user=found[0], type="webauthn", data={"name": "telephone", "credential": {}})
    return found


@pytest.fixture
def new_keys(people, settings):
    """A key of their own, and another SECRET_KEY that has the former one as a fallback."""
    settings.SECRETS_KEYS = [new_key()]
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key, long enough for a test of it"
    return settings


def codes_of(people):
    factors = [Authenticator.objects.get(user=one, type="recovery_codes") for one in people]
    return [factor.wrap().generate_codes() for factor in factors]


def test_all_secrets_get_the_first_key_and_work_without_the_old_one(people, new_keys, monkeypatch):
    monkeypatch.setattr(rekeying, "BATCH", 4)
    before = codes_of(people)
    assert rekey_factors(now=NOW).old_count == 6
    new_keys.SECRET_KEY_FALLBACKS = []
    assert codes_of(people) == before
    secrets = [decrypt(one.data["secret"]) for one in Authenticator.objects.filter(type="totp").order_by("id")]
    assert secrets == ["SECRETOFADA", "SECRETOFBOB", "SECRETOFEVE"]
    again = rekey_factors(now=NOW)
    assert (again.old_count, again.current_count, again.unreadable) == (0, 6, [])


def test_codes_that_were_brought_along_are_encrypted_anew_one_by_one(people, new_keys):
    codes = Authenticator.objects.get(user=people[0], type="recovery_codes")
    codes.data = {"migrated_codes": [codes.data["seed"], encrypt("87654321")]}
    codes.save()
    rekey_factors(now=NOW)
    codes.refresh_from_db()
    assert [is_current(one) for one in codes.data["migrated_codes"]] == [True, True]
    assert codes.wrap().generate_codes()[1] == "87654321"


def test_counting_changes_nothing(people, new_keys):
    before = list(Authenticator.objects.order_by("id").values_list("data"))
    assert rekey_factors(now=NOW, is_dry=True).old_count == 6
    assert list(Authenticator.objects.order_by("id").values_list("data")) == before


def test_each_person_is_in_the_audit_log_once_and_no_secret(people, new_keys):
    rekey_factors(now=NOW)
    entries = AuditEntry.objects.filter(action="second factor encrypted anew").order_by("object_name")
    assert [(one.object_name, one.changes) for one in entries] == [("ada", {}), ("bob", {}), ("eve", {})]


def test_the_command_encrypts_channels_and_factors_and_counts_both(people, new_keys, capsys):
    call_command("rotate_secrets")
    assert [line.partition(" used")[0] for line in capsys.readouterr().out.splitlines()] == [
        "0 channels", "6 second factors",
    ]  # fmt: skip


def test_the_command_names_what_no_key_can_read_and_fails(people, new_keys, capsys):
    channel = ChannelFactory(kind="slack", name="broken", sealed="gAAAAA")
    Authenticator.objects.filter(user=people[1], type="totp").update(data={"secret": "gAAAAA"})
    with pytest.raises(SystemExit):
        call_command("rotate_secrets", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "channels": {"current": 0, "old": 0, "unreadable": [f"{channel.project.slug}/broken"]},
        "second_factors": {"current": 0, "old": 5, "unreadable": ["bob"]},
        "dry_run": False,
    }
