"""What people get when a page cannot be shown, and what the log says of it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client

from health import poller
from project import logs
from tests.health.test_probes import DATABASE_AWAY, Seen


@pytest.fixture
def away(db, monkeypatch) -> Iterator[Client]:
    """A person whose browser has a session, and no PostgreSQL."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("looker"))
    monkeypatch.setattr(poller, "running", Seen(DATABASE_AWAY))

    def refuse(*_, **__):
        raise OperationalError('connection to server at "db.example" failed')

    with connection.execute_wrapper(refuse):
        yield client


@pytest.mark.parametrize("path", ["/admin/", "/admin/monitors/monitor/", "/admin/clock/"])
def test_a_page_that_needs_postgresql_reports_that_it_is_away_and_since_when(away, path):
    assert DATABASE_AWAY.postgres is not None
    answer = away.get(path)
    text = answer.content.decode()

    assert answer.status_code == 503
    assert "PostgreSQL cannot be used" in text
    assert f"Since {DATABASE_AWAY.postgres.since:%Y-%m-%d %H:%M:%S} UTC" in text
    assert "Check-ins are still accepted" in text
    assert "db.example" not in text, "nobody knows who asks"


@pytest.mark.django_db
def test_another_error_is_djangos_own_page():
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("looker"))

    def refuse(*_, **__):
        raise RuntimeError("a bug")

    with connection.execute_wrapper(refuse):
        assert client.get("/admin/").status_code == 500


@pytest.fixture
def log_lines():
    """What the production form of the log writes."""
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.setFormatter(logs.formatter("json"))
    handler.addFilter(logs.OutsideCauses())
    logging.getLogger().addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().removeHandler(handler)


def test_a_scanners_host_header_is_one_line(log_lines, settings):
    settings.ALLOWED_HOSTS = ["watchclock.example.com"]

    assert Client().get("/login/", headers={"host": "evil.example"}).status_code == 400

    [line] = log_lines()
    assert "Invalid HTTP_HOST header: 'evil.example'" in line["event"]
    assert "exception" not in line


def test_a_refusal_is_one_line(db, log_lines, client, django_user_model):
    member = django_user_model.objects.create_user("ada", is_staff=True)
    client.force_login(member)

    assert client.get("/admin/monitors/monitor/").status_code == 403

    [line] = [line for line in log_lines() if line["logger"] == "django.request"]
    assert line["event"].startswith("Forbidden")
    assert "exception" not in line


def test_a_page_without_postgresql_is_one_line(away, log_lines):
    away.get("/admin/")

    [line] = [line for line in log_lines() if line["logger"] == "django.request"]
    assert line["event"].startswith("Service Unavailable: /admin/: PostgreSQL cannot be reached: ")
    assert "exception" not in line


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "127.0.0.1"])
def test_the_local_address_is_served_without_tls_whatever_production_allows(settings, host, db):
    settings.SECURE_SSL_REDIRECT = True
    assert {"127.0.0.1", "localhost", "[::1]"} <= set(settings.ALLOWED_HOSTS)

    assert Client().get("/login/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"host": "watchclock.example.com"}, id="another host"),
        pytest.param({"host": "localhost.example.com"}, id="a host that looks like it"),
        pytest.param({"host": "127.0.0.1", "x-forwarded-for": "203.0.113.7"}, id="through a proxy"),
    ],
)
def test_whoever_comes_from_elsewhere_is_redirected_to_https(settings, headers):
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["*"]

    answer = Client().get("/login/", headers=headers)

    assert (answer.status_code, answer["Location"][:8]) == (301, "https://")
