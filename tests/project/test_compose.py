"""What docker-compose.yml promises; no container runs here."""

import os
import re
import subprocess
from typing import Any

import pytest
import yaml

from project.local.children import BASE_DIR

TEXT = (BASE_DIR / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
LONG_RUNNING = ["postgres", "valkey", "web", "worker", "delivery", "beat"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_service_that_stays_has_a_health_check_and_comes_back(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_no_secret_has_a_default():
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"):
        uses = re.findall(r"(?<!\$)\$\{" + name + r"(\S?\S?)", TEXT)
        assert uses
        assert set(uses) == {":?"}, f"{name} must be given by whoever runs this"


def test_nothing_that_looks_like_a_password_is_written_down():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name or name.endswith("AUTH"):
                assert value.startswith("${"), name


@pytest.mark.parametrize(("service", "volume"), [(name, name) for name in ("postgres", "valkey", "web")])
def test_what_must_last_is_in_a_named_volume(service, volume):
    assert volume in COMPOSE["volumes"]
    assert any(mount.startswith(f"{volume}:/") for mount in SERVICES[service]["volumes"])


def test_the_spool_is_in_the_volume_of_the_web():
    directory = re.search(r"\bSPOOL_DIRECTORY=(\S+)", (BASE_DIR / "Dockerfile").read_text())
    [volume] = SERVICES["web"]["volumes"]

    assert directory
    assert directory[1].startswith(volume.partition(":")[2] + "/")
    assert "SPOOL_DIRECTORY" not in SERVICES["web"]["environment"]


DECIDED_BY_THE_FILE = {"ALIVE_FILE", "DATABASE_URL", "REDIS_URL", "WATCHCLOCK_HOST", "WATCHCLOCK_PORT"}
OURS = [name for name, service in SERVICES.items() if service.get("image") == "watchclock"]


def arriving(service: dict[str, Any], dotenv: dict[str, str]) -> dict[str, str]:
    """What a container's environment comes to, as the compose specification says: env_file, then environment."""
    variables = dict(dotenv) if ".env" in service.get("env_file", []) else {}
    for name, value in service.get("environment", {}).items():
        variables[name] = re.sub(
            r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda use: dotenv.get(use[1]) or use[2] or "", str(value)
        )
    return variables


@pytest.mark.parametrize("service", OURS)
def test_every_documented_setting_arrives_in_every_service(service):
    reference = (BASE_DIR / "docs" / "reference" / "settings.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", reference, re.MULTILINE)) - DECIDED_BY_THE_FILE
    dotenv = {name: f"the value of {name}" for name in documented}

    assert len(documented) > 40
    arrived = arriving(SERVICES[service], dotenv)
    assert {name: arrived.get(name) for name in documented} == dotenv


def test_the_port_of_the_host_is_not_the_port_in_the_container():
    environment = arriving(SERVICES["web"], {"WATCHCLOCK_PORT": "9000", "WATCHCLOCK_HOST": "127.0.0.1"})

    assert (environment["WATCHCLOCK_HOST"], environment["WATCHCLOCK_PORT"]) == ("0.0.0.0", "8000")  # noqa: S104
    assert SERVICES["web"]["ports"] == ["127.0.0.1:${WATCHCLOCK_PORT:-8000}:8000"]


def test_only_the_web_is_published_and_only_on_this_host():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published.keys() == {"web"}
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


@pytest.mark.parametrize("name", ["worker", "delivery", "beat"])
@pytest.mark.parametrize(("age_seconds", "is_well"), [(0, True), (50, True), (70, False), (None, False)])
def test_a_worker_or_beat_is_well_while_it_touches_its_file(tmp_path, name, age_seconds, is_well):
    file = tmp_path / "alive"
    if age_seconds is not None:
        file.touch()
        os.utime(file, (file.stat().st_mtime - age_seconds,) * 2)
    kind, command = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"

    checked = command.replace(SERVICES[name]["environment"]["ALIVE_FILE"], str(file))
    outcome = subprocess.run(["sh", "-c", checked], check=False, capture_output=True)

    assert (outcome.returncode == 0) is is_well


def queues_of(service):
    command = SERVICES[service]["command"]
    return set(command[command.index("--queues") + 1].split(","))


def test_every_queue_is_read_and_delivery_by_a_worker_of_its_own():
    from project.celery import app as celery_app

    assert queues_of("delivery") == {"delivery"}
    assert queues_of("worker") | {"delivery"} == {queue.name for queue in celery_app.conf.task_queues}
    assert "delivery" not in queues_of("worker")


def test_the_image_runs_as_an_ordinary_user_without_development_tools():
    dockerfile = (BASE_DIR / "Dockerfile").read_text()

    assert re.search(r"^USER watchclock$", dockerfile, re.MULTILINE)
    assert "--frozen --no-default-groups" in dockerfile
