"""Pages and static files: short on the way, and asked for once."""

import gzip
from pathlib import Path

import allauth
import django
import django_htmx
import pytest
import unfold
from django.conf import settings
from django.contrib.staticfiles import finders
from django.templatetags.static import static

from project.assets import fingerprint

# The end of a response checks the connections that earlier tests of this process have left open.
pytestmark = pytest.mark.django_db
CSS, FONT = "unfold/css/styles.css", "unfold/fonts/inter/Inter-Regular.woff2"


@pytest.fixture(autouse=True)
def as_an_instance_does(settings):
    """All files are known from the start, unlike in other tests."""
    settings.WHITENOISE_AUTOREFRESH = False


def fetch(client, address, **headers):
    """The answer, and its body as it travels."""
    response = client.get(address, headers=headers)
    body = b"".join(response)
    response.close()
    return response, body


@pytest.fixture
def own(tmp_path):
    """A directory of static files with one script."""
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "a.js").write_text("1")
    return tmp_path


def test_the_same_files_have_the_same_hash(own):
    assert fingerprint(packages=["django"], directories=[own]) == fingerprint(packages=["django"], directories=[own])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda own: (own / "js" / "a.js").write_text("2"), id="content"),
        pytest.param(lambda own: (own / "js" / "a.js").rename(own / "js" / "b.js"), id="name"),
        pytest.param(lambda own: (own / "b.js").write_text(""), id="a new file"),
    ],
)
def test_a_change_of_a_file_changes_the_hash(own, change):
    before = fingerprint(packages=["django"], directories=[own])
    change(own)
    assert fingerprint(packages=["django"], directories=[own]) != before


def test_another_package_changes_the_hash(own):
    only_django = fingerprint(packages=["django"], directories=[own])
    assert fingerprint(packages=["django", "django-unfold"], directories=[own]) != only_django


def test_the_hash_covers_all_that_is_served():
    """A new app with static files has to be named in the settings, or browsers would keep its old ones."""
    packages = [Path(package.__path__[0]) for package in (django, unfold, django_htmx, allauth)]
    covered = [*packages, settings.BASE_DIR / "project" / "static", settings.BASE_DIR / "dashboard" / "static"]
    served = [Path(storage.path(name)) for finder in finders.get_finders() for name, storage in finder.list(None)]
    assert served
    assert [path for path in served if not any(path.is_relative_to(directory) for directory in covered)] == []


@pytest.mark.parametrize("name", [CSS, FONT, "favicon.svg"])
def test_a_browser_keeps_static_files(client, name):
    response, _ = fetch(client, static(name))
    assert response.status_code == 200
    assert "immutable" in response["Cache-Control"]
    assert int(response["Cache-Control"].split(",")[0].removeprefix("max-age=")) >= 365 * 86_400


def test_static_files_are_only_below_their_hash(client):
    assert client.get(f"/static/{CSS}").status_code == 404


def test_a_stylesheet_is_compressed(client):
    _, plain = fetch(client, static(CSS))
    response, body = fetch(client, static(CSS), accept_encoding="gzip")
    assert response["Content-Encoding"] == "gzip"
    assert response["Vary"] == "Accept-Encoding"
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain) / 5


def test_a_font_is_not_compressed_again(client):
    response, body = fetch(client, static(FONT), accept_encoding="gzip")
    assert "Content-Encoding" not in response
    assert len(body) == int(response["Content-Length"])


def test_a_part_of_a_file_is_sent_as_it_is(client):
    response, body = fetch(client, static(CSS), accept_encoding="gzip", range="bytes=0-99")
    assert response.status_code == 206
    assert "Content-Encoding" not in response
    assert len(body) == 100


def test_what_did_not_change_has_no_body(client):
    first, _ = fetch(client, static(CSS))
    response, body = fetch(client, static(CSS), accept_encoding="gzip", if_modified_since=first["Last-Modified"])
    assert response.status_code == 304
    assert body == b""


@pytest.mark.django_db
def test_a_page_is_compressed_with_a_length_that_varies(client):
    """By random bytes: equal pages of different lengths give away nothing of what they hold (BREACH)."""
    pages = [fetch(client, "/login/", accept_encoding="gzip") for _ in range(20)]
    assert {page["Content-Encoding"] for page, _ in pages} == {"gzip"}
    assert b"Watchclock" in gzip.decompress(pages[0][1])
    assert len({len(body) for _, body in pages}) > 1
