"""Logging in: wrong passwords are counted for each name and address, and never lock out everybody."""

import ipaddress
import logging

import pytest
import redis
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.urls import reverse

from lib.valkey import valkey
from project import env, login
from project.login import FAILURES_MAX, WINDOW_SECONDS, client_address

pytestmark = pytest.mark.django_db
PASSWORD = "long enough for a test"
HERE = "198.51.100.7"


@pytest.fixture(autouse=True)
def _nobody_has_tried():
    def forget():
        for key in valkey().scan_iter("watchclock:login:*"):
            valkey().delete(key)

    forget()
    yield
    forget()


@pytest.fixture
def person():
    return User.objects.create_superuser("night-watch", password=PASSWORD)


@pytest.fixture
def attempt(client):
    def attempt(password, *, name="night-watch", address=HERE, **headers):
        form = {"username": name, "password": password}
        response = client.post(reverse("admin:login"), form, REMOTE_ADDR=address, headers=headers)
        client.logout()
        return "in" if response.status_code == 302 else next(iter(response.context["form"].non_field_errors()))

    return attempt


def test_ten_wrong_passwords_and_the_right_one_has_to_wait_too(attempt, person):
    told = [attempt("wrong") for _ in range(FAILURES_MAX)]
    assert all("correct username and password" in words for words in told)

    assert attempt(PASSWORD) == ("10 logins with this name failed from your address. Wait 5 minutes, then try again.")


def test_the_wait_ends_by_itself(attempt, person):
    for _ in range(FAILURES_MAX + 3):
        attempt("wrong")
    [key] = valkey().scan_iter("watchclock:login:*")
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


def test_a_right_password_forgets_the_wrong_ones(attempt, person):
    for _ in range(2):
        for _ in range(FAILURES_MAX - 1):
            attempt("wrong")
        assert attempt(PASSWORD) == "in"


def test_a_try_counts_before_its_password_is_looked_at(attempt, person, monkeypatch):
    """So a hundred tries at once are not a hundred guesses."""
    counted = []

    def look(form):
        [key] = valkey().scan_iter("watchclock:login:*")
        counted.append(valkey().get(key))
        raise ValidationError("wrong")

    monkeypatch.setattr("project.login.AuthenticationForm.clean", look)
    for _ in range(FAILURES_MAX + 2):
        attempt("wrong")

    assert counted == [str(number) for number in range(1, FAILURES_MAX + 1)]


def test_while_valkey_is_away_everybody_can_log_in(attempt, person, monkeypatch, caplog):
    def away(key):
        raise redis.ConnectionError("connection refused")

    monkeypatch.setattr(login, "_count_try", away)
    for _ in range(FAILURES_MAX + 1):
        attempt("wrong")

    assert attempt(PASSWORD) == "in"
    assert "failed logins are not counted" in caplog.text


def test_each_failure_and_each_refusal_is_a_line_in_the_log_with_name_and_address(attempt, person, caplog):
    caplog.set_level(logging.INFO, logger="project.login")
    for _ in range(FAILURES_MAX + 1):
        attempt("wrong")
    attempt("wrong", name="evil\nname", address="198.51.100.9")
    attempt(PASSWORD, address="198.51.100.10")

    lines = [record.getMessage() for record in caplog.records if record.name == "project.login"]
    assert lines[0] == f"login failed for 'night-watch' from {HERE} (1 of 10)"
    assert lines[10] == f"login refused for 'night-watch' from {HERE}: too many failures"
    assert lines[11] == "login failed for 'evil\\nname' from 198.51.100.9 (1 of 10)"
    assert lines[12] == "logged in: 'night-watch' from 198.51.100.10"
    assert not any("wrong" in line or PASSWORD in line for line in lines)


def test_behind_a_trusted_proxy_people_are_told_apart(attempt, person, settings):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    behind = {"address": "10.0.0.1"}
    for _ in range(FAILURES_MAX):
        attempt("wrong", **behind, x_forwarded_for="203.0.113.1")

    assert "Wait" in attempt(PASSWORD, **behind, x_forwarded_for="6.6.6.6, 203.0.113.1")
    assert attempt(PASSWORD, **behind, x_forwarded_for="203.0.113.2") == "in"


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "address"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_whose_address_it_is(remote, forwarded_for, address):
    assert client_address(remote, forwarded_for, [ipaddress.ip_network("10.0.0.0/8")]) == address


def test_trusted_proxies_are_addresses_and_networks(monkeypatch):
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.7, 192.168.0.1/16")
    assert [str(network) for network in env.networks("TRUSTED_PROXIES")] == ["10.0.0.7/32", "192.168.0.0/16"]
    monkeypatch.setenv("TRUSTED_PROXIES", "proxy.example.com")
    with pytest.raises(ImproperlyConfigured, match=r"TRUSTED_PROXIES='proxy.example.com': .*10\.0\.0\.7"):
        env.networks("TRUSTED_PROXIES")


def test_the_root_leads_to_the_login_of_the_pages(client):
    assert client.get("/").url == "/login/?next=/"


def test_people_who_are_no_staff_log_in_there_and_go_on_to_where_they_wanted(client):
    User.objects.create_user("ann", password=PASSWORD)
    form = {"username": "ann", "password": PASSWORD, "next": "/wall/"}
    assert client.post("/login/", form).url == "/wall/"


def test_wrong_passwords_count_there_too(client):
    User.objects.create_user("ann", password=PASSWORD)
    for _ in range(FAILURES_MAX):
        client.post("/login/", {"username": "ann", "password": "wrong"})
    refused = client.post("/login/", {"username": "ann", "password": PASSWORD})
    assert "logins with this name failed from your address" in refused.content.decode()


def test_there_is_a_favicon(client):
    address = client.get("/favicon.ico").url
    response = client.get(address)
    assert response.status_code == 200
    assert response["Content-Type"] == "image/svg+xml"
    response.close()
    assert f'rel="icon" href="{address}"' in client.get(reverse("admin:login")).text
