"""The lines of the documentation that people paste into their jobs: each address is one that the server understands."""

import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from checkins.protocols.request import IngestRequest, Limits, Sender
from checkins.protocols.routes import find_route
from monitors.snippets import Address, client_lines, ping_lines
from tests.checkins.ingest.web import IngestClient
from tests.docs.pages import CODE, DOCS, blocks, code, name, section, tables, text
from tests.factories import NOW, IngestKeyFactory, MonitorFactory

KEY = "0123456789abcdef0123456789abcdef"
GUID = uuid.UUID("5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a")
EXAMPLE = Address(
    base_url="https://watchclock.example.com",
    project_id=1,
    slug="nightly-backup",
    guid=GUID,
    public_key=KEY,
    crontab="30 2 * * *",
    timezone="Europe/Vienna",
)
FILLED_IN = {
    "<key>": KEY,
    "<uuid>": str(GUID),
    "<project id>": "1",
    "<slug>": "nightly-backup",
    "<monitor key>": "nightly-backup",
    "{self.api_key}": KEY,
    "{self.key}": "nightly-backup",
}
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
CLIENTS = [page for page in HOW_TO if page.stem.startswith(("instrument-", "move-from-"))]
REFERENCE = DOCS / "reference" / "ingest.md"


def filled_in(words: str) -> str:
    """The text as it is after somebody has put their own in the place of `<key>` and the like."""
    for placeholder, value in FILLED_IN.items():
        words = words.replace(placeholder, value)
    return words


def addresses(page: Path) -> list[str]:
    """What the page shows of our addresses."""
    return re.findall(r"https://(?:\w+@)?watchclock\.example\.com[^\s\"'`,]*", filled_in(text(page)))


def speaker_at(url: str) -> Sender:
    """Who a request to this address says it is, as the server reads it."""
    parts = urlsplit(url)
    found = find_route(parts.path)
    assert found is not None, url
    request = IngestRequest(
        method="GET", path=parts.path, query=parts.query, headers={}, body=b"", body_bytes=0, received_at=NOW
    )
    protocol, groups = found
    return protocol.identify(request, groups, Limits())


# --- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*CLIENTS, REFERENCE], ids=name)
def test_every_address_that_is_shown_is_understood(page):
    dsn = {line.title: line.text for line in client_lines(EXAMPLE)}["Sentry DSN"]
    endpoints = {"https://watchclock.example.com", "https://watchclock.example.com/ping"}  # what clients add paths to
    by_key = (Sender(public_key=KEY), Sender(project_id=1, public_key=KEY))

    for url in addresses(page):
        if "@" in url:
            assert url == dsn
        elif url not in endpoints:
            sender = speaker_at(url.partition("$")[0].removesuffix("/"))
            assert sender in (Sender(monitor_guid=GUID), *by_key), url


def test_the_words_that_borgmatic_puts_behind_its_addresses_lead_to_the_same_place():
    hooks: dict[str, dict[str, str]] = {}
    for page, configuration in blocks("yaml"):
        if page.stem == "instrument-borgmatic":
            hooks |= yaml.safe_load(filled_in(configuration))

    assert hooks.keys() == {"healthchecks", "sentry", "cronitor", "uptime_kuma"}
    for word in ("start", "fail", "log"):
        assert speaker_at(f"{hooks['healthchecks']['ping_url']}/{word}") == Sender(public_key=KEY)
    for word in ("run", "complete", "fail"):
        assert speaker_at(f"{hooks['cronitor']['ping_url']}/{word}") == Sender(public_key=KEY)
    assert speaker_at(f"{hooks['uptime_kuma']['push_url']}?status=up&msg=finish") == Sender(monitor_guid=GUID)


def test_there_are_addresses_on_every_page_that_is_about_a_client():
    without = {page.stem for page in CLIENTS if not addresses(page)}

    assert len(CLIENTS) >= 12
    assert without == {"instrument-django"}  # its DSN comes from the environment


