"""The second factor: set up at the first login, asked for at each one, and taken away by a command."""

import re
from io import StringIO

import pytest
from allauth.mfa import signals
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from audit.models import AuditEntry
from dashboard.live.stream import person_with_session
from lib.wallclock import utcnow
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
PASSWORD = "long enough for a test"
INDEX = "/account/second-factor/"


@pytest.fixture(autouse=True)
def _required(settings):
    settings.SECOND_FACTOR_REQUIRED = True


@pytest.fixture
def person():
    return User.objects.create_superuser("admin", password=PASSWORD)


def log_in(client, password=PASSWORD):
    return client.post("/login/", {"login": "admin", "password": password})


def code(secret, steps=0):
    return format_hotp_value(hotp_value(secret, int(utcnow().timestamp()) // 30 + steps))


def set_up(client):
    """Set up an app; returns its secret and the recovery codes."""
    page = client.get(f"{INDEX}app/")
    secret = page.context["form"].secret
    codes = client.post(f"{INDEX}app/", {"code": code(secret)}, follow=True)
    assert "Stored; go on" in words(codes), words(codes)
    return secret, codes.context["unused_codes"]


def test_the_first_login_leads_to_it_from_everywhere_and_no_password_is_asked_for_again(client, person, monkeypatch):
    monkeypatch.setattr(connection, "close", lambda: None)  # That of the stream is this one.
    assert log_in(client).url == "/"
    for address in ("/", "/wall/", "/admin/", "/account/password/", "/account/sessions/"):
        assert client.get(address).url == INDEX, address
    assert person_with_session(client.cookies.output(header="").encode()) is None
    assert "Set up an app" in words(client.get(INDEX))

    _, codes = set_up(client)
    assert len(codes) == 10
    assert client.get("/").status_code == 200
    assert client.get("/admin/").status_code == 200
    assert person_with_session(client.cookies.output(header="").encode()) == person.pk


@pytest.mark.parametrize("address", ["/s/{}/", "/tv/{}/", "/b/{}.svg", "/b/{}.json", "/join/{}/"])
def test_what_needs_no_account_needs_no_second_factor(client, person, address):
    log_in(client)
    assert client.get(address.format("5ec0" * 8)).status_code == 404


def test_it_is_asked_for_at_each_login(client, person):
    log_in(client)
    secret, _ = set_up(client)

    again = Client()
    assert log_in(again).url == "/login/second-factor/"
    assert again.get("/")["Location"] == "/login/?next=/"
    assert "Incorrect code" in words(again.post("/login/second-factor/", {"code": "000000"}))
    assert again.post("/login/second-factor/", {"code": code(secret, 1)})["Location"] == "/"
    assert again.get("/").status_code == 200


def test_a_code_works_once_and_a_recovery_code_too(client, person):
    log_in(client)
    secret, codes = set_up(client)
    for typed in (code(secret, 1), codes[0]):
        answers = []
        for _ in range(2):
            other = Client()
            log_in(other)
            answers.append(other.post("/login/second-factor/", {"code": typed}).status_code)
        assert answers == [302, 200]


def test_ten_wrong_codes_and_the_right_one_has_to_wait(client, person):
    log_in(client)
    secret, _ = set_up(client)
    other = Client()
    log_in(other)
    for _ in range(10):
        other.post("/login/second-factor/", {"code": "000000"})
    assert "Wait 5 minutes" in words(other.post("/login/second-factor/", {"code": code(secret, 1)}))


def test_a_change_of_it_needs_the_password_again_unless_one_has_just_logged_in(client, person):
    log_in(client)
    set_up(client)
    assert client.get(f"{INDEX}codes/new/").status_code == 200
    session = client.session
    session["account_authentication_methods"][-1]["at"] -= 301
    session.save()
    for address in ("app/remove/", "passkeys/add/", "codes/new/"):
        assert client.get(f"{INDEX}{address}").url.startswith("/account/confirm/?next="), address
    client.post("/account/confirm/", {"password": PASSWORD})
    assert client.post(f"{INDEX}app/remove/").status_code == 302
    assert not Authenticator.objects.exists()


def test_where_it_is_not_required_nobody_is_led_there(client, person, settings):
    settings.SECOND_FACTOR_REQUIRED = False
    log_in(client)
    assert client.get("/").status_code == 200


def test_secrets_are_encrypted_and_survive_a_new_key_with_the_old_one_as_a_fallback(client, person, settings):
    log_in(client)
    secret, _ = set_up(client)
    stored = Authenticator.objects.get(type="totp").data["secret"]
    assert secret not in stored

    settings.SECRET_KEY, old = "another key, long enough for a test of it", settings.SECRET_KEY
    settings.SECRET_KEY_FALLBACKS = [old]
    other = Client()
    log_in(other)
    assert other.post("/login/second-factor/", {"code": code(secret, 1)}).status_code == 302
    settings.SECRET_KEY_FALLBACKS = []
    third = Client()
    log_in(third)
    assert "Incorrect code" in words(third.post("/login/second-factor/", {"code": code(secret)}))


def test_what_a_person_sets_up_and_removes_is_recorded_and_no_secret(
    client, person, django_capture_on_commit_callbacks
):
    log_in(client)
    with django_capture_on_commit_callbacks(execute=True):
        secret, codes = set_up(client)
        client.post(f"{INDEX}codes/new/")
    client.post(f"{INDEX}app/remove/")
    entries = list(AuditEntry.objects.filter(kind="user").order_by("id"))
    assert sorted((one.action, str(one.changes.get("factor"))) for one in entries) == [
        ("recovery codes made anew", "None"),
        ("second factor added", "[None, 'app']"),
        ("second factor added", "[None, 'recovery codes']"),
        ("second factor removed", "['app', None]"),
        ("second factor removed", "['recovery codes', None]"),
    ]
    assert {(one.actor_id, one.object_id, one.source) for one in entries} == {(person.pk, person.pk, "page")}
    assert not any(hidden in str(entry.changes) for entry in entries for hidden in (secret, *codes))


def test_a_passkey_is_recorded_with_its_name(client, person, rf):
    request = rf.post(f"{INDEX}passkeys/add/")
    request.user = person
    data = {"name": "telephone", "credential": {}}
    passkey = Authenticator.objects.create(user=person, type="webauthn", data=data)
    signals.authenticator_added.send(sender=Authenticator, request=request, user=person, authenticator=passkey)
    assert AuditEntry.objects.get().changes == {"factor": [None, "passkey telephone"]}


def test_a_command_takes_it_away_ends_the_sessions_and_is_recorded(client, person):
    log_in(client)
    set_up(client)
    out = StringIO()
    call_command("reset_second_factor", "admin", stdout=out)
    assert out.getvalue() == "admin: 2 second factors removed, all sessions ended.\n"
    assert client.get("/").url == "/login/?next=/"
    assert log_in(Client()).url == "/"
    entry = AuditEntry.objects.get(action="second factor reset")
    assert (entry.object_name, entry.actor_name, entry.source) == ("admin", "reset_second_factor", "command")

    with pytest.raises(CommandError, match="no account with the name 'nobody'"):
        call_command("reset_second_factor", "nobody")


def test_sessions_are_listed_and_ended_one_by_one_or_all_others(person, settings):
    settings.SECOND_FACTOR_REQUIRED = False
    clients = [Client(headers={"user-agent": f"Browser {number}"}) for number in range(4)]
    for client in clients:
        log_in(client)
    here = clients[0]
    text = here.get("/account/sessions/").text
    assert [f"Browser {number}" in text for number in range(4)] == [True] * 4

    [pk] = re.findall(r"Browser 2</span></div>\s*<button name=\"end\" value=\"(\d+)\"", text)
    User.objects.create_user("ann", password=PASSWORD)
    stranger = Client()
    stranger.post("/login/", {"login": "ann", "password": PASSWORD})
    stranger.post("/account/sessions/", {"end": pk})
    assert clients[2].get("/").status_code == 200

    here.post("/account/sessions/", {"end": pk})
    assert [client.get("/").status_code for client in clients] == [200, 200, 302, 200]
    here.post("/account/sessions/", {"end": "others"})
    assert [client.get("/").status_code for client in clients] == [200, 302, 302, 302]


def test_a_page_that_needs_no_account_may_be_stored_by_caches(client):
    assert "Cookie" not in client.get("/favicon.ico").get("Vary", "")
