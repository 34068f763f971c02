"""What the page of a monitor shows for programs, run as it stands against the real web."""

import shutil
import sys
import uuid

import pytest

from monitors.snippets import Address, client_lines, ping_lines
from tests.clients.web_server import run_client

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("clients")]


def snippet(server, slug, title):
    guid = uuid.UUID(server.ping_url(slug).rpartition("/")[2])
    address = Address(server.base_url, server.project_id, slug, guid, server.key, "0 3 * * *", "UTC")
    [text] = [line.text for line in (*ping_lines(address), *client_lines(address)) if line.title == title]
    return text


@pytest.mark.parametrize("title", ["Python", "Python (sentry-sdk)"])
@pytest.mark.parametrize(("job", "status"), [("pass", "ok"), ("1 / 0", "error")])
def test_python(server, title, job, status):
    slug = f"python-{status}-{len(title)}"
    text = f"def my_job():\n    {job}\n\n{snippet(server, slug, title)}\n"
    assert run_client(sys.executable, "-c", text).exit_status == (0 if status == "ok" else 1)
    assert server.run(slug)["status"] == status


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(("job", "status"), [("", "ok"), ('throw new Error("full")', "error")])
def test_node(server, job, status):
    text = f"async function myJob() {{ {job} }}\n{snippet(server, f'node-{status}', 'Node.js')}\n"
    assert run_client("node", "-e", text).exit_status == (0 if status == "ok" else 1)
    assert server.run(f"node-{status}")["status"] == status
