"""Reading the admin as a person does: log in, look at a page, follow a link by its words."""

import http.cookiejar
import urllib.parse
import urllib.request
from dataclasses import dataclass
from html.parser import HTMLParser

from tests.waiting import PATIENCE_SECONDS

REQUEST_SECONDS_MAX = 60


@dataclass(frozen=True)
class Page:
    """A page as it reads: its text with single blanks, and its links as (words, address) in order."""

    url: str
    text: str
    links: tuple[tuple[str, str], ...]

    def address_of(self, words: str, *, under: str) -> str:
        """The address of the first link with these words whose path starts with `under`."""
        found = [url for text, url in self.links if text == words and urllib.parse.urlsplit(url).path.startswith(under)]
        assert found, f"no link {words!r} to {under} on {self.url}, which says: {self.text}"
        return found[0]


class AdminReader:
    """A session in the admin."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def log_in(self, user: str, password: str) -> Page:
        """Log in through the form, as Django wants it: with its token and from its own page."""
        url = urllib.parse.urljoin(self.admin_url, "/login/?next=/admin/")
        self.get(url)
        token = next(cookie.value for cookie in self.cookies if cookie.name == "csrftoken")
        form = {"login": user, "password": password, "next": "/admin/", "csrfmiddlewaretoken": token or ""}
        request = urllib.request.Request(url, data=urllib.parse.urlencode(form).encode(), headers={"Referer": url})
        page = self._open(request)
        assert "/login/" not in page.url, f"the login was refused: {page.text}"
        return page

    def get(self, address: str) -> Page:
        """Open a page by its full address, its path, or its path below the admin."""
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.admin_url, address)))

    def follow(self, page: Page, words: str, *, under: str) -> Page:
        """Open what a link leads to."""
        return self.get(urllib.parse.urljoin(page.url, page.address_of(words, under=under)))

    def _open(self, request: urllib.request.Request) -> Page:
        with self.opener.open(request, timeout=PATIENCE_SECONDS) as response:
            reader = _Reader()
            reader.feed(response.read().decode())
            return Page(response.url, " ".join(" ".join(reader.words).split()), tuple(reader.links))


class _Reader(HTMLParser):
    """Collects what a page says: no scripts, no styles."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[tuple[str, str]] = []
        self._unread = 0
        self._link: tuple[str, int] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._unread += 1
        if tag == "a":
            self._link = (dict(attrs).get("href") or "", len(self.words))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._unread -= 1
        if tag == "a" and self._link is not None:
            address, start = self._link
            self.links.append((" ".join(" ".join(self.words[start:]).split()), address))
            self._link = None

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.words.append(data)
