"""Every text of a page can be translated, and every translation is there."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils import translation

from dashboard import moments, sentences, windows
from dashboard.pages.monitor import views as monitor_page
from incidents import history
from tests.dashboard.pages.conftest import environment as environment
from tests.dashboard.pages.conftest import incident as incident
from tests.dashboard.pages.conftest import monitor as monitor
from tests.dashboard.pages.test_every_address import ADDRESSES
from tests.dashboard.pages.test_every_address import answer as answer
from tests.dashboard.translations.catalogs import LANGUAGES, compiled, path_of, read, wanted


def texts_of(catalog):
    return {(message.context, message.id) for message in catalog if message.id}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_nothing_else_is_there(language):
    """If this fails: `make translations`, and translate what is new."""
    catalog = read(language)
    assert texts_of(catalog) == texts_of(wanted())
    strings = {message.id: message.string for message in catalog if message.id}
    assert [id_ for id_, text in strings.items() if not (all(text) if isinstance(text, tuple) else text)] == []
    assert [message.id for message in catalog if message.fuzzy] == []
    assert list(catalog.check()) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_django_reads_is_what_people_wrote(language):
    assert path_of(language, "mo").read_bytes() == compiled(read(language))


# --- the pages in a language in which every text has brackets

ATTRIBUTES = ("title", "aria-label", "placeholder", "alt")
NOT_TEXT = {"script", "style", "code", "pre", "kbd", "textarea"}
VOID = {"input", "br", "hr", "img", "meta", "link", "wbr", "source", "col", "area", "base", "embed", "track"}
WORD = re.compile(r"[A-Za-z]{2,}")
NAMES = {"Watchclock", "production", "UTC", "GMT", "ms", "min", "user", "admin", "job", "Project"}
NAMES |= {"pid", "wget", "cron", "systemd", "PowerShell", "Kubernetes", "CronJob", "Uptime", "Kuma", "push"}
NAMES |= {"English", "Deutsch", "Python", "Node", "js", "sentry", "sdk"}
"""Names of things and units, which are the same in every language, and names that the factories give."""


class Texts(HTMLParser):
    """Collects what a reader sees of a page, and what a screen reader reads out; not what has a language of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if self._hidden or tag in NOT_TEXT or (tag != "html" and "lang" in values):
            if tag not in VOID:
                self._hidden.append(tag)
            return
        wanted = ATTRIBUTES + (("value",) if values.get("type") == "submit" else ())
        self.texts += [values[name] or "" for name in wanted if name in values]

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag not in VOID:
            self._hidden.pop()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


def bare(html: str) -> Iterator[str]:
    """Yield the texts of a page that stand outside all brackets and have words of their own."""
    parser = Texts()
    parser.feed(html)
    for text in parser.texts:
        while (inner := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)) != text:
            text = inner
        words = [word for word in WORD.findall(re.sub(r"\S+/\S*|\S*[@=]\S*|\w+-\d+", " ", text)) if word not in NAMES]
        if words:
            yield " ".join(text.split())


@pytest.fixture
def in_brackets(monkeypatch):
    """Every text that can be translated has brackets around it."""
    texts: Any = vars(translation)["_trans"]
    monkeypatch.setattr(texts, "gettext", lambda text: f"⟦{text}⟧" if text else "")
    monkeypatch.setattr(texts, "pgettext", lambda _context, text: f"⟦{text}⟧")
    monkeypatch.setattr(texts, "ngettext", lambda one, many, n: f"⟦{one if n == 1 else many}⟧")
    monkeypatch.setattr(texts, "npgettext", lambda _context, one, many, n: f"⟦{one if n == 1 else many}⟧")
    # What has translations of its own (incidents.notifications.words, humanize, cron-descriptor).
    for module, name in (
        (moments, "duration"),
        (sentences, "reason"),
        (history, "why"),
        (monitor_page, "describe"),
        (windows, "describe"),
    ):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, original=original, **named: f"⟦{original(*args, **named)}⟧")


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name, row in ADDRESSES.items() if not row.posts and not row.is_public])
@pytest.mark.usefixtures("in_brackets")
def test_every_text_of_a_page_can_be_translated(name, admin_client, answer):
    response = answer(admin_client, name)
    if not response["Content-Type"].startswith("text/html"):
        pytest.skip("it is no page")
    assert list(bare(response.content.decode())) == []


def test_words_outside_the_brackets_are_found():
    html = '<p title="Hover">⟦In ⟦5⟧⟧ bare <code>code</code> <time lang="en">5 ago</time></p><br><p>⟦x⟧ 7 ms</p>'
    assert list(bare(html)) == ["Hover", "bare"]