# --- Lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("instrument-cron", "curl: beginning, end and exit status"),
        ("instrument-cron", "cron"),
        ("instrument-cron", "curl: the job is done"),
        ("instrument-cron", "wget"),
        ("instrument-cron", "curl: with what the job prints"),
        ("instrument-systemd", "systemd"),
        ("instrument-kubernetes", "Kubernetes CronJob"),
        ("move-from-uptime-kuma", "Uptime Kuma push"),
    ],
)
def test_the_lines_are_those_that_the_admin_shows(page, title):
    [line] = [line.text for line in (*ping_lines(EXAMPLE), *client_lines(EXAMPLE)) if line.title == title]

    assert line in text(DOCS / "how-to" / f"{page}.md")


@pytest.mark.parametrize(("page", "script"), blocks("sh"), ids=lambda value: getattr(value, "stem", "block"))
def test_shell_examples_are_read_by_a_shell(page, script):
    read = subprocess.run(["sh", "-n"], input=script.encode(), capture_output=True, check=False)

    assert read.returncode == 0, f"{name(page)}: {read.stderr.decode()}"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(("page", "script"), blocks("js"), ids=lambda value: getattr(value, "stem", "block"))
def test_javascript_examples_compile(page, script, tmp_path):
    example = tmp_path / ("example.mjs" if "\nexport " in script else "example.cjs")
    example.write_text(script)
    read = subprocess.run(["node", "--check", example], capture_output=True, check=False)

    assert read.returncode == 0, f"{name(page)}: {read.stderr.decode()}"


@pytest.mark.parametrize(("page", "manifest"), blocks("yaml"), ids=lambda value: getattr(value, "stem", "block"))
def test_yaml_examples_are_yaml(page, manifest):
    assert isinstance(yaml.safe_load(manifest), dict), name(page)


# --- The reference ----------------------------------------------------------------------------------------------------


def shown_refusals() -> list[tuple[str, int, str]]:
    [rows] = [found for found in tables(section(REFERENCE, "## Refusals")) if code(found[0][0]).startswith("POST /")]
    return [(row[0], int(code(row[1])), CODE.findall(row[2])[0]) for row in rows]


@pytest.fixture
def project(db):
    key = IngestKeyFactory(public_key=KEY, project__id=1)
    MonitorFactory(project=key.project, slug="nightly-backup", guid=GUID)
    return key.project


def ask(says: str) -> tuple[int, str]:
    """Make the request that the table describes: its first code, and what it says of key and body."""
    method, target = filled_in(code(says)).split(" ", 1)
    body = re.search(r"body `([^`]+)`", says)
    response = IngestClient().generic(
        method,
        target,
        body[1].encode() if body else b"",
        content_type="application/json",
        headers={"authorization": f"Bearer {KEY}"} if "with the key" in says else {},
    )
    return response.status_code, response.content.decode()


@pytest.mark.parametrize(("says", "status", "answer"), shown_refusals())
def test_a_refusal_is_answered_as_the_reference_shows(project, says, status, answer):
    assert ask(says) == (status, answer)


def test_enough_refusals_are_shown():
    assert {status for _, status, _ in shown_refusals()} == {400, 401, 403, 404, 405}
    assert len(shown_refusals()) >= 15


def test_the_body_of_a_rest_request_is_taken_without_a_problem_and_the_answer_looks_as_shown(project):
    shown_request, shown_answer = [body for page, body in blocks("json") if page == REFERENCE]
    headers = {"authorization": f"Bearer {KEY}"}

    def post(checkins: object) -> object:
        response = IngestClient().post("/api/v1/checkins", checkins, content_type="application/json", headers=headers)
        assert response.status_code == 202
        return json.loads(response.content)

    good = json.loads(shown_request)
    assert post(good) == {
        "accepted": 1,
        "refused": 0,
        "results": [{"index": 0, "accepted": True, "id": good["id"], "problems": []}],
    }
    assert post([good | {"duration": "soon"}, {"monitor": good["monitor"], "status": "done"}]) == json.loads(
        shown_answer
    )
