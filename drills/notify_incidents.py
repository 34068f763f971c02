"""Incidents of a drill of delivery: monitors, channels and routes, and a thread in which jobs fail and recover."""

import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from django.db import DatabaseError, InterfaceError, connection

from drills.delivery.changes import Change, apply_change, finish_ticks
from drills.delivery.rows import SECRETS
from drills.notify_receivers import Receivers
from incidents.models import Channel, Route
from incidents.models.channels import EMAIL
from incidents.secrets import seal
from lib.wallclock import utcnow
from monitors.changes import attach_config_snapshots
from monitors.dependency_models import Dependency
from monitors.models import Environment, Monitor, MonitorEnvironment, Project

URLS = {"webhook": "hook", "pagerduty": "v2/enqueue", "opsgenie": "v2/alerts", "slack": "services", "discord": "api"}
MANY_MAX = 20
"""So many jobs fail by one tick at most: some are told together."""


@dataclass(frozen=True)
class Group:
    """Jobs with a tag, and the recipients that a route for the tag names.

    `has_upstream`: all others depend on the first one, and their failures are held behind its.
    """

    tag: str
    jobs: tuple[int, ...]
    recipients: tuple[str, ...]
    has_upstream: bool = False

    def upstreams(self) -> dict[int, int]:
        """Return on which job each one depends."""
        first, *others = self.jobs
        return dict.fromkeys(others, first) if self.has_upstream else {}


def recipient(number: int) -> str:
    """Return how messages name the channel with this number: its guid."""
    return str(uuid.UUID(int=number))


def make_channels(receivers: Receivers, kinds: Sequence[str]) -> None:
    """Make a channel of each kind, numbered from 1. Mail goes to an address of its own."""
    now = utcnow()
    for number, kind in enumerate(kinds, 1):
        guid = uuid.UUID(int=number)
        url = f"http://127.0.0.1:{receivers.http_port}/{guid}/{URLS.get(kind, '')}"
        secrets = {name: url if name == "url" else text for name, text in SECRETS.get(kind, {}).items()}
        values = {"to": f"people-{number}@drill.test"} if kind == EMAIL else {}
        if kind in ("pagerduty", "opsgenie"):
            values = {"url": url}
        Channel.objects.create(
            guid=guid,
            project_id=1,
            kind=kind,
            name=f"{kind} {number}",
            values=values,
            sealed=seal(secrets, guid=guid) if secrets else "",
            created_at=now,
            changed_at=now,
        )


def make_jobs(groups: Sequence[Group]) -> None:
    """Make the monitors of all groups, with an environment each, and a route for each group."""
    now = utcnow()
    project = Project.objects.create(id=1, name="Drill", slug="drill", created_at=now)
    Environment.objects.create(id=1, project=project, name="production")
    monitors = [
        Monitor(
            id=job,
            project=project,
            slug=f"job-{job}",
            name=f"Job {job}",
            schedule_type="crontab",
            crontab="0 0 1 1 *",
            timezone="UTC",
            tags=[group.tag],
            created_at=now,
        )
        for group in groups
        for job in group.jobs
    ]
    attach_config_snapshots(monitors)
    Monitor.objects.bulk_create(monitors)
    MonitorEnvironment.objects.bulk_create(
        MonitorEnvironment(id=one.id, monitor=one, environment_id=1, status="ok", shard=0, created_at=now)
        for one in monitors
    )


def make_dependencies(groups: Sequence[Group]) -> None:
    """Let jobs depend on the first of their group, in some groups."""
    now = utcnow()
    Dependency.objects.bulk_create(
        Dependency(downstream_id=job, upstream_id=upstream, created_at=now)
        for group in groups
        for job, upstream in group.upstreams().items()
    )


