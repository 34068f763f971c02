"""The texts of pages and their translations: `make translations` brings the catalogs up to date with the code.

Babel reads the texts, since GNU gettext is not on every machine. Both files of a language are kept in the repository:
the one that people edit, and the one that Django reads, so that an installation compiles nothing.
"""

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[3]
LOCALE = ROOT / "dashboard" / "locale"
LANGUAGES = ("de",)
EPOCH = datetime(2026, 11, 30, tzinfo=UTC)
ROOMS = ("dashboard", "project", "health", "clocktasks", "checkins", "incidents", "accounts", "monitors", "audit")
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    "_": None,
    "Text": None,
    "plural": (1, 2),
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}


def path_of(language: str, suffix: str = "po") -> Path:
    """Return the file of a language that people edit, or that Django reads (`suffix`: po, mo)."""
    return LOCALE / language / "LC_MESSAGES" / f"django.{suffix}"


def wanted() -> Catalog:
    """Return all texts that the code and the templates mark, without translations."""
    found = _catalog(None)
    for path, source in _sources():
        for _line, message, _comments, context in extract("python", io.BytesIO(source.encode()), keywords=KEYWORDS):
            found.add(message, locations=[(path, 0)], context=context, flags=_flags(message))
    return found


def _catalog(language: str | None) -> Catalog:
    """Return an empty catalog. It has no date, which would change with each run."""
    return Catalog(
        locale=language,
        project="Watchclock",
        version="1",
        header_comment="# Texts of pages. `make translations` adds what is new; edit the translations by hand.",
        creation_date=EPOCH,
        revision_date=EPOCH,
        msgid_bugs_address="none",
        last_translator="Watchclock",
        language_team="Watchclock",
        fuzzy=False,
    )


def _sources() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.suffix == ".py" and "/migrations/" not in name:
                yield name, path.read_text()
            elif path.suffix in {".html", ".txt"} and "/templates/" in name:
                # In brackets, since what the templates leave has no indentation that Python would accept.
                yield name, f"(\n{templatize(path.read_text())}\n)"


def _flags(message: str | tuple[str, ...]) -> tuple[str, ...]:
    return ("python-format",) if "%(" in str(message) else ()


def read(language: str) -> Catalog:
    """Return the catalog of a language as people wrote it."""
    with path_of(language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    """Return a catalog as Django reads it."""
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def main() -> int:
    """Add new texts, drop those that are gone, and compile. Returns the number of texts without a translation."""
    texts, missing = wanted(), 0
    for language in LANGUAGES:
        path = path_of(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        catalog = read(language) if path.exists() else _catalog(language)
        catalog.update(texts, no_fuzzy_matching=True)
        catalog.obsolete.clear()
        with path.open("wb") as file:
            write_po(file, catalog, width=120, sort_by_file=True, ignore_obsolete=True, include_lineno=False)
        catalog = read(language)
        path_of(language, "mo").write_bytes(compiled(catalog))
        empty = [message.id for message in catalog if message.id and not _is_translated(message.string)]
        missing += len(empty)
        print(f"{path.relative_to(ROOT)}: {len(catalog)} texts, {len(empty)} without a translation")  # noqa: T201 - for the person at the terminal
    return missing


def _is_translated(text: str | tuple[str, ...] | list[str] | None) -> bool:
    return all(text) if isinstance(text, tuple | list) else bool(text)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
