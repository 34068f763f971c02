import base64
import os
import subprocess
import sys
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents import secrets
from incidents.checks import check_secrets_keys

GUID = UUID("c4a11e10-0d6f-4c57-9d0e-3b8f7f0a1c11")
OTHER = UUID("c4a11e10-0d6f-4c57-9d0e-3b8f7f0a1c12")
VALUES = {"token": "xoxb-very-secret", "empty": "", "url": "https://hooks.example/a?b=ü"}


def new_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture
def keys(settings):
    """Two keys: the first encrypts."""
    settings.SECRETS_KEYS = [new_key(), new_key()]
    return settings.SECRETS_KEYS


@given(st.dictionaries(st.text(), st.text()))
def test_what_is_sealed_is_unsealed(values):
    assert secrets.unseal(secrets.seal(values, guid=GUID), guid=GUID) == values


def test_the_sealed_text_shows_nothing():
    token = secrets.seal(VALUES, guid=GUID)
    assert "secret" not in token
    assert secrets.seal(VALUES, guid=GUID) != token


def test_the_secrets_of_another_channel_are_not_given_out():
    token = secrets.seal(VALUES, guid=OTHER)
    with pytest.raises(secrets.UnsealError, match="another channel"):
        secrets.unseal(token, guid=GUID)


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAAA", "ü"])
def test_what_is_not_ours_is_an_error_in_words(token):
    with pytest.raises(secrets.UnsealError, match="SECRETS_KEYS"):
        secrets.unseal(token, guid=GUID)


def test_a_changed_text_is_refused():
    token = secrets.seal(VALUES, guid=GUID)
    changed = token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]
    with pytest.raises(secrets.UnsealError) as error:
        secrets.unseal(changed, guid=GUID)
    assert changed not in str(error.value)


def test_without_keys_they_are_derived_from_the_secret_key(settings):
    settings.SECRET_KEY = "one"
    token = secrets.seal(VALUES, guid=GUID)
    settings.SECRET_KEY = "two"
    with pytest.raises(secrets.UnsealError):
        secrets.unseal(token, guid=GUID)
    settings.SECRET_KEY_FALLBACKS = ["one"]
    assert secrets.unseal(token, guid=GUID) == VALUES


def test_the_derived_key_stays_the_same_for_ever():
    assert secrets.derive_key("a secret key") == b"Ml6Lu8VlIW_2UoGMvLsjqp0cATP33uhiNe_c04_e7HQ="


def test_all_keys_decrypt_and_the_first_encrypts(keys, settings):
    token = secrets.seal(VALUES, guid=GUID)
    settings.SECRETS_KEYS = [new_key(), keys[0]]
    assert secrets.unseal(token, guid=GUID) == VALUES
    assert not secrets.is_current(token)


def test_rotating_encrypts_with_the_first_key_and_changes_nothing_else(keys, settings):
    token = secrets.seal(VALUES, guid=GUID)
    newest = new_key()
    settings.SECRETS_KEYS = [newest, keys[0]]
    rotated = secrets.rotate(token)
    settings.SECRETS_KEYS = [newest]
    assert secrets.unseal(rotated, guid=GUID) == VALUES
    assert secrets.is_current(rotated)


def test_rotating_twice_changes_nothing(keys):
    token = secrets.seal(VALUES, guid=GUID)
    assert secrets.rotate(token) == token


def test_secrets_from_before_there_were_keys_are_rotated_to_them(settings):
    token = secrets.seal(VALUES, guid=GUID)
    settings.SECRETS_KEYS = [new_key()]
    assert secrets.unseal(secrets.rotate(token), guid=GUID) == VALUES


def test_what_cannot_be_decrypted_cannot_be_rotated(keys, settings):
    token = secrets.seal(VALUES, guid=GUID)
    settings.SECRETS_KEYS = [new_key()]
    with pytest.raises(secrets.UnsealError):
        secrets.rotate(token)


def test_a_process_without_channels_does_not_load_the_ciphers():
    program = "import sys, incidents.secrets; print('cryptography' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    assert found.stdout == "False\n"


def test_an_installation_whose_secrets_depend_on_the_secret_key_is_warned(settings):
    assert [found.id for found in check_secrets_keys()] == ["incidents.W003"]
    settings.SECRETS_KEYS = [new_key()]
    assert check_secrets_keys() == []
