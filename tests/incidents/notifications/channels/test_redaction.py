import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.channels.redaction import redact

URL = "https://hooks.slack.com/services/T024BE91L/B024BE91L/abcdefghijklmnop?sig=Qr%2BStUvWx"
KEY = "a+key/with=signs"


@pytest.mark.parametrize(
    "text",
    [
        URL,
        "/services/T024BE91L/B024BE91L/abcdefghijklmnop",
        "https:\\/\\/hooks.slack.com\\/services\\/T024BE91L\\/B024BE91L\\/abcdefghijklmnop?sig=Qr%2BStUvWx",
        "token abcdefghijklmnop is unknown",
        "sig=Qr%2BStUvWx",
        "sig: Qr+StUvWx",
        quote(URL, safe=""),
        base64.b64encode(URL.encode()).decode(),
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
    ],
)
def test_a_secret_is_found_however_it_is_written(text):
    found = redact(text, [URL, KEY])
    assert "***" in found
    for part in ("abcdefghijklmnop", "Qr%2BStUvWx", "Qr+StUvWx", "with", base64.b64encode(URL.encode()).decode()):
        assert part not in found


@given(st.text(), st.text(min_size=1), st.text())
def test_no_secret_stays(before, secret, after):
    pieces = redact(before + secret + after, [secret]).split("***")
    assert [piece for piece in pieces if secret in piece] == []


def test_what_is_not_secret_stays():
    text = "400 invalid_blocks at v2 of the API"
    assert redact(text, [URL, KEY, ""]) == text
    assert redact(text, []) == text
