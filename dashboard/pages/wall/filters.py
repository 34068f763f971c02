"""What the wall shows: the filters in its address (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from dashboard.pages.wall.ranges import DEFAULT, RANGES, Range

STATES = ("failing", "late", "running", "ok", "waiting", "disabled", "muted")
GROUPS = ("", "project", "environment")
TEXT_MAX = 100
NARROW_COOKIE = "watchclock_narrow"
"""By which a browser says that its screen is narrow (`pages.js`)."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters. An empty text filters nothing. `is_narrow`: it is shown on a narrow screen."""

    search: str = ""
    project: str = ""
    environment: str = ""
    tag: str = ""
    owner: str = ""
    state: str = ""
    is_mine: bool = False
    group: str = ""
    range_name: str = DEFAULT
    is_narrow: bool = False

    @property
    def range(self) -> Range:
        """How far back the strips go, in which cells."""
        found = RANGES[self.range_name]
        return found.narrow() if self.is_narrow else found

    def query(self, **others: object) -> str:
        """Return the query of an address with these filters, and others besides."""
        return urlencode({name: value for name, value in (*self._named(), *others.items()) if value not in ("", None)})

    def _named(self) -> tuple[tuple[str, str], ...]:
        return (
            ("q", self.search),
            ("project", self.project),
            ("env", self.environment),
            ("tag", self.tag),
            ("owner", self.owner),
            ("state", self.state),
            ("mine", "1" if self.is_mine else ""),
            ("group", self.group),
            ("range", "" if self.range_name == DEFAULT else self.range_name),
        )


def read_filters(query: Mapping[str, str], cookies: Mapping[str, str] | None = None) -> Filters:
    """Read the filters of an address, and how wide the screen is from cookies. What there is not filters nothing."""

    def text(name: str) -> str:
        return query.get(name, "").replace("\x00", "").strip()[:TEXT_MAX]

    def one_of(name: str, allowed: object, default: str = "") -> str:
        value = text(name)
        return value if value in allowed else default  # type: ignore[operator]  # a container of texts

    return Filters(
        search=text("q"),
        project=text("project"),
        environment=text("env"),
        tag=text("tag"),
        owner=text("owner"),
        state=one_of("state", STATES),
        is_mine=bool(text("mine")),
        group=one_of("group", GROUPS),
        range_name=one_of("range", RANGES, DEFAULT),
        is_narrow=bool(cookies and cookies.get(NARROW_COOKIE)),
    )
