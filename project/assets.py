"""How the admin's pages and static files travel: under an address with a hash, and compressed."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware import gzip

TEXTS = ("text/", "application/json", "application/javascript", "image/svg+xml")


def fingerprint(*, packages: Iterable[str], directories: Iterable[Path]) -> str:
    """Return a hash of static files: of the versions of the packages that bring them, and of our own as they are."""
    digest = hashlib.blake2s(digest_size=6)
    for package in packages:
        digest.update(f"{package} {version(package)}\n".encode())
    for directory in directories:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(directory)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class GZipMiddleware(gzip.GZipMiddleware):
    """Django's, for whole texts only: fonts are compressed, and a part of a file (206) or a 304 has to stay as it is.

    A page with a secret and with a text that an attacker chooses would give the secret away by its compressed length
    (BREACH). Django adds up to 100 random bytes, masks its CSRF token anew on each page, and its session cookie does
    not come with requests that other sites make (SameSite=Lax).
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Compress the answer if it is a whole text, and the browser takes gzip."""
        is_whole = response.status_code == 200 and request.method != "HEAD"
        if is_whole and response.get("Content-Type", "").startswith(TEXTS):
            return super().process_response(request, response)
        return response
