"""The jobs of a small shop (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its schedule, how long it takes (seconds), and what goes wrong.

    `troubles` maps how long ago, in hours, something began to how long it lasted, in hours, and what it was: "missed",
    "error", "timeout" or "slow". What began and lasts beyond now goes on.
    """

    slug: str
    name: str
    schedule: str
    seconds: float
    timezone: str = "UTC"
    margin: int = 5
    runtime: int = 30
    threshold: int = 1
    environment: str = "production"
    tags: tuple[str, ...] = ()
    owner: str = ""
    severity: str = "error"
    troubles: Mapping[float, tuple[float, str]] = field(default_factory=lambda: MappingProxyType({}))
    log: str = ""

    def trouble_at(self, slot: datetime, now: datetime) -> str:
        """Return what goes wrong with the run of a slot; "" if nothing does."""
        for hours_ago, (hours, what) in self.troubles.items():
            begin = now - timedelta(hours=hours_ago)
            if begin <= slot < begin + timedelta(hours=hours):
                return what
        return ""


JOBS = (
    Job(
        "nightly-backup",
        "Nightly backup",
        "30 2 * * *",
        540,
        timezone="Europe/Berlin",
        margin=10,
        tags=("database", "backup"),
        owner="team:platform",
        severity="critical",
        troubles=MappingProxyType({34: (80, "error"), 220: (20, "missed")}),
        log="pg_dump: dumping table orders\ntar: write error: No space left on device\n",
    ),
    Job(
        "send-invoices",
        "Send invoices",
        "0 6 * * 1-5",
        95,
        timezone="Europe/Berlin",
        tags=("billing",),
        owner="user:ada",
    ),
    Job(
        "import-feed",
        "Import product feed",
        "*/15 * * * *",
        22,
        margin=2,
        threshold=3,
        tags=("catalog",),
        owner="team:catalog",
        troubles=MappingProxyType({61: (2.2, "missed"), 4.2: (0.9, "error")}),
        log="GET https://feed.example/products.xml\nHTTP 503 Service Unavailable\ngiving up after 3 tries\n",
    ),
    Job("sync-crm", "Sync customers to CRM", "5,35 * * * *", 48, tags=("crm",), owner="team:sales"),
    Job(
        "search-index",
        "Rebuild search index",
        "10 */3 * * *",
        420,
        tags=("catalog", "search"),
        owner="team:catalog",
        runtime=20,
        troubles=MappingProxyType({100: (5, "timeout"), 7: (30, "slow")}),
    ),
    Job("session-cleanup", "Clean up sessions", "0 * * * *", 6, severity="info", tags=("database",)),
    Job("vacuum", "Vacuum big tables", "15 4 * * *", 310, tags=("database",), owner="team:platform"),
    Job(
        "report-daily",
        "Daily sales report",
        "0 7 * * *",
        130,
        timezone="America/New_York",
        tags=("reports",),
        troubles=MappingProxyType({150: (24, "error")}),
        log="Traceback (most recent call last):\n  File \"report.py\", line 41, in main\nKeyError: 'currency'\n",
    ),
    Job("certificates", "Renew certificates", "20 */12 * * *", 12, tags=("platform",), severity="critical"),
    Job("newsletter", "Newsletter", "0 9 * * 2", 700, timezone="Europe/Berlin", runtime=45, tags=("marketing",)),
    Job("stock-levels", "Check stock levels", "*/30 * * * *", 9, tags=("catalog",), severity="warning"),
    Job(
        "queue-drain",
        "Drain dead letters",
        "45 * * * *",
        15,
        environment="staging",
        severity="info",
        troubles=MappingProxyType({20: (40, "missed")}),
    ),
)
