"""The slug that identifies a monitor, derived from the name that a client sends (pure)."""

import hashlib
import re
import unicodedata

__all__ = ["SLUG_CHARACTERS_MAX", "cut_slug", "slugify"]

SLUG_CHARACTERS_MAX = 50
_KEPT = 41
_SLUG = re.compile(r"[a-z0-9](?:(?:[a-z0-9_]|-(?!-)){0,48}[a-z0-9])?")


def slugify(text: str) -> str:
    """Return the slug of a raw monitor name, at most 50 characters of `a-z 0-9 - _`; "" if nothing remains.

    Accents are removed, blanks and dashes become one dash, all other characters are dropped:
    `some/slug@with-weird|stuff` is `someslugwith-weirdstuff`. A longer slug is cut to 41 characters, followed by a dash
    and 8 hexadecimal digits of the raw name's SHA-256, so that long names differ (D27). Every monitor is identified by
    this rule, so it can never change. Packages such as python-slugify put a dash for a dropped character, so the rule
    is written here.
    """
    if _SLUG.fullmatch(text):  # most names are slugs already
        return text
    slug = _letters(text)
    if len(slug) <= SLUG_CHARACTERS_MAX:
        return slug
    digits = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{slug[:_KEPT].rstrip('-')}-{digits}"


def cut_slug(text: str) -> str | None:
    """Return the former slug of a name of more than 50 characters, without digits; None for a shorter name."""
    slug = _letters(text) if len(text) > SLUG_CHARACTERS_MAX else ""
    return slug[:SLUG_CHARACTERS_MAX].strip("-") if len(slug) > SLUG_CHARACTERS_MAX else None


def _letters(text: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    kept = re.sub(r"[^a-z0-9_\s-]", "", ascii_text)
    return re.sub(r"[-\s]+", "-", kept).strip("-_")
