"""Logging in: wrong passwords are counted for each name and address, and never lock out everybody."""

import ipaddress
import logging
import re

import pytest
import redis
from django.contrib import admin
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts import tasks
from dashboard.login.adapter import FAILURES_MAX, WINDOW_SECONDS
from lib import valkey_cache
from lib.valkey import valkey
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
PASSWORD = "long enough for a test"
HERE = "198.51.100.7"
WRONG = "The name or the password is wrong."


@pytest.fixture
def person():
    return User.objects.create_superuser("night-watch", password=PASSWORD)


@pytest.fixture
def attempt():
    def attempt(password, *, name="night-watch", address=HERE, **headers):
        form = {"login": name, "password": password}
        response = Client().post("/login/", form, REMOTE_ADDR=address, headers=headers)
        return "in" if response.status_code == 302 else next(iter(response.context["form"].non_field_errors()))

    return attempt


@pytest.fixture
def letters(monkeypatch):
    """Mails that were handed to the worker, sent at once."""
    monkeypatch.setattr(tasks.send_letter, "delay", tasks.send_letter)
    return mail.outbox


def test_ten_wrong_passwords_and_the_right_one_has_to_wait_too(attempt, person):
    assert {attempt("wrong") for _ in range(FAILURES_MAX)} == {WRONG}
    assert attempt(PASSWORD) == (
        "Too many logins with this name failed from your address. Wait 5 minutes, then try again."
    )


def test_the_wait_ends_by_itself(attempt, person):
    for _ in range(FAILURES_MAX + 3):
        attempt("wrong")
    [key] = valkey().scan_iter("watchclock:cache:*login_failed*")
    assert 0 < valkey().ttl(key) <= WINDOW_SECONDS
    valkey().delete(key)

    assert attempt(PASSWORD) == "in"


def test_another_name_and_another_address_do_not_wait(attempt, person):
    User.objects.create_superuser("other", password=PASSWORD)
    for _ in range(FAILURES_MAX + 1):
        attempt("wrong")

    assert attempt(PASSWORD, name="other") == "in"
    assert attempt(PASSWORD, address="198.51.100.8") == "in"


def test_a_name_in_other_letters_is_the_same_name(attempt, person):
    for _ in range(FAILURES_MAX):
        attempt("wrong", name="Night-Watch")

    assert "Wait" in attempt("wrong")


def test_the_addresses_of_one_ipv6_network_count_together(attempt, person):
    for number in range(FAILURES_MAX):
        attempt("wrong", address=f"2001:db8::{number}")

    assert "Wait" in attempt(PASSWORD, address="2001:db8::ffff:1")
    assert attempt(PASSWORD, address="2001:db8:0:1::1") == "in"


def test_right_passwords_never_count_and_forgive_none_of_the_wrong_ones(attempt, person):
    for _ in range(FAILURES_MAX - 1):
        attempt("wrong")
    for _ in range(FAILURES_MAX):
        assert attempt(PASSWORD) == "in"
    attempt("wrong")
    assert "Wait" in attempt(PASSWORD)


def test_a_try_counts_before_its_password_is_looked_at(attempt, person, monkeypatch):
    """So a hundred tries at once are not a hundred guesses."""
    counted = []

    def look(request, **credentials):
        [key] = valkey().scan_iter("watchclock:cache:*login_failed*")
        counted.append(key)

    monkeypatch.setattr("allauth.account.adapter.authenticate", look)
    for _ in range(FAILURES_MAX + 2):
        attempt("wrong")

    assert len(counted) == FAILURES_MAX


def test_while_valkey_is_away_everybody_can_log_in(attempt, person, monkeypatch, caplog):
    def away():
        raise redis.ConnectionError("connection refused")

    monkeypatch.setattr(valkey_cache, "valkey", away)
    for _ in range(FAILURES_MAX + 1):
        attempt("wrong")

    assert attempt(PASSWORD) == "in"
    assert "failed logins are not counted" in caplog.text


def test_one_address_has_sixty_tries_a_minute(attempt, person):
    for number in range(60):
        attempt("wrong", name=f"name-{number}")
    response = Client().post("/login/", {"login": "night-watch", "password": PASSWORD}, REMOTE_ADDR=HERE)
    assert (response.status_code, "Too many tries" in words(response)) == (429, True)


def test_each_failure_and_each_refusal_is_a_line_in_the_log_with_name_and_address(attempt, person, caplog):
    caplog.set_level(logging.INFO, logger="dashboard.login.adapter")
    for _ in range(FAILURES_MAX + 1):
        attempt("wrong")
    attempt("wrong", name="evil\nname", address="198.51.100.9")
    attempt(PASSWORD, address="198.51.100.10")

    lines = [record.getMessage() for record in caplog.records if record.name == "dashboard.login.adapter"]
    assert lines[0] == f"login failed for 'night-watch' from {HERE}"
    assert lines[10] == f"login refused for 'night-watch' from {HERE}: too many failures"
    assert lines[11] == "login failed for 'evil\\nname' from 198.51.100.9"
    assert lines[12] == "logged in: 'night-watch' from 198.51.100.10"
    assert not any("wrong" in line or PASSWORD in line for line in lines)


