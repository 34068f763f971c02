import os
import runpy
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from clocktasks.volume import VolumeRules
from project import env
from project.local.children import BASE_DIR
from tests.checkins.ingest.web import IngestClient

PRODUCTION = {
    "SECRET_KEY": "1f8e7ac06fd94d0b8a5c-a key for this test alone-53b0c1d2e3f4a5b6c7d8e9",
    "DATABASE_URL": "postgres://watchclock@127.0.0.1:1/watchclock",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


def check_settings(tmp_path, **variables: str) -> subprocess.CompletedProcess:
    """`manage.py check` in an environment that holds nothing but `variables`."""
    environment = {"PATH": os.environ["PATH"], "WATCHCLOCK_HOME": str(tmp_path)} | variables
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_settings_are_accepted(tmp_path):
    assert check_settings(tmp_path, **PRODUCTION).returncode == 0


@pytest.mark.parametrize("missing", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL"])
def test_production_does_not_start_without(tmp_path, missing):
    outcome = check_settings(tmp_path, **(PRODUCTION | {missing: ""}))

    assert outcome.returncode == 1
    assert f"Watchclock cannot start: {missing} is not set" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_test_clock_is_refused_in_production(tmp_path):
    clock = {"WATCHCLOCK_TEST_CLOCK": "2026-01-05T00:00:00Z@60"}

    refused = check_settings(tmp_path, **PRODUCTION, **clock)
    allowed = check_settings(tmp_path, **PRODUCTION, **clock, WATCHCLOCK_ALLOW_TEST_CLOCK="true")

    assert refused.returncode == 1
    assert "WATCHCLOCK_TEST_CLOCK is set" in refused.stderr
    assert allowed.returncode == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VOLUME_INCIDENT_PERCENT", "-30"),
        ("VOLUME_INCIDENT_PERCENT", "101"),
        ("VOLUME_ANOMALY_PERCENT", "0"),
        ("VOLUME_ANOMALY_PERCENT", "31"),  # More than the default of what is an incident.
        ("VOLUME_DECISION_MINUTES", "0"),
        ("VOLUME_MINIMUM_EXPECTED", "0"),
    ],
)
def test_rules_for_volume_that_make_no_sense_are_refused_by_name(monkeypatch, variable, value):
    for name, good in PRODUCTION.items():
        monkeypatch.setenv(name, good)
    monkeypatch.setenv(variable, value)

    with pytest.raises(ImproperlyConfigured, match=f"^{variable}='{value}'"):
        runpy.run_path(str(BASE_DIR / "project" / "settings.py"))


def test_the_rules_for_volume_are_the_same_in_the_settings_and_in_the_code(settings):
    assert VolumeRules() == settings.VOLUME_RULES


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("treu", lambda: env.flag("ODD", default=False)),
        ("six", lambda: env.whole_number("ODD", default=1, minimum=1, maximum=9)),
        ("0", lambda: env.whole_number("ODD", default=1, minimum=1, maximum=9)),
        ("10", lambda: env.whole_number("ODD", default=1, minimum=1, maximum=9)),
        ("soon", lambda: env.seconds("ODD", default=1, maximum=9)),
        ("-1", lambda: env.seconds("ODD", default=1, maximum=9)),
        ("nan", lambda: env.seconds("ODD", default=1, maximum=9)),
        ("mysql://a@b/c", lambda: env.database("ODD", hint="")),
        ("postgres://a@b:port/c", lambda: env.database("ODD", hint="")),
        ("pigeon://a@b", lambda: env.email("ODD", default="")),
        ("watchclock.example.com", lambda: env.web_address("ODD")),
        ("ftp://watchclock.example.com", lambda: env.web_address("ODD")),
        ("https://", lambda: env.web_address("ODD")),
        ("https://a b", lambda: env.web_address("ODD")),
        ("https://a/$(reboot)", lambda: env.web_address("ODD")),
        ("https://user:password@a", lambda: env.web_address("ODD")),
        ("10.0.0.0/8,inside", lambda: env.networks("ODD")),
        ("c2hvcnQ=", lambda: env.fernet_keys("ODD")),
        ("not base64!", lambda: env.fernet_keys("ODD")),
        ("schlüssel", lambda: env.fernet_keys("ODD")),
    ],
)
def test_an_odd_value_is_refused_by_name(monkeypatch, value, read):
    monkeypatch.setenv("ODD", value)

    with pytest.raises(ImproperlyConfigured, match="ODD"):
        read()


def test_a_bad_key_is_refused_by_its_number_and_not_shown(monkeypatch):
    good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    monkeypatch.setenv("ODD", f"{good},c2hvcnQ=")

    with pytest.raises(ImproperlyConfigured, match="Key 2 of 2 in ODD") as error:
        env.fernet_keys("ODD")

    assert "c2hvcnQ" not in str(error.value)
    monkeypatch.setenv("ODD", good)
    assert env.fernet_keys("ODD") == [good]


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("1", True), ("Off", False), ("no", False)])
def test_a_flag_may_be_written_in_any_usual_way(monkeypatch, value, expected):
    monkeypatch.setenv("FLAG", value)

    assert env.flag("FLAG", default=not expected) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("https://watchclock.example.com", "https://watchclock.example.com"),
        ("http://10.0.0.7:8000/", "http://10.0.0.7:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://example.com/tools/watchclock/", "https://example.com/tools/watchclock"),
    ],
)
def test_a_web_address_has_no_slash_at_its_end(monkeypatch, value, expected):
    monkeypatch.setenv("ADDRESS", value)

    assert env.web_address("ADDRESS") == expected


@pytest.mark.parametrize(
    "path", ["/api/1/envelope", "/prefix/api/1/envelope", "/api/nowhere", "/ping/nowhere", "/p/nowhere"]
)
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.django_db
def test_a_check_in_is_never_answered_with_a_redirect(settings, path, method):
    settings.SECURE_SSL_REDIRECT = True

    response = getattr(IngestClient(), method)(path)

    assert not 300 <= response.status_code < 400


def test_the_rest_of_the_api_is_not_redirected_either(settings):
    settings.SECURE_SSL_REDIRECT = True

    assert Client().get("/api/v1/monitors").status_code == 404


def test_everything_else_is_sent_to_https(settings):
    settings.SECURE_SSL_REDIRECT = True

    assert Client().get("/admin/").headers["Location"].startswith("https://")


def test_a_database_host_that_vanished_is_noticed_in_half_a_minute_unless_the_address_says_otherwise(monkeypatch):
    monkeypatch.setenv("A_DATABASE", "postgres://user:word@host:5432/watchclock?connect_timeout=9")
    options = env.database("A_DATABASE", hint="")["OPTIONS"]
    probes = options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"]
    assert (options["connect_timeout"], probes, options["tcp_user_timeout"]) == (9, 25, 25_000)