def make_routes(groups: Sequence[Group]) -> None:
    """Make a route for each group."""
    channels = {str(channel.guid): channel for channel in Channel.objects.all()}
    for position, group in enumerate(groups):
        route = Route.objects.create(
            project_id=1,
            name=group.tag,
            position=position,
            matchers=[{"attribute": "tag", "operator": "is", "values": [group.tag]}],
            changed_at=utcnow(),
        )
        route.channels.set([channels[name] for name in group.recipients])


@dataclass
class Jobs:
    """Jobs that fail and recover, until each has done so once. `done_at`: by job and state, the commit (monotonic)."""

    random: random.Random
    done_at: dict[tuple[int, str], float] = field(default_factory=dict)
    is_over: threading.Event = field(default_factory=threading.Event)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def figures(self) -> str:
        """Say how far it is."""
        return f"{len(self.done_at)} changes"

    def go_through(
        self,
        jobs: Sequence[int],
        seconds: float,
        *,
        by_ticks: float = 0.5,
        lasts: Sequence[float] = (0, 0.05, 0.3, 1, 20),
        upstreams: Sequence[int] = (),
    ) -> None:
        """Let all jobs fail and recover within so many seconds; about this share of groups is found by a tick.

        An incident lasts for one of these numbers of seconds. Those of `upstreams` are among the first, and last for
        nearly half of the time.
        """
        plan: list[tuple[float, Change]] = []
        for job in upstreams:
            begin = self.random.uniform(0, seconds * 0.1)
            plan.append((begin, Change((job,), fails=True, kind="error")))
            plan.append((begin + seconds * 0.4, Change((job,), fails=False, kind="ok")))
        left = [job for job in jobs if job not in upstreams]
        self.random.shuffle(left)
        while left:
            is_tick = self.random.random() < by_ticks
            many = self.random.randint(1, MANY_MAX) if is_tick else 1
            own, left = tuple(sorted(left[:many])), left[many:]
            begin = self.random.uniform(0, seconds * 0.8)
            plan.append((begin, Change(own, fails=True, kind="missed" if is_tick else "error")))
            ends = {job: begin + self.random.choice(lasts) for job in own}
            plan += [(end, Change((job,), fails=False, kind="ok")) for job, end in ends.items()]
        started = time.monotonic()
        # The sort is stable: of what happens in the same moment, the failures come first.
        for at, change in sorted(plan, key=lambda one: one[0]):
            if self.is_over.wait(max(0.0, started + at - time.monotonic())):
                return
            self._do(change)

    def _do(self, change: Change) -> None:
        """Do it as ingest and the clock do: until it is committed. A commit whose answer was lost is not repeated."""
        bits = self.random.getrandbits(64)
        while not self.is_over.is_set():
            guids = count(1)
            try:
                if not self._is_done(change):
                    apply_change(
                        change,
                        checkin=next(self._numbers) * 1_000,
                        guid=lambda: uuid.UUID(int=bits << 40 | next(guids)),  # noqa: B023 - used in this call
                        now=utcnow(),
                    )
                at = time.monotonic()
                if change.kind == "missed":
                    finish_ticks(now=utcnow())
            except (DatabaseError, InterfaceError):
                connection.close()
                time.sleep(0.1)
                continue
            self.done_at |= {(job, "open" if change.fails else "resolved"): at for job in change.jobs}
            return

    def _is_done(self, change: Change) -> bool:
        status = "error" if change.fails else "ok"
        rows = MonitorEnvironment.objects.filter(id__any_of=list(change.jobs))
        return {row.status for row in rows.only("status")} == {status}

    def latencies(self, receivers: Receivers, jobs: Sequence[int], name: str) -> list[float]:
        """Return the seconds from the commit of each change to its arrival at a signed webhook."""
        states = [(job, state) for job in jobs for state in ("open", "resolved")]
        return [
            receivers.heard[name, f"job-{job}", state] - self.done_at[job, state]
            for job, state in states
            if (name, f"job-{job}", state) in receivers.heard and (job, state) in self.done_at
        ]