def test_behind_a_trusted_proxy_people_are_told_apart(attempt, person, settings):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    behind = {"address": "10.0.0.1"}
    for _ in range(FAILURES_MAX):
        attempt("wrong", **behind, x_forwarded_for="203.0.113.1")

    assert "Wait" in attempt(PASSWORD, **behind, x_forwarded_for="6.6.6.6, 203.0.113.1")
    assert attempt(PASSWORD, **behind, x_forwarded_for="203.0.113.2") == "in"


def test_the_root_leads_to_the_login(client):
    assert client.get("/").url == "/login/?next=/"


def test_people_go_on_to_where_they_wanted_and_never_to_another_server(client, person):
    form = {"login": "night-watch", "password": PASSWORD, "next": "/wall/"}
    assert client.post("/login/", form).url == "/wall/"
    assert Client().post("/login/", form | {"next": "//evil.example/"})["Location"] == "/"


def test_an_account_is_found_by_name_and_by_address_and_a_name_may_look_like_one(attempt):
    User.objects.create_user("ann", "Ann@Example.com", PASSWORD)
    User.objects.create_user("bob@example.com", password=PASSWORD)
    for name in ("ann", "ann@example.com", "Ann@Example.com", "bob@example.com"):
        assert attempt(PASSWORD, name=name) == "in", name


def test_a_wrong_name_a_wrong_address_and_a_wrong_password_get_one_answer(attempt, person):
    assert {attempt("x"), attempt("x", name="nobody"), attempt("x", name="nobody@example.com")} == {WRONG}


def test_a_closed_account_is_told_only_with_its_password(client, person):
    User.objects.update(is_active=False)
    form = {"login": "night-watch", "password": PASSWORD}
    assert "Account closed" in words(client.post("/login/", form, follow=True))
    assert client.get("/").status_code == 302
    assert WRONG in words(client.post("/login/", form | {"password": "wrong"}))


def test_nobody_signs_up(client):
    for address in ("/signup/", "/accounts/signup/", "/login/signup/", "/account/email/", "/3rdparty/"):
        assert client.get(address).status_code == 404


def test_the_admin_has_the_same_login_and_passwords_are_changed_in_one_place(client, person):
    assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith("/login/?next=")
    client.force_login(person)
    assert client.get("/admin/login/?next=/admin/").status_code == 302
    assert client.get("/admin/password_change/").url == "/account/password/"


def test_a_member_who_is_no_staff_is_refused_by_the_admin(client):
    client.force_login(User.objects.create_user("ann", password=PASSWORD))
    assert client.get("/admin/", follow=True).status_code == 403


def test_passwords_are_stored_with_argon2(settings):
    from project import settings as own

    settings.PASSWORD_HASHERS = own.PASSWORD_HASHERS
    assert make_password(PASSWORD).startswith("argon2$argon2id$")


def test_a_password_is_changed_with_the_old_one_and_other_sessions_end(person):
    here, elsewhere = client_of(person), client_of(person)
    form = {"oldpassword": "wrong", "password1": "a new long password", "password2": "a new long password"}
    assert "Please type your current password" in words(here.post("/account/password/", form))
    assert here.post("/account/password/", form | {"oldpassword": PASSWORD}).status_code == 302
    assert here.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302


def test_a_link_in_a_mail_sets_a_new_password_once(client, letters, settings):
    settings.PUBLIC_URL = "https://watch.example.com"
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    assert client.post("/login/reset/", {"email": "ANN@example.com"}).url == "/login/reset/sent/"
    [letter] = letters
    assert (letter.to, letter.subject) == (["ann@example.com"], "Watchclock: set a new password")
    [link] = re.findall(r"https://watch\.example\.com(/\S+)", letter.body)
    page = client.get(link, follow=True)
    new = {"password1": "a new long password", "password2": "a new long password"}
    assert "Password set" in words(client.post(page.request["PATH_INFO"], new, follow=True))
    assert User.objects.get().check_password("a new long password")
    assert "This link does not work" in words(Client().get(link, follow=True))


def test_who_has_no_account_or_no_password_here_gets_the_same_page_and_no_mail(client, letters):
    User.objects.create_user("sso", "sso@example.com").set_unusable_password()
    answers = {client.post("/login/reset/", {"email": f"{name}@example.com"}).url for name in ("sso", "nobody")}
    assert answers == {"/login/reset/sent/"}
    assert letters == []


def test_an_account_of_a_company_has_no_password_to_change(client):
    client.force_login(User.objects.create_user("sso"))
    assert "log in through your organization" in words(client.get("/account/password/"))


def test_the_admin_shows_no_secrets_of_logins():
    assert [model for model in admin.site._registry if model.__module__.startswith("allauth.")] == []


def test_there_is_a_favicon(client):
    address = client.get("/favicon.ico").url
    response = client.get(address)
    assert response.status_code == 200
    assert response["Content-Type"] == "image/svg+xml"
    response.close()
    assert f'href="{address}"' in client.get(reverse("account_login")).text


def test_the_cache_keeps_what_it_is_given_for_as_long_as_it_is_told():
    assert (cache.add("a", [1.5], 10), cache.add("a", 2), cache.get("a")) == (True, False, [1.5])
    cache.set("a", {"b": None}, None)
    assert cache.get("a") == {"b": None}
    assert (cache.delete("a"), cache.delete("a"), cache.get("a", 7)) == (True, False, 7)
