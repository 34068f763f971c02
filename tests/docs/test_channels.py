"""Each channel has a page with its settings, and the snippets that check a signature do."""

import json
import re
import shutil
import subprocess

import pytest

from incidents.models.channels import EMAIL
from incidents.notifications.channels import SENDERS, apprise, webhook
from incidents.notifications.configuring import fields_of
from incidents.notifications.rates import RATES
from tests.docs.pages import DOCS, section, tables, text
from tests.incidents.notifications.channels.test_webhook import GUID, K0, K1, OPENED, VECTORS

KINDS = [EMAIL, *SENDERS]
PAGES = DOCS / "how-to" / "channels"
WEBHOOK = text(PAGES / "webhook.md")
AT = 1784900000


def page(kind):
    return PAGES / f"{kind.replace('_', '-')}.md"


def test_the_page_of_delivery_has_the_rates_of_the_services():
    [table] = tables(section(DOCS / "explanation" / "delivery.md", "## How many a service accepts"))
    wanted = [[f"`{kind}`", f"{rate.burst}", f"{rate.every.total_seconds():g} s"] for kind, rate in RATES.items()]
    assert [list(row) for row in table] == wanted


def test_there_is_a_page_for_each_channel_and_no_other():
    assert set(PAGES.iterdir()) == {page(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_the_settings_as_the_channel_has_them(kind):
    [table] = tables(section(page(kind), "## Settings"))
    wanted = [
        [
            f"`{field.name}`",
            field.label,
            ("required" if field.is_required else "optional") + (", secret" if field.is_secret else ""),
            field.help + (f" Default: {field.default}." if field.default else ""),
        ]
        for field in fields_of(kind)
    ]
    assert [list(row) for row in table] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_what_to_create_what_comes_and_what_cannot_be(kind):
    headings = re.findall(r"^## (.*)$", text(page(kind)), re.MULTILINE)
    assert [one for one in headings if one in {"What to create", "Settings", "What comes", "What it cannot do"}] == [
        "What to create",
        "Settings",
        "What comes",
        "What it cannot do",
    ]


def test_the_page_of_apprise_lists_the_services_that_may_be_used():
    [listed] = re.findall(r"^```text\n(.*?)^```$", text(page("apprise")), re.MULTILINE | re.DOTALL)
    assert set(listed.split()) == apprise.SCHEMAS
    assert all(f"`{option}`" in text(page("apprise")) for option in apprise.REFUSED_OPTIONS)


# --- the snippets


def snippet(language, which=-1):
    return re.findall(rf"^```{language}\n(.*?)^```$", WEBHOOK, re.MULTILINE | re.DOTALL)[which]


def headers(signature):
    return {"webhook-id": GUID, "webhook-timestamp": str(AT), "webhook-signature": signature}


CASES = [
    (headers(f"v1,{VECTORS[0][4]}"), OPENED, AT + 60, True),
    (headers(f"v1,{VECTORS[1][4]} v1,{VECTORS[0][4]}"), OPENED, AT, True),
    (headers(f"v1,{VECTORS[1][4]}"), OPENED, AT, False),
    (headers(f"v2,{VECTORS[0][4]}"), OPENED, AT, False),
    (headers("v1"), OPENED, AT, False),
    (headers(f"v1,{VECTORS[0][4]}"), OPENED + " ", AT, False),
    (headers(f"v1,{VECTORS[0][4]}"), OPENED, AT + 301, False),
    (headers(f"v1,{VECTORS[0][4]}"), OPENED, AT - 301, False),
]


@pytest.mark.parametrize(("given", "body", "now", "expected"), CASES)
def test_the_snippet_in_python_tells_genuine_from_forged(given, body, now, expected):
    names: dict = {}
    exec(snippet("python"), names)  # noqa: S102 - it is our own
    assert names["is_genuine"](K1, given, body.encode(), now) is expected


def test_the_snippet_in_javascript_tells_genuine_from_forged():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    calls = [
        f"isGenuine({json.dumps(K1)}, {json.dumps(given)}, Buffer.from({json.dumps(body)}), {now})"
        for given, body, now, _ in CASES
    ]
    program = f"{snippet('js')}\nconsole.log(JSON.stringify([{', '.join(calls)}]))"
    found = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [expected for *_, expected in CASES]


@pytest.mark.parametrize(("id_", "timestamp", "body", "key", "expected"), VECTORS)
def test_the_snippet_for_a_shell_computes_the_signature(id_, timestamp, body, key, expected):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    found = subprocess.run(
        ["sh", "-c", snippet("sh"), "sh", id_, str(timestamp)],
        input=body.encode(),
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "secret": key},
        capture_output=True,
        check=True,
    )
    assert found.stdout.decode().strip() == expected


def test_the_snippet_that_makes_a_key_makes_a_good_one():
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = subprocess.run(["sh", "-c", snippet("sh", 0)], capture_output=True, text=True, check=True).stdout.strip()
    assert webhook.problems({"url": "https://receiver.example/", "secret": made}) == {}
    assert made not in {K0, K1}


def test_the_example_of_a_body_has_the_members_that_come():
    shown = json.loads(snippet("json"))
    assert list(shown) == ["type", "id", "timestamp", "data"]
    assert {"title", "reason", "incident", "monitor", "explanation", "log_tail"} == set(shown["data"])
