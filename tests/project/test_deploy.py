"""What deploy/ holds agrees with the compose file and with the pages."""

import re
import shlex

import pytest
import yaml

from project.local.children import BASE_DIR
from tests.docs.pages import DOCS, blocks, text

DEPLOY = BASE_DIR / "deploy"
PAGE = DOCS / "how-to" / "run-in-production.md"
SERVICES = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())["services"]


def command_of(unit):
    """The command of a unit without what only systemd needs: a path, a name for each worker of the host."""
    [line] = re.findall(r"^ExecStart=(.*)", (DEPLOY / f"watchclock-{unit}.service").read_text(), re.MULTILINE)
    program, *rest = shlex.split(re.sub(r" --hostname \S+", "", line))
    return [program.rpartition("/")[2], *rest]


@pytest.mark.parametrize("unit", ["worker", "delivery", "beat"])
def test_a_unit_runs_what_the_container_runs(unit):
    assert sorted(command_of(unit)) == sorted(SERVICES[unit]["command"])


def test_two_workers_of_a_host_have_names_of_their_own():
    units = [(DEPLOY / f"watchclock-{unit}.service").read_text() for unit in ("worker", "delivery")]
    assert [re.findall(r"--hostname (\S+)", unit) for unit in units] == [["worker@%%h"], ["delivery@%%h"]]


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.stem)
def test_every_unit_is_in_the_page_and_reads_the_same_settings(unit):
    assert f"deploy/{unit.name}" in text(PAGE)
    assert "EnvironmentFile=/etc/watchclock/environment\n" in unit.read_text()
    assert "User=watchclock\n" in unit.read_text()


def test_nginx_encodes_addresses_as_the_page_says():
    [script] = [body for page, body in blocks("js") if page == PAGE]
    assert (DEPLOY / "nginx" / "watchclock.js").read_text() == script


@pytest.mark.parametrize("proxy", ["nginx/watchclock.conf", "caddy/Caddyfile"])
def test_no_proxy_redirects_a_check_in(proxy):
    [pattern] = re.findall(r"(?:location ~|path_regexp) (\S+)", (DEPLOY / proxy).read_text())
    for path in ("/ping/x", "/p/k/m/run", "/api/1/envelope/", "/api/v1/checkins", "/below/1/envelope/"):
        assert re.search(pattern, path)
    for path in ("/", "/admin/", "/pingdom", "/profile", "/apis"):
        assert not re.search(pattern, path)
